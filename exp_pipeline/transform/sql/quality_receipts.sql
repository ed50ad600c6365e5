-- One row per day and combination of receipt values: how many responses carried it; the receipt's columns are put in by code.
select event_date, slot('receipt'), count(*) as n_rows
from events
where event_name = 'tutor_turn_response_shown'
group by all
order by all
