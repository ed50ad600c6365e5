-- One row per experiment and unit on its assignment day: measures over the events at or after the assignment; appended in code.
with since as (
  select
    e.*,
    u.experiment as unit_experiment,
    u.version as unit_version,
    event_code() as event_code
  from units as u
  inner join events as e
    on u.unit_key = e.learner_key and u.assigned_date = e.event_date and u.assigned_at <= e.occurred_at
  where e.event_date >= $first_day and e.event_date < $end_day
)

select
  s.unit_experiment as experiment,
  s.unit_version as version,
  s.learner_key as unit_key,
  s.event_date
from since as s
group by s.unit_experiment, s.unit_version, s.learner_key, s.event_date
