-- One row per learner of the days before a start: as if assigned to control when first seen in them.
-- Where classes are randomised, a class and all its learners enter when the first of them is seen.
with entered as (
  select
    d.learner_key,
    min(d.started_at) as first_at
  from learner_days as d
  where d.event_date >= $first_day and d.event_date < $end_day
  group by d.learner_key
),

numbered as (
  select
    s.*,
    row_number() over (partition by s.learner_key order by s.started_at, s.session_id) as place
  from sessions as s
  where s.event_date >= $first_day and s.event_date < $end_day and s.role = 'student'
),

context as (
  select
    n.learner_key,
    min(n.learner_id) as learner_id,
    max(n.class_id) as class_id,
    max(n.school_id) as school_id,
    max(n.district_id) as district_id,
    max(case when n.place = 1 then n.platform end) as platform,
    max(case when n.place = 1 then n.app_version end) as app_version,
    max(case when n.place = 1 then n.locale end) as locale
  from numbered as n
  group by n.learner_key
),

joined as (
  select
    c.*,
    e.first_at
  from context as c
  inner join entered as e on c.learner_key = e.learner_key
),

placed as (
  select
    j.*,
    case when $by_class then min(j.first_at) over (partition by j.class_id) else j.first_at end as assigned_at
  from joined as j
  where j.class_id is not null or not $by_class
)

select
  $name as experiment,
  $brief_version as version,
  p.learner_id as unit_id,
  p.learner_key as unit_key,
  $control as arm,
  p.assigned_at,
  cast(p.assigned_at as date) as assigned_date,
  p.class_id as cluster_id,
  cast(null as varchar) as stratum,
  false as contaminated,
  'student' as role,
  p.platform,
  p.app_version,
  p.locale,
  p.class_id,
  p.school_id,
  p.district_id,
  cast(null as bigint) as arm_bucket,
  cast(null as bigint) as traffic_bucket,
  'history' as source,
  cast(p.assigned_at as date) - cast($pre_days as integer) as pre_start,
  cast(p.assigned_at as date) - cast($back as integer) as first_pre_day
from placed as p
order by p.learner_key
