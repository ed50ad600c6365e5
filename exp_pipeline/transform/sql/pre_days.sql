-- One row per learner and day on which anything was measured: what is asked of the days before assignment; appended in code.
with seen as (
  select unit_key, event_date
  from learner_days
  union
  select unit_key, event_date
  from session_days
)

select
  s.unit_key,
  s.event_date
from seen as s
left join learner_days as l on s.unit_key = l.unit_key and s.event_date = l.event_date
left join session_days as z on s.unit_key = z.unit_key and s.event_date = z.event_date
