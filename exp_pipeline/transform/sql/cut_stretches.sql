-- One row per experiment, unit and stretch of a day that the unit's assignment falls into, as it was not among its events.
select
  u.experiment,
  u.version,
  u.unit_key,
  l.event_date,
  u.assigned_at,
  l.ended_at
from learner_days as l
inner join unit_moments as u
  on l.learner_key = u.unit_key and l.started_at < u.assigned_at and l.ended_at >= u.assigned_at
where l.event_date < u.last_day
