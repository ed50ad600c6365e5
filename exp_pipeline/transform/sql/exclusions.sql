-- One row per excluded row of one day, with its reason.
select source, file, row_number, part, byte_offset, event_date, received_date, event_name, learner_id, reason
from fates
where event_date = $day and fate = 'excluded'
order by source, file, row_number, part
