-- One row per unit and day before its assignment (that day included) on which it was seen: what is asked of those days.
with from_events as (
  select
    u.unit_key,
    b.event_date,
    slot('event_sums')
  from units as u
  inner join learner_days as b
    on u.unit_key = b.learner_key and u.first_pre_day <= b.event_date and u.assigned_date >= b.event_date
  group by u.unit_key, b.event_date
),

from_sessions as (
  select
    u.unit_key,
    s.event_date,
    slot('session_sums')
  from units as u
  inner join sessions as s
    on u.unit_key = s.learner_key and u.first_pre_day <= s.event_date and u.assigned_date >= s.event_date
  group by u.unit_key, s.event_date
),

seen as (
  select unit_key, event_date
  from from_events
  union
  select unit_key, event_date
  from from_sessions
)

select
  d.unit_key,
  d.event_date,
  slot('columns')
from seen as d
left join from_events as l on d.unit_key = l.unit_key and d.event_date = l.event_date
left join from_sessions as z on d.unit_key = z.unit_key and d.event_date = z.event_date
