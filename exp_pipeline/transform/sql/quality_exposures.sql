-- One row per day and experiment with assignments: exposures, and those of units that were not assigned up to that day.
with assigned as (
  select experiment, version, unit_type, unit_id, min(event_date) as first_day
  from assignments
  group by experiment, version, unit_type, unit_id
),

started as (
  select experiment, version, min(first_day) as first_day
  from assigned
  group by experiment, version
)

select
  e.event_date,
  e.experiment,
  count(*) as n_rows,
  count(*) filter (
    where not coalesce(u.first_day <= e.event_date, false) and not coalesce(c.first_day <= e.event_date, false)
  ) as n_orphans
from events as e
inner join started as s
  on e.experiment = s.experiment and e.experiment_version = s.version and e.event_date >= s.first_day
left join assigned as u
  on e.experiment = u.experiment and e.experiment_version = u.version and e.learner_id = u.unit_id and u.unit_type = 'learner'
left join assigned as c
  on e.experiment = c.experiment and e.experiment_version = c.version and e.class_id = c.unit_id and c.unit_type = 'class'
where e.event_name = 'experiment_exposed'
group by e.event_date, e.experiment
order by e.event_date, e.experiment
