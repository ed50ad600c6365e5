-- One row per day, event and platform: how many events there were.
select event_date, event_name, platform, count(*) as n_rows
from events
group by event_date, event_name, platform
order by event_date, event_name, platform
