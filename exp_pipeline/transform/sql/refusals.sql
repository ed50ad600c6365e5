-- One row per landed row of the window that is quarantined or excluded before duplicates are looked at.
with judged as (
  select
    l.file,
    l.row_number,
    l.part,
    l.event_name,
    l.source,
    l.event_date,
    l.received_date,
    l.byte_offset,
    l.learner_id,
    l.learner_key,
    l.occurred_at,
    case
      when starts_with(l.reason, 'ignored_by_source') then null
      when l.reason is not null then l.reason
      when date_diff('day', l.event_date, l.arrived_date) > $lateness_days then 'too_late'
      else contract_refusal()
    end as refusal,
    case
      when starts_with(l.reason, 'ignored_by_source') then l.reason
      when list_contains($excluded_roles, l.role) then 'role:' || l.role
      when list_contains($excluded_learners, l.learner_id) then 'listed_learner'
      when exclusion_by_agent() then 'bot_user_agent'
    end as exclusion
  from landed as l
  where l.event_date >= $first_day and l.event_date < $end_day
),

counted as (
  select
    j.*,
    case
      when j.refusal is null and j.exclusion is null and m.learner_key is not null then 'superhuman_pace'
      else j.exclusion
    end as exclusion_reason
  from judged as j
  left join busy_minutes as m
    on j.learner_key = m.learner_key and date_trunc('minute', j.occurred_at) = m.minute_start
  where j.refusal is not null or j.exclusion is not null or m.learner_key is not null
)

select
  source,
  file,
  row_number,
  part,
  byte_offset,
  event_date,
  received_date,
  event_name,
  learner_id,
  case when refusal is not null then 'quarantined' else 'excluded' end as fate,
  coalesce(refusal, exclusion_reason) as reason
from counted
