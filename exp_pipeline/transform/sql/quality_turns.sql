-- One row per day and platform: turns that were submitted, answered, answered without a message, and the responses shown.
select
  event_date,
  platform,
  count(*) filter (where submitted_at is not null) as n_submitted,
  count(*) filter (where outcome = 'answered') as n_answered,
  count(*) filter (where n_responses > 0) as n_responding,
  count(*) filter (where n_responses > 0 and submitted_at is null) as n_orphans,
  coalesce(sum(n_responses) filter (where submitted_at is not null), 0) as n_responses,
  coalesce(sum(n_responses * n_responses) filter (where submitted_at is not null), 0) as n_responses_squared
from turns
group by event_date, platform
order by event_date, platform
