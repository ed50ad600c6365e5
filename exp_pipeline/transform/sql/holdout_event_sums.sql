-- One row per student of a holdout and its others: measures over events added up over days of a stretch since the first.
select
  m.unit_key,
  slot('measures')
from members as m
inner join learner_days as s on m.unit_key = s.learner_key
where s.event_date >= m.entered and s.event_date >= $first_day and s.event_date < $end_day
group by m.unit_key
order by m.unit_key
