-- One row per unit of one experiment: assignment, exposure, frozen context, every metric, pre-period covariates.
with seen as (
  select
    unit_key,
    min(first_exposed_at) as first_exposed_at,
    cast(sum(exposures) as bigint) as exposures
  from exposures
  group by unit_key
),

totals as (
  select
    u.unit_key,
    count(d.event_date) as observed_days,
    slot('sums')
  from units as u
  inner join unit_days as d on u.unit_key = d.unit_key
  group by u.unit_key
),

before as (
  select
    u.unit_key,
    slot('before_sums')
  from units as u
  inner join pre_days as p
    on u.unit_key = p.unit_key and u.assigned_date >= p.event_date and u.first_pre_day <= p.event_date
  left join unit_days as f
    on p.unit_key = f.unit_key and p.event_date = f.event_date
  group by u.unit_key
)

select
  u.experiment,
  u.version,
  u.unit_id,
  u.unit_key,
  u.arm,
  u.assigned_at,
  u.assigned_date,
  u.cluster_id,
  u.stratum,
  u.contaminated,
  s.unit_key is not null as exposed,
  s.first_exposed_at,
  coalesce(s.exposures, 0) as exposures,
  coalesce(t.observed_days, 0) as observed_days,
  u.source,
  u.arm_bucket,
  u.traffic_bucket,
  u.platform as segment__platform,
  u.locale as segment__locale,
  u.app_version as segment__app_version,
  u.school_id as segment__school_id,
  u.district_id as segment__district_id,
  u.class_id as segment__class_id,
  slot('metrics'),
  slot('covariates')
from units as u
left join seen as s on u.unit_key = s.unit_key
left join totals as t on u.unit_key = t.unit_key
left join before as b on u.unit_key = b.unit_key
order by u.unit_id
