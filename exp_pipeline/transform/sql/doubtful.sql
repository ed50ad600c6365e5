-- One row per landed row of a day that may not become an event, with what the contract says; columns appended in code.
select l.place, contract_refusal() as refusal
from landed as l
where
  l.place in (select m.place from marked as m)
  or l.reason is not null
  or date_diff('day', l.event_date, l.arrived_date) > $lateness_days
  or contract_refusal() is not null
  or list_contains($excluded_roles, l.role)
  or list_contains($excluded_learners, l.learner_id)
  or exclusion_by_agent()
