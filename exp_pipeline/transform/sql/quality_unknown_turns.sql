-- One row per day and platform: events of one kind that name a turn, and those whose turn nothing else named of late.
with named as (
  select e.event_date, e.platform, e.event_id, e.turn_id
  from events as e
  where e.event_name = $asks and e.turn_id is not null and e.event_date >= $first_day
),

known as (
  select distinct e.turn_id, e.event_date
  from events as e
  where list_contains($answers, e.event_name) and e.turn_id is not null
),

paired as (
  select
    n.event_date, n.platform, n.event_id, date_diff('day', k.event_date, n.event_date) as days_ago
  from named as n
  left join known as k on n.turn_id = k.turn_id
),

found as (
  select
    event_date,
    platform,
    event_id,
    max(case when days_ago >= 0 and days_ago <= $lookback_days then 1 else 0 end) as is_known
  from paired
  group by event_date, platform, event_id
)

select event_date, platform, count(*) as n_rows, count(*) filter (where is_known = 0) as n_orphans
from found
group by event_date, platform
order by event_date, platform
