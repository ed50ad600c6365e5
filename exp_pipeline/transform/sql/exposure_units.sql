-- One row per learner of one experiment who was assigned or exposed: first exposure, dose, and what does not fit together.
with met as (
  select
    coalesce(u.unit_id, x.unit_id) as unit_id,
    u.arm,
    u.assigned_at,
    x.arm as exposed_arm,
    x.surface,
    x.event_date,
    x.first_exposed_at,
    x.exposures
  from units as u
  full outer join exposures as x on u.unit_id = x.unit_id
)

select
  unit_id,
  min(arm) as arm,
  min(assigned_at) as assigned_at,
  min(first_exposed_at) as first_exposed_at,
  cast(coalesce(sum(exposures), 0) as bigint) as exposures,
  count(distinct surface) as surfaces,
  count(distinct event_date) as exposed_days,
  cast(coalesce(sum(case when exposed_arm <> arm then exposures end), 0) as bigint) as exposures_to_other_arm,
  min(case when exposed_arm <> arm then exposed_arm end) as other_arm,
  case
    when min(arm) is null then 'not_assigned'
    when min(first_exposed_at) is null then 'never_exposed'
    when min(first_exposed_at) < min(assigned_at) then 'before_assignment'
    else 'exposed'
  end as status
from met
group by unit_id
order by unit_id
