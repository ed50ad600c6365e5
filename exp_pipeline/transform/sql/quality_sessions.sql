-- One row per day and platform: sessions whose end is known, and those that the product ended itself.
select
  event_date,
  platform,
  count(*) filter (where end_reason <> 'open') as n_ended,
  count(*) filter (where end_reason = 'explicit') as n_explicit
from sessions
group by event_date, platform
order by event_date, platform
