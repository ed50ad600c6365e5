-- One row per day, event and platform: number, time of arrival, clocks ahead; counts of empty fields are put in by code.
select
  event_date,
  event_name,
  platform,
  count(*) as n_rows,
  count(*) filter (where date_diff('microsecond', occurred_at, received_at) <= 7200000000) as n_within_2h,
  count(*) filter (where date_diff('microsecond', occurred_at, received_at) <= 86400000000) as n_within_24h,
  count(*) filter (where date_diff('day', event_date, arrived_date) > 1) as n_late,
  count(*) filter (where clock_skewed) as n_skewed,
  slot('empty')
from events
group by event_date, event_name, platform
order by event_date, event_name, platform
