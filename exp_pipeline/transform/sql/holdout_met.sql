-- One row per experiment and held-out student who met it on a day of the holdout.
select
  e.experiment,
  e.unit_id
from exposures as e
inner join members as m on e.unit_key = m.unit_key
where m.held_out and e.event_date >= $first_day and e.event_date < $end_day
group by e.experiment, e.unit_id
order by e.experiment, e.unit_id
