-- One row per assigned arm (null: none), arm met, surface, day and day since assignment: learners exposed and exposures.
select
  u.arm,
  x.arm as exposed_arm,
  x.surface,
  x.event_date,
  date_diff('day', u.assigned_date, x.event_date) as day_since_assignment,
  count(distinct x.unit_id) as units,
  cast(sum(x.exposures) as bigint) as exposures
from exposures as x
left join units as u on x.unit_id = u.unit_id
group by u.arm, x.arm, x.surface, x.event_date, date_diff('day', u.assigned_date, x.event_date)
order by u.arm nulls first, exposed_arm, x.surface, x.event_date, day_since_assignment nulls first
