-- One row per landed row of one day, in file order: its place, and hashes by which rows with something in common are found.
select
  place,
  hash(event_id) as event_hash,
  coalesce(learner_key, 0) as learner_key,
  coalesce(date_diff('minute', timestamp '1970-01-01 00:00:00', occurred_at), 0) as minute_number,
  hash(device_id) as device_hash,
  device_id is not null as has_device,
  reason is null and event_id is not null as is_usable
from landed
