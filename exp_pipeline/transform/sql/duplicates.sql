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
    v.*,
    row_number() over (
      partition by v.event_id order by v.received_at, v.payload, v.received_date, v.file, v.row_number, v.part
    ) as arrival
  from valid as v
),

-- A copy is looked for within the lateness of the row's own day, whatever window of days is being written.
copied as (
  select r.event_id, r.arrival, min(e.arrival) as first_arrival
  from ranked as r
  inner join ranked as e
    on
      r.event_id = e.event_id
      and r.arrival > e.arrival
      and abs(date_diff('day', e.event_date, r.event_date)) <= $lateness_days
  where r.event_date >= $first_day and r.event_date < $end_day
  group by r.event_id, r.arrival
)

select
  r.source,
  r.file,
  r.row_number,
  r.part,
  r.byte_offset,
  r.event_date,
  r.received_date,
  r.event_name,
  r.learner_id,
  case when r.payload = f.payload then 'retry' else 'quarantined' end as fate,
  case when r.payload = f.payload then 'same_payload' else 'conflicting_duplicate' end as reason
from copied as c
inner join ranked as r on c.event_id = r.event_id and c.arrival = r.arrival
inner join ranked as f on c.event_id = f.event_id and c.first_arrival = f.arrival
