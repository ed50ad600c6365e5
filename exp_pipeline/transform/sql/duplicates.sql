-- One row per landed row whose event id was received before: a retry (same payload) or a conflicting duplicate.
with valid as (
  select
    l.source,
    l.file,
    l.row_number,
    l.part,
    l.byte_offset,
    l.event_date,
    l.received_date,
    l.event_name,
    l.learner_id,
    l.event_id,
    l.received_at,
    payload_digest() as payload
  from landed as l
  inner join suspicious as s on hash(l.event_id) = s.event_hash
  where
    l.reason is null
    and date_diff('day', l.event_date, l.arrived_date) <= $lateness_days
    and contract_refusal() is null
    and not list_contains($excluded_roles, l.role)
),

ranked as (
  select
    *,
    row_number() over (partition by event_id order by received_at, payload, file, row_number) as arrival,
    first_value(payload) over (partition by event_id order by received_at, payload, file, row_number) as kept_payload
  from valid
)

select
  source,
  file,
  row_number,
  part,
  byte_offset,
  event_date,
  received_date,
  event_name,
  learner_id,
  case when payload = kept_payload then 'retry' else 'quarantined' end as fate,
  case when payload = kept_payload then 'same_payload' else 'conflicting_duplicate' end as reason
from ranked
where arrival > 1 and event_date >= $first_day and event_date < $end_day
