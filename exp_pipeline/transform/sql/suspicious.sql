-- One row per event-id hash that stands on more than one landed row, one of them of the window: candidates for duplicates.
select hash(event_id) as event_hash
from landed
where reason is null and event_id is not null
group by hash(event_id)
having count(*) > 1 and count(case when event_date >= $first_day and event_date < $end_day then 1 end) > 0
