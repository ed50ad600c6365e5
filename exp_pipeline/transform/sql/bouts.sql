-- One row per bout: a learner's events within one UTC day with no cut between them.
-- Events of one moment are never cut apart; of these, the explicit end of a session counts as the last.
-- Only a bout's first row is kept; what its last row says is told by the next first row, which looks back one row.
with coded as (
  select
    e.learner_key,
    e.event_date,
    e.occurred_at,
    e.event_id,
    e.objective_changed,
    e.device_handover,
    e.learning_objective_id,
    e.learner_id,
    e.session_id,
    e.role,
    e.platform,
    e.app_version,
    e.locale,
    e.class_id,
    e.teacher_id,
    e.school_id,
    e.district_id,
    e.event_name = 'tutor_session_ended' as ends,
    e.event_name = 'tutor_turn_submitted' as is_turn,
    e.event_name = 'tutor_turn_response_shown' as is_response,
    case e.event_name when 'experiment_assigned' then 0 when 'tutor_session_ended' then 2 else 1 end as place
  from events as e
),

lagged as (
  select
    c.*,
    lag(c.learner_key) over (
      partition by c.learner_key, c.event_date order by c.occurred_at, c.place, c.event_id
    ) as last_learner,
    lag(c.event_date) over (
      partition by c.learner_key, c.event_date order by c.occurred_at, c.place, c.event_id
    ) as last_date,
    lag(c.occurred_at) over (
      partition by c.learner_key, c.event_date order by c.occurred_at, c.place, c.event_id
    ) as last_at,
    lag(c.ends) over (
      partition by c.learner_key, c.event_date order by c.occurred_at, c.place, c.event_id
    ) as last_ends,
    lag(c.device_handover) over (
      partition by c.learner_key, c.event_date order by c.occurred_at, c.place, c.event_id
    ) as last_handover,
    lag(c.session_id) over (
      partition by c.learner_key, c.event_date order by c.occurred_at, c.place, c.event_id
    ) as last_session,
    row_number() over (
      partition by c.learner_key, c.event_date order by c.occurred_at, c.place, c.event_id
    ) as number,
    count(*) over (partition by c.learner_key, c.event_date) as numbers,
    count(case when c.is_turn then 1 end) over (
      partition by c.learner_key, c.event_date order by c.occurred_at, c.place, c.event_id
      rows between unbounded preceding and current row
    ) as turns,
    count(case when c.is_response then 1 end) over (
      partition by c.learner_key, c.event_date order by c.occurred_at, c.place, c.event_id
      rows between unbounded preceding and current row
    ) as responses,
    count(case when c.learning_objective_id is not null then 1 end) over (
      partition by c.learner_key, c.event_date order by c.occurred_at, c.place, c.event_id
      rows between unbounded preceding and current row
    ) as named,
    last_value(c.learning_objective_id ignore nulls) over (
      partition by c.learner_key, c.event_date order by c.occurred_at, c.place, c.event_id
      rows between unbounded preceding and current row
    ) as objective
  from coded as c
),

-- cut: 0 none, 1 first of the day, 2 explicit end before, 3 idle, 4 device handed over, 5 new objective
flagged as (
  select
    l.*,
    cast(
      case
        when l.learner_key is distinct from l.last_learner or l.event_date is distinct from l.last_date then 1
        when l.occurred_at = l.last_at then 0
        when l.last_ends then 2
        when date_diff('microsecond', l.last_at, l.occurred_at) > $gap_microseconds then 3
        when $cut_on_shared_device and l.last_handover then 4
        when $cut_on_objective and l.objective_changed then 5
        else 0
      end as tinyint
    ) as cut
  from lagged as l
),

counted as (
  select
    f.*,
    lag(f.objective) over (
      partition by f.learner_key, f.event_date order by f.occurred_at, f.place, f.event_id
    ) as last_objective,
    count(case when f.cut = 0 and f.session_id is distinct from f.last_session then 1 end) over (
      partition by f.learner_key, f.event_date order by f.occurred_at, f.place, f.event_id
      rows between unbounded preceding and current row
    ) as changes
  from flagged as f
),

-- Beside first rows, the very last one is kept: nothing after it looks back at it. What each kept row says of
-- the bout that ends before it, or with it where it is that very last row.
kept as (
  select
    c.*,
    case when c.cut > 0 then c.last_at else c.occurred_at end as end_at,
    case when c.cut > 0 then c.last_ends else c.ends end as end_ends,
    case when c.cut > 0 then c.last_handover else c.device_handover end as end_handover,
    case when c.cut > 0 then c.last_objective else c.objective end as end_objective,
    c.number - case when c.cut > 0 then 1 else 0 end as end_number,
    c.turns - case when c.cut > 0 and c.is_turn then 1 else 0 end as end_turns,
    c.responses - case when c.cut > 0 and c.is_response then 1 else 0 end as end_responses,
    c.named - case when c.cut > 0 and c.learning_objective_id is not null then 1 else 0 end as end_named
  from counted as c
  where c.cut > 0 or c.number = c.numbers
),

ended as (
  select
    k.*,
    lead(k.cut) over (
      partition by k.learner_key, k.event_date order by k.occurred_at, k.place, k.event_id
    ) as next_cut,
    lead(k.end_at) over (
      partition by k.learner_key, k.event_date order by k.occurred_at, k.place, k.event_id
    ) as next_at,
    lead(k.end_ends) over (
      partition by k.learner_key, k.event_date order by k.occurred_at, k.place, k.event_id
    ) as next_ends,
    lead(k.end_handover) over (
      partition by k.learner_key, k.event_date order by k.occurred_at, k.place, k.event_id
    ) as next_handover,
    lead(k.end_objective) over (
      partition by k.learner_key, k.event_date order by k.occurred_at, k.place, k.event_id
    ) as next_objective,
    lead(k.end_number) over (
      partition by k.learner_key, k.event_date order by k.occurred_at, k.place, k.event_id
    ) as next_number,
    lead(k.end_turns) over (
      partition by k.learner_key, k.event_date order by k.occurred_at, k.place, k.event_id
    ) as next_turns,
    lead(k.end_responses) over (
      partition by k.learner_key, k.event_date order by k.occurred_at, k.place, k.event_id
    ) as next_responses,
    lead(k.end_named) over (
      partition by k.learner_key, k.event_date order by k.occurred_at, k.place, k.event_id
    ) as next_named,
    lead(k.changes) over (
      partition by k.learner_key, k.event_date order by k.occurred_at, k.place, k.event_id
    ) as next_changes
  from kept as k
),

bouts as (
  select
    b.learner_key,
    b.event_date,
    b.learner_id,
    b.occurred_at as started_at,
    coalesce(b.next_at, b.occurred_at) as ended_at,
    b.cut,
    case when b.next_cut > 1 then b.next_cut end as following,
    coalesce(b.next_ends, b.ends) as ended_explicitly,
    coalesce(b.next_handover, b.device_handover) as handed_over,
    case
      when b.next_number is null then b.learning_objective_id
      when b.next_named > b.named - case when b.learning_objective_id is null then 0 else 1 end then b.next_objective
    end as objective,
    b.session_id as producer_session_id,
    coalesce(b.next_changes - b.changes, 0) as producer_changes,
    b.role,
    b.platform,
    b.app_version,
    b.locale,
    b.class_id,
    b.teacher_id,
    b.school_id,
    b.district_id,
    coalesce(b.next_number - b.number, 0) + 1 as n_events,
    coalesce(b.next_turns - b.turns, 0) + case when b.is_turn then 1 else 0 end as n_turns,
    coalesce(b.next_responses - b.responses, 0) + case when b.is_response then 1 else 0 end as n_responses
  from ended as b
  where b.cut > 0
)

-- At the edge of its day a bout may go on over midnight; one longer than a session may be is cut by other rules.
select
  t.learner_key, t.event_date, t.learner_id, t.started_at, t.ended_at, t.cut, t.following, t.ended_explicitly,
  t.handed_over, t.objective, t.producer_session_id, t.producer_changes, t.role, t.platform, t.app_version, t.locale,
  t.class_id, t.teacher_id, t.school_id, t.district_id, t.n_events, t.n_turns, t.n_responses,
  (t.cut = 1 and date_diff('microsecond', date_trunc('day', t.started_at), t.started_at) <= $gap_microseconds)
  or (
    t.following is null
    and date_diff('microsecond', date_trunc('day', t.ended_at), t.ended_at) + $gap_microseconds >= 86400000000
  )
  or date_diff('microsecond', t.started_at, t.ended_at) > $cap_microseconds as at_edge
from bouts as t
order by t.learner_key, t.event_date, t.started_at
