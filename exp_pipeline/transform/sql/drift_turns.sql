-- One row per day: turns sent and answered, the time to whole answers, and what the answers took.
select
  event_date,
  count(*) filter (where submitted_at is not null) as n_turns,
  count(*) filter (where outcome = 'answered') as n_answered,
  percentile_cont(0.5) within group (order by latency_ms) as latency_p50_ms,
  percentile_cont(0.95) within group (order by latency_ms) as latency_p95_ms,
  coalesce(sum(tokens_in), 0) as tokens_in,
  coalesce(sum(tokens_out), 0) as tokens_out,
  coalesce(sum(cast(cost_usd as decimal(18, 9))), 0) as cost_usd
from turns
group by event_date
order by event_date
