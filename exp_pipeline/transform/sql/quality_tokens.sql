-- One row per day and model: tokens in the receipts of events that carry one.
select
  event_date,
  model_name,
  count(*) as n_rows,
  cast(coalesce(sum(tokens_in), 0) as bigint) as tokens_in,
  cast(coalesce(sum(tokens_out), 0) as bigint) as tokens_out
from events
where list_contains($events, event_name) and model_name is not null
group by event_date, model_name
order by event_date, model_name
