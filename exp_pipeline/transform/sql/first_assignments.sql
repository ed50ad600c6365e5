-- One row per randomised unit of one experiment: its first assignment in the window, with the context of that moment.
with logged as (
  select
    a.*,
    row_number() over (
      partition by a.unit_id order by a.assigned_at, md5(a.unit_id || ':' || a.arm), a.arm
    ) as place
  from assignments as a
  where
    a.experiment = $experiment
    and a.version = $version
    and a.unit_type = $unit_type
    and a.assigned_at >= $window_start
    and a.assigned_at < $window_end
),

arms as (
  select
    unit_id,
    count(distinct arm) as arms_seen
  from logged
  group by unit_id
)

select
  l.experiment, l.version, l.unit_type, l.unit_id, l.arm, l.assigned_at, l.stratum, l.ramp_stage, l.source,
  l.platform, l.app_version, l.arm_bucket, l.traffic_bucket, l.bucket_scheme, l.layer_bucket, l.holdout_bucket,
  l.layer_draws, s.arms_seen, s.arms_seen > 1 as contaminated
from logged as l
inner join arms as s on l.unit_id = s.unit_id
where l.place = 1
order by l.unit_id
