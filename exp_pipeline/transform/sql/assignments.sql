-- One row per experiment, version, unit and arm seen in a day's assignment events, with the context frozen at that moment.
with ranked as (
  select
    e.experiment, e.experiment_version, e.unit_type, e.unit_id, e.arm, e.event_date, e.occurred_at, e.event_id,
    e.learner_key, e.assignment_source, e.stratum, e.ramp_stage, e.arm_bucket, e.traffic_bucket,
    e.bucket_scheme, e.layer_bucket, e.holdout_bucket, e.layer_draws,
    e.role, e.platform, e.app_version, e.locale,
    coalesce(e.class_id, r.class_id) as class_id,
    coalesce(e.school_id, case when coalesce(e.class_id, r.class_id) = r.class_id then r.school_id end) as school_id,
    coalesce(
      e.district_id, case when coalesce(e.class_id, r.class_id) = r.class_id then r.district_id end
    ) as district_id,
    count(*) over (
      partition by e.experiment, e.experiment_version, e.unit_type, e.unit_id, e.arm, e.event_date
    ) as n_logged,
    row_number() over (
      partition by e.experiment, e.experiment_version, e.unit_type, e.unit_id, e.arm, e.event_date
      order by e.occurred_at, e.event_id
    ) as place
  from events as e
  left join roster as r
    on
      e.learner_key = r.learner_key
      and e.occurred_at >= r.start_at
      and (r.end_at is null or e.occurred_at < r.end_at)
  where e.event_name = 'experiment_assigned'
)

select
  experiment,
  experiment_version as version,
  unit_type,
  unit_id,
  arm,
  event_date,
  occurred_at as assigned_at,
  case when unit_type = 'learner' then learner_key end as unit_key,
  stratum,
  ramp_stage,
  coalesce(assignment_source, 'logged') as source,
  arm_bucket,
  traffic_bucket,
  bucket_scheme,
  layer_bucket,
  holdout_bucket,
  layer_draws,
  role,
  platform,
  app_version,
  locale,
  class_id,
  school_id,
  district_id,
  n_logged
from ranked
where place = 1
order by experiment, version, unit_type, unit_id, arm, event_date
