-- One row per learner and day of the days before a start on which it was seen, with the class it sat in.
with classes as (
  select
    s.learner_key,
    max(s.class_id) as class_id
  from sessions as s
  where s.event_date >= $first_day and s.event_date < $end_day and s.role = 'student'
  group by s.learner_key
)

select
  d.learner_key as unit_key,
  c.class_id,
  d.event_date
from learner_days as d
inner join classes as c on d.learner_key = c.learner_key
where d.event_date >= $first_day and d.event_date < $end_day
group by d.learner_key, c.class_id, d.event_date
order by d.learner_key, d.event_date
