-- One row per bout: a learner's events within one UTC day with no cut between them; measures are appended in code.
-- Events of one moment are never cut apart; of these, the explicit end of a session counts as the last.
with coded as (
  select
    e.*,
    event_code() as event_code,
    e.event_name = 'tutor_session_ended' as ends_session
  from events as e
),

lagged as (
  select
    c.*,
    lag(c.learner_key) over (
      partition by c.learner_key, c.event_date order by c.occurred_at, c.ends_session, c.event_id
    ) as last_learner,
    lag(c.event_date) over (
      partition by c.learner_key, c.event_date order by c.occurred_at, c.ends_session, c.event_id
    ) as last_date,
    lag(c.occurred_at) over (
      partition by c.learner_key, c.event_date order by c.occurred_at, c.ends_session, c.event_id
    ) as last_at,
    lag(c.event_code) over (
      partition by c.learner_key, c.event_date order by c.occurred_at, c.ends_session, c.event_id
    ) as last_code,
    lag(c.device_handover) over (
      partition by c.learner_key, c.event_date order by c.occurred_at, c.ends_session, c.event_id
    ) as last_handover,
    lag(c.session_id) over (
      partition by c.learner_key, c.event_date order by c.occurred_at, c.ends_session, c.event_id
    ) as last_session
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
        when l.last_code = code_of('tutor_session_ended') then 2
        when date_diff('microsecond', l.last_at, l.occurred_at) > $gap_microseconds then 3
        when $cut_on_shared_device and l.last_handover then 4
        when $cut_on_objective and l.objective_changed then 5
        else 0
      end as tinyint
    ) as cut
  from lagged as l
),

numbered as (
  select
    f.*,
    sum(case when f.cut > 0 then 1 else 0 end) over (
      partition by f.learner_key, f.event_date
      order by f.occurred_at, f.ends_session, f.event_id
      rows between unbounded preceding and current row
    ) as bout
  from flagged as f
),

bouts as (
  select
    n.learner_key,
    n.event_date,
    n.bout,
    first({
      'learner_id': n.learner_id,
      'session_id': n.session_id,
      'role': n.role,
      'platform': n.platform,
      'app_version': n.app_version,
      'locale': n.locale,
      'class_id': n.class_id,
      'teacher_id': n.teacher_id,
      'school_id': n.school_id,
      'district_id': n.district_id
    }) filter (where n.cut > 0) as context,
    min(n.occurred_at) as started_at,
    max(n.occurred_at) as ended_at,
    max(n.cut) as cut,
    max(n.event_code = code_of('tutor_session_ended')) as ended_explicitly,
    max(n.device_handover) as handed_over,
    min(n.learning_objective_id) as objective,
    count(*) filter (where n.cut = 0 and n.session_id is distinct from n.last_session) as producer_changes,
    count(*) as n_events,
    count(*) filter (where n.event_code = code_of('tutor_turn_submitted')) as n_turns,
    count(*) filter (where n.event_code = code_of('tutor_turn_response_shown')) as n_responses,
    slot('sums')
  from numbered as n
  group by n.learner_key, n.event_date, n.bout
)

select
  b.learner_key,
  b.event_date,
  b.context.learner_id,
  b.started_at,
  b.ended_at,
  b.cut,
  b.ended_explicitly,
  b.handed_over,
  b.objective,
  b.context.session_id as producer_session_id,
  b.producer_changes,
  b.context.role,
  b.context.platform,
  b.context.app_version,
  b.context.locale,
  b.context.class_id,
  b.context.teacher_id,
  b.context.school_id,
  b.context.district_id,
  b.n_events,
  b.n_turns,
  b.n_responses,
  slot('columns')
from bouts as b
order by b.learner_key, b.event_date, b.started_at
