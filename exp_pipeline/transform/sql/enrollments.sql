-- One row per learner and stay in a class: from the first event there until the first event elsewhere (excluded).
with placed as (
  select
    b.learner_key,
    b.learner_id,
    b.class_id,
    b.teacher_id,
    b.school_id,
    b.district_id,
    b.started_at,
    lag(b.class_id) over (partition by b.learner_key order by b.started_at) as previous_class
  from sessions as b
  where b.class_id is not null and b.role = 'student'
),

moves as (
  select p.*, lead(p.started_at) over (partition by p.learner_key order by p.started_at) as end_at
  from placed as p
  where p.previous_class is null or p.previous_class <> p.class_id
)

select
  learner_id,
  learner_key,
  class_id,
  teacher_id,
  school_id,
  district_id,
  started_at as start_at,
  end_at
from moves
order by learner_key, start_at
