-- One row per day, source, event and reason: how many rows are in quarantine.
select event_date, source, event_name, reason, count(*) as n_rows
from quarantine
group by event_date, source, event_name, reason
order by event_date, source, event_name, reason
