-- One row per learner and stay in a class: the roster's stays, and what events tell of the time it leaves open.
with bounds as (
  select
    r.learner_key,
    r.start_at,
    r.end_at,
    lag(r.end_at) over (partition by r.learner_key order by r.start_at) as free_from,
    row_number() over (partition by r.learner_key order by r.start_at) as place,
    lead(r.start_at) over (partition by r.learner_key order by r.start_at) as next_start
  from roster as r
),

-- free: from free_from (null: always) to free_to (null: for ever) the roster says nothing of the learner
free as (
  select b.learner_key, b.free_from, b.start_at as free_to
  from bounds as b
  where b.place = 1 or b.free_from < b.start_at
  union all
  select b.learner_key, b.end_at as free_from, null as free_to
  from bounds as b
  where b.next_start is null and b.end_at is not null
),

listed as (
  select distinct r.learner_key
  from roster as r
),

told as (
  select
    s.learner_id, s.learner_key, s.class_id, s.teacher_id, s.school_id, s.district_id, s.start_at, s.end_at
  from stays as s
  left join listed as l on s.learner_key = l.learner_key
  where l.learner_key is null
  union all
  select
    s.learner_id, s.learner_key, s.class_id, s.teacher_id, s.school_id, s.district_id,
    case when f.free_from > s.start_at then f.free_from else s.start_at end as start_at,
    case when f.free_to < s.end_at or s.end_at is null then f.free_to else s.end_at end as end_at
  from stays as s
  inner join free as f
    on
      s.learner_key = f.learner_key
      and (f.free_to is null or s.start_at < f.free_to)
      and (f.free_from is null or s.end_at is null or s.end_at > f.free_from)
)

select
  learner_id, learner_key, class_id, teacher_id, school_id, district_id, start_at, end_at
from told
union all
select
  learner_id, learner_key, class_id, teacher_id, school_id, district_id, start_at, end_at
from roster
order by learner_key, start_at
