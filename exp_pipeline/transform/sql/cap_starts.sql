-- One row per session start inside a chain longer than the cap: the chain's start, then each first event past the cap.
with recursive long_chains as (
  select learner_key, chain, started_at, ended_at
  from chains
  where date_diff('microsecond', started_at, ended_at) > $cap_microseconds
),

moments as (
  select distinct c.learner_key, c.chain, e.occurred_at
  from events as e
  inner join long_chains as c
    on e.learner_key = c.learner_key and e.occurred_at >= c.started_at and e.occurred_at <= c.ended_at
),

starts as (
  select learner_key, chain, started_at
  from long_chains
  union all
  select s.learner_key, s.chain, min(m.occurred_at) as started_at
  from starts as s
  inner join moments as m
    on
      s.learner_key = m.learner_key
      and s.chain = m.chain
      and date_diff('microsecond', s.started_at, m.occurred_at) > $cap_microseconds
  group by s.learner_key, s.chain
)

select learner_key, chain, started_at
from starts
