-- One row per experiment and unit on its assignment day: measures over the events at or after the assignment; appended in code.
select
  u.experiment,
  u.version,
  u.unit_key,
  e.event_date
from units as u
inner join events as e
  on u.unit_key = e.learner_key and u.assigned_date = e.event_date and e.occurred_at >= u.assigned_at
where e.event_date >= $first_day and e.event_date < $end_day
group by u.experiment, u.version, u.unit_key, e.event_date
