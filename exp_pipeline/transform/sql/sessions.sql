-- One row per session that started on one day: how long, how many turns, how it ended.
-- Most bouts are sessions by themselves; those at the edges of days come glued, as chains.
with bounds as (
  select
    learner_key,
    chain,
    started_at,
    lead(started_at) over (partition by learner_key, chain order by started_at) as next_started_at
  from cap_starts
),

pieces as (
  select
    b.learner_key,
    b.chain,
    b.started_at,
    max(e.occurred_at) as ended_at,
    count(*) as n_events,
    count(*) filter (where e.event_name = 'tutor_turn_submitted') as n_turns,
    count(*) filter (where e.event_name = 'tutor_turn_response_shown') as n_responses,
    max(b.next_started_at is not null) as capped
  from bounds as b
  inner join chains as c on b.learner_key = c.learner_key and b.chain = c.chain
  inner join events as e
    on
      b.learner_key = e.learner_key
      and b.started_at <= e.occurred_at
      and c.ended_at >= e.occurred_at
      and (b.next_started_at is null or b.next_started_at > e.occurred_at)
  group by b.learner_key, b.chain, b.started_at
),

capped_chains as (
  select distinct learner_key, chain
  from cap_starts
),

everything as (
  select
    b.learner_key, b.learner_id, b.started_at, b.ended_at, b.n_events, b.n_turns, b.n_responses, false as capped,
    b.ended_explicitly, b.handed_over, b.following as next_boundary, b.objective, b.producer_session_id,
    b.producer_changes, b.role, b.platform, b.app_version, b.locale, b.class_id, b.teacher_id, b.school_id, b.district_id
  from bouts as b
  where not b.at_edge
  union all
  select
    c.learner_key, c.learner_id, c.started_at, c.ended_at, c.n_events, c.n_turns, c.n_responses, false as capped,
    c.ended_explicitly, c.handed_over, c.next_boundary, c.objective, c.producer_session_id,
    c.producer_changes, c.role, c.platform, c.app_version, c.locale, c.class_id, c.teacher_id, c.school_id, c.district_id
  from chains as c
  left join capped_chains as k
    on c.learner_key = k.learner_key and c.chain = k.chain
  where k.chain is null
  union all
  select
    p.learner_key, c.learner_id, p.started_at, p.ended_at, p.n_events, p.n_turns, p.n_responses, p.capped,
    c.ended_explicitly, c.handed_over, c.next_boundary, c.objective, c.producer_session_id,
    c.producer_changes, c.role, c.platform, c.app_version, c.locale, c.class_id, c.teacher_id, c.school_id, c.district_id
  from pieces as p
  inner join chains as c on p.learner_key = c.learner_key and p.chain = c.chain
)

select
  md5(learner_id || '|' || cast(date_diff('microsecond', timestamp '1970-01-01', started_at) as varchar)) as session_id,
  learner_id,
  learner_key,
  cast(started_at as date) as event_date,
  started_at,
  ended_at,
  date_diff('microsecond', started_at, ended_at) / 60000000.0 as minutes,
  case
    when capped then 'cap'
    when ended_explicitly then 'explicit'
    when $cut_on_shared_device and handed_over then 'device'
    when next_boundary = 5 then 'objective'
    when
      date_diff('microsecond', date_trunc('day', ended_at), ended_at) + $gap_microseconds < 86400000000
      or not list_contains($last_days, cast(ended_at as date)) then 'idle'
    else 'open'
  end as end_reason,
  n_events,
  n_turns,
  n_responses,
  producer_session_id,
  case when producer_session_id is not null then producer_changes = 0 end as producer_session_agrees,
  objective,
  role,
  platform,
  app_version,
  locale,
  class_id,
  teacher_id,
  school_id,
  district_id
from everything
where started_at >= $window_start and started_at < $window_end
order by event_date, learner_key, started_at
