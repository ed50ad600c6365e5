-- One row per learner and moment after which another learner uses the same device, among kept rows of shared devices of one day.
with used as (
  select l.device_id, l.learner_key, l.occurred_at, l.event_id
  from landed as l
  inner join on_shared_devices as s on l.place = s.place
  left join dropped as d on l.place = d.place
  where d.place is null
),

turns as (
  select
    learner_key,
    occurred_at,
    learner_key <> lead(learner_key) over (partition by device_id order by occurred_at, event_id) as is_handover
  from used
)

select distinct
  learner_key,
  date_diff('microsecond', timestamp '1970-01-01 00:00:00', occurred_at) as occurred_at
from turns
where is_handover
order by learner_key, occurred_at
