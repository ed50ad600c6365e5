-- One row per content item and learning objective that events name: when first and last seen, and how often.
select
  e.content_id,
  e.learning_objective_id,
  min(e.occurred_at) as first_seen_at,
  max(e.occurred_at) as last_seen_at,
  count(*) as n_events
from events as e
where e.content_id is not null
group by e.content_id, e.learning_objective_id
order by content_id, learning_objective_id
