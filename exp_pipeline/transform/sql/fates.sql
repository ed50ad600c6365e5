-- One row per landed row of the window that does not become an event; refusals come before duplicates.
select
  r.source,
  r.file,
  r.row_number,
  r.part,
  r.byte_offset,
  r.event_date,
  r.received_date,
  r.event_name,
  r.learner_id,
  r.fate,
  r.reason
from refusals as r
union all
select
  d.source,
  d.file,
  d.row_number,
  d.part,
  d.byte_offset,
  d.event_date,
  d.received_date,
  d.event_name,
  d.learner_id,
  d.fate,
  d.reason
from duplicates as d
left join refusals as r
  on d.received_date = r.received_date and d.file = r.file and d.row_number = r.row_number and d.part = r.part
where r.file is null
