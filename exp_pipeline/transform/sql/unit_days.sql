-- One row per experiment, version, unit and active day at or after assignment: every measure; appended in code.
select
  u.experiment,
  u.version,
  u.unit_id,
  u.unit_key,
  d.event_date
from active_days as d
inner join units as u on d.unit_key = u.unit_key and d.event_date >= u.assigned_date
inner join experiments as x on u.experiment = x.experiment and u.version = x.version
left join learner_days on d.unit_key = learner_days.unit_key and d.event_date = learner_days.event_date
left join session_days on d.unit_key = session_days.unit_key and d.event_date = session_days.event_date
left join first_days
  on
    u.experiment = first_days.experiment
    and u.version = first_days.version
    and u.unit_key = first_days.unit_key
    and d.event_date = first_days.event_date
left join first_session_days
  on
    u.experiment = first_session_days.experiment
    and u.version = first_session_days.version
    and u.unit_key = first_session_days.unit_key
    and d.event_date = first_session_days.event_date
where d.event_date >= $first_day and d.event_date < $end_day and d.event_date < x.last_day
order by d.event_date, u.experiment, u.version, u.unit_key
