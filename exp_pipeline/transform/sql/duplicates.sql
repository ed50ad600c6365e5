-- One row per landed row that another copy of its event stands for: a retry, a conflicting or a corrected copy.
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
    and not list_contains($excluded_learners, l.learner_id)
    and not coalesce(exclusion_by_agent(), false)
),

marked as (
  select
    v.*,
    list_contains($correction_sources, v.source) as is_correction
  from valid as v
),

-- The first rank stands for the others: the newest correction, or else the copy received first.
ranked as (
  select
    m.*,
    row_number() over (
      partition by m.event_id
      order by
        m.is_correction desc,
        case when m.is_correction then m.received_at end desc nulls last,
        case when m.is_correction then m.payload end desc nulls last,
        m.received_at asc,
        m.payload asc,
        m.received_date asc,
        m.file asc,
        m.row_number asc,
        m.part asc
    ) as rank
  from marked as m
),

of_a_day as (
  select event_id, event_date, min(rank) as rank
  from ranked
  group by event_id, event_date
),

-- A copy is looked for within the lateness of the row's own day, whatever window of days is being written.
around as (
  select o.event_id, o.event_date, min(e.rank) as best_rank
  from of_a_day as o
  inner join of_a_day as e
    on o.event_id = e.event_id and abs(date_diff('day', e.event_date, o.event_date)) <= $lateness_days
  where o.event_date >= $first_day and o.event_date < $end_day
  group by o.event_id, o.event_date
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
  case when r.payload = b.payload then 'retry' else 'quarantined' end as fate,
  case
    when r.payload = b.payload then 'same_payload'
    when b.is_correction then 'corrected'
    else 'conflicting_duplicate'
  end as reason
from around as a
inner join ranked as r on a.event_id = r.event_id and a.event_date = r.event_date and a.best_rank < r.rank
inner join ranked as b on a.event_id = b.event_id and a.best_rank = b.rank
