-- One row per landed row of one day before (or after) which a session is cut by objective (or by a shared device).
with kept as (
  select
    l.received_date, l.file, l.row_number, l.part, l.learner_key, l.occurred_at, l.event_id, l.device_id,
    l.learning_objective_id
  from landed as l
  left join fates as f
    on l.received_date = f.received_date and l.file = f.file and l.row_number = f.row_number and l.part = f.part
  where l.event_date = $day and f.file is null
),

objectives as (
  select
    learner_key,
    occurred_at,
    learning_objective_id
    <> lag(learning_objective_id) over (partition by learner_key order by occurred_at, event_id) as objective_changed
  from kept
  where learning_objective_id is not null
),

shared_devices as (
  select device_id
  from kept
  where device_id is not null
  group by device_id
  having min(learner_key) < max(learner_key)
),

device_turns as (
  select
    k.learner_key,
    k.occurred_at,
    k.learner_key
    <> lead(k.learner_key) over (partition by k.device_id order by k.occurred_at, k.event_id) as device_handover
  from kept as k
  inner join shared_devices as s on k.device_id = s.device_id
),

-- A cut belongs to the moment, not to one of its events: of events at one moment none is before the other.
moments as (
  select
    learner_key,
    occurred_at,
    max(objective_changed) as objective_changed,
    max(device_handover) as device_handover
  from (
    select learner_key, occurred_at, objective_changed, false as device_handover
    from objectives
    where objective_changed
    union all
    select learner_key, occurred_at, false as objective_changed, device_handover
    from device_turns
    where device_handover
  ) as cuts
  group by learner_key, occurred_at
)

select
  k.received_date,
  k.file,
  k.row_number,
  k.part,
  m.objective_changed,
  m.device_handover
from kept as k
inner join moments as m on k.learner_key = m.learner_key and k.occurred_at = m.occurred_at
