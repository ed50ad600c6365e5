-- One row per student met while units are held out: when first, and whether the learner or the first class is held out.
-- That is null where no bucket is known: the unit's files landed before the holdout was declared.
with drawn as (
  select
    h.unit_id,
    min(h.bucket) < $held_out as held_out
  from holdout_units as h
  where h.draw = $draw and h.unit_type = $unit_type
  group by h.unit_id
),

met as (
  select
    s.learner_key,
    s.learner_id,
    s.event_date,
    case when $unit_type = 'class' then s.class_id else s.learner_id end as drawn_id,
    row_number() over (partition by s.learner_key order by s.started_at, s.session_id) as place
  from sessions as s
  where
    s.event_date >= $first_day
    and s.event_date < $end_day
    and s.role = 'student'
    and (s.class_id is not null or $unit_type <> 'class')
)

select
  m.learner_key as unit_key,
  m.learner_id as unit_id,
  m.drawn_id,
  m.event_date as entered,
  d.held_out
from met as m
left join drawn as d on m.drawn_id = d.unit_id
where m.place = 1
order by m.learner_key
