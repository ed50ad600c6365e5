-- One row per landed row of a day that is refused or excluded whatever rows stand around it, with what the contract says.
with judged as (
  select
    l.place,
    contract_refusal() as refusal,
    l.reason is not null
    or date_diff('day', l.event_date, l.arrived_date) > $lateness_days
    or list_contains($excluded_roles, l.role)
    or list_contains($excluded_learners, l.learner_id)
    or exclusion_by_agent() as is_odd
  from landed as l
)

select place, refusal
from judged
where refusal is not null or is_odd
order by place
