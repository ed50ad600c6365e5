-- One row per learner and clock minute with more sound events than a person can make; copies of one event count once.
with sound as (
  select l.learner_key, l.event_date, l.event_id, date_trunc('minute', l.occurred_at) as minute_start
  from landed as l
  where
    l.reason is null
    and l.event_date >= $first_day
    and l.event_date < $end_day
    and date_diff('day', l.event_date, l.arrived_date) <= $lateness_days
    and contract_refusal() is null
    and not list_contains($excluded_roles, l.role)
    and not list_contains($excluded_learners, l.learner_id)
    and not coalesce(exclusion_by_agent(), false)
),

busy as (
  select learner_key, event_date
  from sound
  group by learner_key, event_date
  having count(*) > $events_per_minute
)

select s.learner_key, s.minute_start
from sound as s
inner join busy as b on s.learner_key = b.learner_key and s.event_date = b.event_date
group by s.learner_key, s.minute_start
having count(distinct s.event_id) > $events_per_minute
