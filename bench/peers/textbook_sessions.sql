-- One row per session, as a textbook cuts them: lag and cumulative sum over sorted events, then over bouts of days.
with lagged as (
  select
    learner_key, event_date, occurred_at, event_id, event_name, objective_changed, device_handover,
    learning_objective_id,
    case event_name when 'experiment_assigned' then 0 when 'tutor_session_ended' then 2 else 1 end as place,
    lag(occurred_at) over day_in_order as last_at,
    lag(event_name) over day_in_order = 'tutor_session_ended' as last_ends,
    lag(device_handover) over day_in_order as last_handover
  from events
  window day_in_order as (
    partition by learner_key, event_date
    order by
      occurred_at,
      case event_name when 'experiment_assigned' then 0 when 'tutor_session_ended' then 2 else 1 end,
      event_id
  )
),

numbered as (
  select
    *,
    sum(
      case
        when last_at is null then 1
        when occurred_at = last_at then 0
        when last_ends or last_handover or objective_changed or occurred_at - last_at > interval 30 minutes then 1
        else 0
      end
    ) over (
      partition by learner_key, event_date order by occurred_at, place, event_id
      rows between unbounded preceding and current row
    ) as bout
  from lagged
),

bouts as (
  select
    learner_key, event_date, bout,
    min(occurred_at) as started_at,
    max(occurred_at) as ended_at,
    count(*) as n_events,
    count(*) filter (where event_name = 'tutor_turn_submitted') as n_turns,
    coalesce(max(occurred_at) filter (where place = 2) = max(occurred_at), false) as ends,
    coalesce(max(occurred_at) filter (where device_handover) = max(occurred_at), false) as handover,
    max(learning_objective_id) as objective
  from numbered
  group by learner_key, event_date, bout
),

glued as (
  select
    *,
    case
      when
        bout = 1
        and lag(ended_at) over of_learner is not null
        and started_at - lag(ended_at) over of_learner <= interval 30 minutes
        and not lag(ends) over of_learner
        and not lag(handover) over of_learner
        and coalesce(lag(objective) over of_learner = objective, true)
        then 0
      else 1
    end as is_new
  from bouts
  window of_learner as (partition by learner_key order by started_at)
),

counted as (
  select
    *,
    sum(is_new) over (
      partition by learner_key order by started_at rows between unbounded preceding and current row
    ) as session
  from glued
)

select
  learner_key,
  min(event_date) as event_date,
  min(started_at) as started_at,
  max(ended_at) as ended_at,
  cast(sum(n_events) as bigint) as n_events,
  cast(sum(n_turns) as bigint) as n_turns
from counted
group by learner_key, session
