-- One row per unit and week since its assignment that has begun: what the unit did in it, for every metric that has weeks.
with totals as (
  select
    u.unit_key,
    cast(floor(date_diff('day', u.assigned_date, d.event_date) / 7) as integer) as week,
    count(d.event_date) as observed_days,
    slot('sums')
  from units as u
  inner join unit_days as d on u.unit_key = d.unit_key
  group by u.unit_key, cast(floor(date_diff('day', u.assigned_date, d.event_date) / 7) as integer)
)

select
  u.experiment,
  u.version,
  u.unit_id,
  u.unit_key,
  w.week,
  u.assigned_date + 7 * w.week as first_day,
  u.assigned_date + 7 * (w.week + 1) <= cast($known_until as date) as complete,
  coalesce(t.observed_days, 0) as observed_days,
  slot('columns')
from units as u
inner join weeks as w on u.assigned_date + 7 * w.week < cast($known_until as date)
left join totals as t on u.unit_key = t.unit_key and w.week = t.week
order by u.unit_id, w.week
