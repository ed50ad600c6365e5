-- One row per chain: bouts of one learner glued over midnight, with what ended it; a chain longer than the cap is cut later.
-- Only bouts at the edges of days are looked at: between two of a learner's edge bouts that are glued stands no other.
-- boundary: 1 the learner's first bout looked at, 2 explicit end before, 3 idle, 4 device handed over, 5 new objective
with linked as (
  select
    b.learner_key,
    b.started_at,
    b.cut,
    b.following,
    cast(
      case
        when lag(b.ended_at) over (partition by b.learner_key order by b.started_at) is null then 1
        when b.cut <> 1 then b.cut
        when
          date_diff(
            'microsecond', lag(b.ended_at) over (partition by b.learner_key order by b.started_at), b.started_at
          ) > $gap_microseconds then 3
        when lag(b.ended_explicitly) over (partition by b.learner_key order by b.started_at) then 2
        when
          $cut_on_shared_device
          and lag(b.handed_over) over (partition by b.learner_key order by b.started_at)
          then 4
        when
          $cut_on_objective
          and lag(b.objective) over (partition by b.learner_key order by b.started_at) <> b.objective then 5
      end as tinyint
    ) as boundary,
    lag(b.producer_session_id) over (partition by b.learner_key order by b.started_at) as last_session
  from edge_bouts as b
),

-- What came after a bout is known within its day; only over midnight is the next edge bout surely the next one.
numbered as (
  select
    l.learner_key,
    l.started_at,
    l.boundary,
    l.last_session,
    sum(case when l.boundary is null then 0 else 1 end) over (
      partition by l.learner_key order by l.started_at rows between unbounded preceding and current row
    ) as chain,
    coalesce(
      l.following,
      case
        when lead(l.cut) over (partition by l.learner_key order by l.started_at) = 1
          then lead(l.boundary) over (partition by l.learner_key order by l.started_at)
      end
    ) as next_boundary
  from linked as l
)

-- Windows run over few columns; what a chain carries is joined to them afterwards, which is cheaper.
select
  n.learner_key,
  n.chain,
  max(b.learner_id) filter (where n.boundary is not null) as learner_id,
  min(b.started_at) as started_at,
  max(b.ended_at) as ended_at,
  max(b.ended_explicitly) as ended_explicitly,
  max(b.handed_over) as handed_over,
  max(b.objective) as objective,
  max(b.producer_session_id) filter (where n.boundary is not null) as producer_session_id,
  cast(
    sum(b.producer_changes)
    + sum(case when n.boundary is null and b.producer_session_id is distinct from n.last_session then 1 else 0 end) as bigint
  ) as producer_changes,
  max(b.role) filter (where n.boundary is not null) as role,
  max(b.platform) filter (where n.boundary is not null) as platform,
  max(b.app_version) filter (where n.boundary is not null) as app_version,
  max(b.locale) filter (where n.boundary is not null) as locale,
  max(b.class_id) filter (where n.boundary is not null) as class_id,
  max(b.teacher_id) filter (where n.boundary is not null) as teacher_id,
  max(b.school_id) filter (where n.boundary is not null) as school_id,
  max(b.district_id) filter (where n.boundary is not null) as district_id,
  cast(sum(b.n_events) as bigint) as n_events,
  cast(sum(b.n_turns) as bigint) as n_turns,
  cast(sum(b.n_responses) as bigint) as n_responses,
  max(n.next_boundary) as next_boundary
from numbered as n
inner join edge_bouts as b on n.learner_key = b.learner_key and n.started_at = b.started_at
group by n.learner_key, n.chain
