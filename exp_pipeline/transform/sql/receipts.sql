-- One row per arm, receipt field and value: how many responses after assignment carried it.
with shown as (
  select
    u.arm, e.model_name, e.model_version, e.prompt_version, e.retrieval_version, e.safety_policy_version, e.decoder_hash
  from events as e
  inner join units as u on e.learner_key = u.unit_key and e.occurred_at >= u.assigned_at
  where e.event_name = 'tutor_turn_response_shown'
),

listed as (
  select arm, 'model_name' as field, model_name as value from shown
  union all
  select arm, 'model_version' as field, model_version as value from shown
  union all
  select arm, 'prompt_version' as field, prompt_version as value from shown
  union all
  select arm, 'retrieval_version' as field, retrieval_version as value from shown
  union all
  select arm, 'safety_policy_version' as field, safety_policy_version as value from shown
  union all
  select arm, 'decoder_hash' as field, decoder_hash as value from shown
)

select arm, field, value, count(*) as responses
from listed
where value is not null
group by arm, field, value
order by arm, field, value
