-- One row per learner and minute with more events than a person can make; copies of one event count once.
with busy as (
  select learner_key, event_date
  from landed
  where reason is null and learner_key is not null and event_date >= $first_day and event_date < $end_day
  group by learner_key, event_date
  having count(*) > $events_per_minute
)

select l.learner_key, date_trunc('minute', l.occurred_at) as minute_start
from landed as l
inner join busy as b on l.learner_key = b.learner_key and l.event_date = b.event_date
where l.reason is null
group by l.learner_key, date_trunc('minute', l.occurred_at)
having count(distinct l.event_id) > $events_per_minute
