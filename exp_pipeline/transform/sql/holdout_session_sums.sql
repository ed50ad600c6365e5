-- One row per student of a holdout and its others: measures over sessions added up over days of a stretch since the first.
select
  s.learner_key as unit_key,
  slot('measures')
from sessions as s
where
  s.event_date >= $first_day
  and s.event_date < $end_day
  and exists (
    select 1 from members as m
    where m.unit_key = s.learner_key and m.entered <= s.event_date
  )
group by s.learner_key
order by s.learner_key
