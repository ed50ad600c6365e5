-- One row per turn that began in the window of days: one learner message and what answered it.
-- Few turn ids are used again after a long gap; only their events go through the windows that tell the uses apart.
with reused as (
  select e.learner_key, e.turn_id
  from events as e
  where e.turn_id is not null
  group by e.learner_key, e.turn_id
  having date_diff('microsecond', min(e.occurred_at), max(e.occurred_at)) > $turn_gap_microseconds
),

parts as (
  select
    e.*,
    case
      when
        date_diff(
          'microsecond',
          lag(e.occurred_at) over (partition by e.learner_key, e.turn_id order by e.occurred_at, e.event_id),
          e.occurred_at
        ) <= $turn_gap_microseconds then 0
      else 1
    end as begins
  from events as e
  inner join reused as r on e.learner_key = r.learner_key and e.turn_id = r.turn_id
),

numbered as (
  select
    p.*,
    sum(p.begins) over (
      partition by p.learner_key, p.turn_id order by p.occurred_at, p.event_id
      rows between unbounded preceding and current row
    ) as use_number,
    max(case when p.begins = 1 then cast(p.occurred_at as date) end) over (
      partition by p.learner_key, p.turn_id order by p.occurred_at, p.event_id
      rows between unbounded preceding and current row
    ) as start_date
  from parts as p
),

-- Parts are counted within the day they began, so that the number is the same whatever days are looked at.
every as (
  select
    e.learner_key, e.learner_id, e.turn_id, e.occurred_at, e.event_name, e.latency_ms, e.ttft_ms, e.retry_count,
    e.tokens_in, e.tokens_out, e.cost_usd, e.model_version, e.prompt_version, e.platform,
    cast(null as date) as start_date, 1 as turn_part
  from events as e
  left join reused as r on e.learner_key = r.learner_key and e.turn_id = r.turn_id
  where e.turn_id is not null and r.turn_id is null
  union all
  select
    n.learner_key, n.learner_id, n.turn_id, n.occurred_at, n.event_name, n.latency_ms, n.ttft_ms, n.retry_count,
    n.tokens_in, n.tokens_out, n.cost_usd, n.model_version, n.prompt_version, n.platform,
    n.start_date,
    n.use_number - min(n.use_number) over (partition by n.learner_key, n.turn_id, n.start_date) + 1 as turn_part
  from numbered as n
),

turned as (
  select
    n.turn_id,
    n.turn_part,
    n.learner_key,
    max(n.learner_id) as learner_id,
    min(n.occurred_at) as started_at,
    max(n.occurred_at) as ended_at,
    min(n.occurred_at) filter (where n.event_name = 'tutor_turn_submitted') as submitted_at,
    min(n.occurred_at) filter (where n.event_name = 'tutor_turn_response_shown') as responded_at,
    count(*) filter (where n.event_name = 'model_request_created') as n_requests,
    count(*) filter (where n.event_name = 'tool_call_executed') as n_tool_calls,
    count(*) filter (where n.event_name = 'tutor_turn_response_shown') as n_responses,
    max(n.retry_count) as retries,
    max(n.latency_ms) filter (where n.event_name = 'tutor_turn_response_shown') as latency_ms,
    max(n.ttft_ms) filter (where n.event_name = 'tutor_turn_response_shown') as ttft_ms,
    sum(n.tokens_in) filter (where n.event_name = 'tutor_turn_response_shown') as tokens_in,
    sum(n.tokens_out) filter (where n.event_name = 'tutor_turn_response_shown') as tokens_out,
    sum(cast(round(n.cost_usd * 1000000000) as bigint))
    filter (where n.event_name = 'tutor_turn_response_shown') as cost_nano_usd,
    max(n.model_version) filter (where n.event_name = 'tutor_turn_response_shown') as model_version,
    max(n.prompt_version) filter (where n.event_name = 'tutor_turn_response_shown') as prompt_version,
    max(n.platform) as platform
  from every as n
  group by n.learner_key, n.turn_id, n.start_date, n.turn_part
)

select
  turn_id,
  cast(turn_part as integer) as turn_part,
  learner_id,
  learner_key,
  cast(started_at as date) as event_date,
  started_at,
  ended_at,
  submitted_at,
  responded_at,
  n_requests,
  n_tool_calls,
  n_responses,
  cast(retries as bigint) as retries,
  latency_ms,
  ttft_ms,
  cast(tokens_in as bigint) as tokens_in,
  cast(tokens_out as bigint) as tokens_out,
  cost_nano_usd / 1000000000.0 as cost_usd,
  model_version,
  prompt_version,
  platform,
  case
    when submitted_at is null then 'no_submission'
    when responded_at is null then 'unanswered'
    else 'answered'
  end as outcome
from turned
where started_at >= $window_start and started_at < $window_end
order by event_date, learner_key, started_at, turn_id, turn_part
