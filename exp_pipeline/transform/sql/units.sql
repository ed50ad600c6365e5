-- One row per experiment, version and learner in it: the arm of the first assignment, later arms only counted.
with logged as (
  select
    a.*,
    row_number() over (
      partition by a.experiment, a.version, a.unit_type, a.unit_id
      order by a.assigned_at, md5(a.unit_id || ':' || a.arm), a.arm
    ) as place,
    min(a.arm) over (partition by a.experiment, a.version, a.unit_type, a.unit_id) as lowest_arm,
    max(a.arm) over (partition by a.experiment, a.version, a.unit_type, a.unit_id) as highest_arm
  from assignments as a
  inner join experiments as x
    on a.experiment = x.experiment and a.version = x.version and a.unit_type = x.unit_type
  where a.assigned_at >= x.window_start and a.assigned_at < x.window_end
),

direct as (
  select
    l.experiment, l.version, l.unit_id, l.unit_key, l.arm, l.assigned_at,
    l.class_id as cluster_id, l.stratum, l.lowest_arm <> l.highest_arm as contaminated,
    l.role, l.platform, l.app_version, l.locale, l.class_id, l.school_id, l.district_id,
    l.arm_bucket, l.traffic_bucket, l.source
  from logged as l
  where l.unit_type = 'learner' and l.place = 1
),

through_class as (
  select
    l.experiment, l.version, n.learner_id as unit_id, n.learner_key as unit_key, l.arm,
    greatest(l.assigned_at, n.start_at) as assigned_at,
    l.unit_id as cluster_id, l.stratum, l.lowest_arm <> l.highest_arm as class_in_two_arms,
    n.class_id, n.school_id, n.district_id, l.arm_bucket, l.traffic_bucket, l.source
  from logged as l
  inner join experiments as x on l.experiment = x.experiment and l.version = x.version
  inner join enrollments as n on l.unit_id = n.class_id
  where
    l.unit_type = 'class'
    and l.place = 1
    and n.start_at < x.window_end
    and (n.end_at is null or n.end_at > l.assigned_at)
),

first_class as (
  select
    t.*,
    row_number() over (partition by t.experiment, t.version, t.unit_id order by t.assigned_at, t.cluster_id) as place,
    min(t.arm) over (partition by t.experiment, t.version, t.unit_id) as lowest_arm,
    max(t.arm) over (partition by t.experiment, t.version, t.unit_id) as highest_arm
  from through_class as t
)

select
  experiment, version, unit_id, unit_key, arm, assigned_at, cast(assigned_at as date) as assigned_date,
  cluster_id, stratum, contaminated, role, platform, app_version, locale, class_id, school_id, district_id,
  arm_bucket, traffic_bucket, source
from direct
union all
select
  f.experiment, f.version, f.unit_id, f.unit_key, f.arm, f.assigned_at, cast(f.assigned_at as date) as assigned_date,
  f.cluster_id, f.stratum, f.class_in_two_arms or f.lowest_arm <> f.highest_arm as contaminated,
  'student' as role, null as platform, null as app_version, null as locale, f.class_id, f.school_id, f.district_id,
  f.arm_bucket, f.traffic_bucket, f.source
from first_class as f
where f.place = 1
