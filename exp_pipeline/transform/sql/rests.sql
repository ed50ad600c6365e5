-- One row per experiment, unit and stretch cut by an assignment: measures over its events at or after that; appended in code.
with since as (
  select
    e.*,
    c.experiment as unit_experiment,
    c.version as unit_version,
    event_code() as event_code
  from cut_stretches as c
  inner join events as e
    on
      c.unit_key = e.learner_key
      and c.event_date = e.event_date
      and c.assigned_at <= e.occurred_at
      and c.ended_at >= e.occurred_at
)

select
  s.unit_experiment as experiment,
  s.unit_version as version,
  s.learner_key as unit_key,
  s.event_date,
  slot('measures')
from since as s
group by s.unit_experiment, s.unit_version, s.learner_key, s.event_date
