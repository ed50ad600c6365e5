-- One row per experiment, version, unit and active day at or after assignment: every measure; appended in code.
with stretches as (
  select u.experiment, u.version, u.unit_key, l.event_date, slot('parts')
  from learner_days as l
  inner join unit_moments as u on l.learner_key = u.unit_key and l.started_at >= u.assigned_at
  where l.event_date < u.last_day
  union all
  select p.experiment, p.version, p.unit_key, p.event_date, slot('rests')
  from rests as p
),

over_events as (
  select s.experiment, s.version, s.unit_key, s.event_date, slot('event_sums')
  from stretches as s
  group by s.experiment, s.version, s.unit_key, s.event_date
),

over_sessions as (
  select u.experiment, u.version, u.unit_key, s.event_date, slot('session_sums')
  from sessions as s
  inner join unit_moments as u
    on s.learner_key = u.unit_key and s.event_date >= u.assigned_date and s.ended_at >= u.assigned_at
  where s.event_date < u.last_day
  group by u.experiment, u.version, u.unit_key, s.event_date
)

select
  coalesce(e.experiment, s.experiment) as experiment,
  coalesce(e.version, s.version) as version,
  u.unit_id,
  coalesce(e.unit_key, s.unit_key) as unit_key,
  coalesce(e.event_date, s.event_date) as event_date,
  slot('columns')
from over_events as e
full outer join over_sessions as s
  on
    e.experiment = s.experiment
    and e.version = s.version
    and e.unit_key = s.unit_key
    and e.event_date = s.event_date
inner join unit_moments as u
  on
    coalesce(e.experiment, s.experiment) = u.experiment
    and coalesce(e.version, s.version) = u.version
    and coalesce(e.unit_key, s.unit_key) = u.unit_key
order by event_date, experiment, version, unit_key
