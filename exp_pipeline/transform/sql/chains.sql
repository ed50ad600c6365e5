-- One row per chain: bouts of one learner glued over midnight, with what ended it; a chain longer than the cap is cut later.
-- boundary: 1 the learner's first bout looked at, 2 explicit end before, 3 idle, 4 device handed over, 5 new objective
with linked as (
  select
    b.*,
    cast(case
      when lag(b.ended_at) over (partition by b.learner_key order by b.started_at) is null then 1
      when b.cut <> 1 then b.cut
      when lag(b.ended_explicitly) over (partition by b.learner_key order by b.started_at) then 2
      when
        date_diff('microsecond', lag(b.ended_at) over (partition by b.learner_key order by b.started_at), b.started_at)
        > $gap_microseconds then 3
      when
        $cut_on_shared_device
        and lag(b.handed_over) over (partition by b.learner_key order by b.started_at) then 4
      when
        $cut_on_objective
        and lag(b.objective) over (partition by b.learner_key order by b.started_at) <> b.objective then 5
    end as tinyint) as boundary,
    lag(b.producer_session_id) over (partition by b.learner_key order by b.started_at) as last_session
  from bouts as b
),

numbered as (
  select
    l.*,
    sum(case when l.boundary is null then 0 else 1 end) over (
      partition by l.learner_key order by l.started_at rows between unbounded preceding and current row
    ) as chain
  from linked as l
),

chained as (
  select
    learner_key,
    chain,
    max(learner_id) filter (where boundary is not null) as learner_id,
    min(started_at) as started_at,
    max(ended_at) as ended_at,
    max(ended_explicitly) as ended_explicitly,
    max(handed_over) as handed_over,
    max(boundary) as boundary,
    max(objective) as objective,
    max(producer_session_id) filter (where boundary is not null) as producer_session_id,
    cast(
      sum(producer_changes)
      + sum(case when boundary is null and producer_session_id is distinct from last_session then 1 else 0 end) as bigint
    ) as producer_changes,
    max(role) filter (where boundary is not null) as role,
    max(platform) filter (where boundary is not null) as platform,
    max(app_version) filter (where boundary is not null) as app_version,
    max(locale) filter (where boundary is not null) as locale,
    max(class_id) filter (where boundary is not null) as class_id,
    max(school_id) filter (where boundary is not null) as school_id,
    cast(sum(n_events) as bigint) as n_events,
    cast(sum(n_turns) as bigint) as n_turns,
    cast(sum(n_responses) as bigint) as n_responses
  from numbered
  group by learner_key, chain
)

select
  c.learner_key,
  c.chain,
  c.learner_id,
  c.started_at,
  c.ended_at,
  c.ended_explicitly,
  c.handed_over,
  c.boundary,
  c.objective,
  c.producer_session_id,
  c.producer_changes,
  c.role,
  c.platform,
  c.app_version,
  c.locale,
  c.class_id,
  c.school_id,
  c.n_events,
  c.n_turns,
  c.n_responses,
  lead(c.boundary) over (partition by c.learner_key order by c.started_at) as next_boundary
from chained as c
