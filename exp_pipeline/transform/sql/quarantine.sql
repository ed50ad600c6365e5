-- One row per refused row of one day, with its file, place and reason.
select source, file, row_number, part, byte_offset, event_date, received_date, event_name, reason
from fates
where event_date = $day and fate = 'quarantined'
order by source, file, row_number, part
