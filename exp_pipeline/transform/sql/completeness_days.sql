-- One row per arm, event name, event day, platform and app version of the event: events after assignment.
select u.arm, e.event_name, e.event_date, e.platform, e.app_version, count(*) as events
from events as e
inner join units as u on e.learner_key = u.unit_key and e.occurred_at >= u.assigned_at
group by u.arm, e.event_name, e.event_date, e.platform, e.app_version
order by u.arm, e.event_name, e.event_date, e.platform nulls first, e.app_version nulls first
