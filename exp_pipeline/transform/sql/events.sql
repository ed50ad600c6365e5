-- One row per kept event of one day, by learner, time, rank (assignment first, session end last), id; columns come from code.
select
  coalesce(c.objective_changed, false) as objective_changed,
  coalesce(c.device_handover, false) as device_handover
from landed as l
left join fates as f
  on l.received_date = f.received_date and l.file = f.file and l.row_number = f.row_number and l.part = f.part
left join session_cuts as c
  on l.received_date = c.received_date and l.file = c.file and l.row_number = c.row_number and l.part = c.part
where l.event_date = $day and f.file is null
order by
  l.learner_key,
  l.occurred_at,
  case l.event_name when 'experiment_assigned' then 0 when 'tutor_session_ended' then 2 else 1 end,
  l.event_id
