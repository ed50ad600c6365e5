-- One row per learner and day of the window: session measures over the sessions that started that day; appended in code.
select
  s.learner_key as unit_key,
  s.event_date
from sessions as s
where s.event_date >= $first_day and s.event_date < $end_day
group by s.learner_key, s.event_date
