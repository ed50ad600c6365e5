-- One row per experiment and unit on its assignment day: session measures over sessions with an event at or after it.
select
  u.experiment,
  u.version,
  u.unit_key,
  s.event_date
from units as u
inner join sessions as s
  on u.unit_key = s.learner_key and u.assigned_date = s.event_date and u.assigned_at <= s.ended_at
where s.event_date >= $first_day and s.event_date < $end_day
group by u.experiment, u.version, u.unit_key, s.event_date
