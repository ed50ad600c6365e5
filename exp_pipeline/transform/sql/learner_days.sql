-- One row per learner and day of the window: every measure, summed over the learner's bouts; measures are appended in code.
select
  b.learner_key as unit_key,
  b.event_date
from bouts as b
where b.event_date >= $first_day and b.event_date < $end_day
group by b.learner_key, b.event_date
