-- One row per learner and day of the window: measures over events, added up over the day's stretches; appended in code.
select
  s.learner_key as unit_key,
  s.event_date
from learner_days as s
where s.event_date >= $first_day and s.event_date < $end_day
group by s.learner_key, s.event_date
