-- One row per experiment, version, learner, arm, surface and day: when first exposed that day, and how often.
select
  e.experiment,
  e.experiment_version as version,
  e.learner_id as unit_id,
  e.learner_key as unit_key,
  e.arm,
  coalesce(e.surface, 'unknown') as surface,
  e.event_date,
  min(e.occurred_at) as first_exposed_at,
  count(*) as exposures
from events as e
where e.event_name = 'experiment_exposed'
group by
  e.experiment, e.experiment_version, e.learner_id, e.learner_key, e.arm, coalesce(e.surface, 'unknown'), e.event_date
order by experiment, version, unit_id, arm, surface, event_date
