-- One row per learner, day and stretch of it between assignments: every measure over its events; appended in code.
-- The assignment is the first event of its moment, so a stretch holds all or nothing of a moment.
with coded as (
  select
    e.*,
    event_code() as event_code,
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
    ) as last_at
  from coded as c
),

numbered as (
  select
    l.*,
    count(
      case
        when
          l.event_code = code_of('experiment_assigned')
          and (
            l.learner_key is distinct from l.last_learner
            or l.event_date is distinct from l.last_date
            or l.occurred_at <> l.last_at
          )
          then 1
      end
    ) over (
      partition by l.learner_key, l.event_date
      order by l.occurred_at, l.place, l.event_id
      rows between unbounded preceding and current row
    ) as stretch
  from lagged as l
)

select
  n.learner_key,
  n.event_date,
  min(n.occurred_at) as started_at,
  max(n.occurred_at) as ended_at,
  count(*) as n_events,
  slot('measures')
from numbered as n
group by n.learner_key, n.event_date, n.stretch
order by n.learner_key, n.event_date, started_at
