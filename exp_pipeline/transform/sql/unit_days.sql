-- One row per experiment, version, unit and active day at or after assignment: every measure; appended in code.
with stretches as (
  select u.experiment, u.version, u.unit_id, u.unit_key, l.event_date, slot('parts')
  from learner_days as l
  inner join unit_moments as u on l.learner_key = u.unit_key and l.started_at >= u.assigned_at
  where l.event_date < u.last_day
  union all
  select p.experiment, p.version, u.unit_id, p.unit_key, p.event_date, slot('rests')
  from rests as p
  inner join unit_moments as u
    on p.experiment = u.experiment and p.version = u.version and p.unit_key = u.unit_key
),

several as (
  select s.experiment, s.version, s.unit_key, s.event_date
  from stretches as s
  group by s.experiment, s.version, s.unit_key, s.event_date
  having count(*) > 1
),

-- Nearly all units have one stretch of a day: adding up lists of one list each would take most of the time.
over_events as (
  select s.experiment, s.version, s.unit_id, s.unit_key, s.event_date, slot('event_sums')
  from stretches as s
  inner join several as v
    on
      s.experiment = v.experiment
      and s.version = v.version
      and s.unit_key = v.unit_key
      and s.event_date = v.event_date
  group by s.experiment, s.version, s.unit_id, s.unit_key, s.event_date
  union all
  select s.experiment, s.version, s.unit_id, s.unit_key, s.event_date, slot('alone')
  from stretches as s
  left join several as v
    on
      s.experiment = v.experiment
      and s.version = v.version
      and s.unit_key = v.unit_key
      and s.event_date = v.event_date
  where v.unit_key is null
),

over_sessions as (
  select u.experiment, u.version, u.unit_id, u.unit_key, s.event_date, slot('session_sums')
  from sessions as s
  inner join unit_moments as u
    on s.learner_key = u.unit_key and s.event_date >= u.assigned_date and s.ended_at >= u.assigned_at
  where s.event_date < u.last_day
  group by u.experiment, u.version, u.unit_id, u.unit_key, s.event_date
)

select
  coalesce(e.experiment, s.experiment) as experiment,
  coalesce(e.version, s.version) as version,
  coalesce(e.unit_id, s.unit_id) as unit_id,
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
order by event_date, experiment, version, unit_key
