-- One row per landed row of one day, in file order: the hash of its event id, and whether it may be a copy of another row.
select
  hash(event_id) as event_hash,
  reason is null and event_id is not null as is_usable
from landed
