-- One row per arm and event name: events after assignment, and units that have at least one.
select u.arm, e.event_name, count(*) as events, count(distinct e.learner_key) as units
from events as e
inner join units as u on e.learner_key = u.unit_key and e.occurred_at >= u.assigned_at
group by u.arm, e.event_name
order by u.arm, e.event_name
