-- One row per source, fate and reason of one day: how many landed rows did not become events.
select source, fate, reason, count(*) as row_count
from fates
where event_date = $day
group by source, fate, reason
order by source, fate, reason
