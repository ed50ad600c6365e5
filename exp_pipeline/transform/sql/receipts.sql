-- One row per arm, receipt field, value, event day and platform: how many responses after assignment carried it.
with combined as (
  select
    u.arm,
    e.event_date,
    e.platform,
    e.model_name,
    e.model_version,
    e.prompt_version,
    e.retrieval_version,
    e.safety_policy_version,
    e.decoder_hash,
    count(*) as responses
  from events as e
  inner join units as u on e.learner_key = u.unit_key and e.occurred_at >= u.assigned_at
  where e.event_name = 'tutor_turn_response_shown'
  group by
    u.arm, e.event_date, e.platform, e.model_name, e.model_version, e.prompt_version, e.retrieval_version,
    e.safety_policy_version, e.decoder_hash
),

listed as (
  select arm, event_date, platform, 'model_name' as field, model_name as value, responses from combined
  union all
  select arm, event_date, platform, 'model_version' as field, model_version as value, responses from combined
  union all
  select arm, event_date, platform, 'prompt_version' as field, prompt_version as value, responses from combined
  union all
  select arm, event_date, platform, 'retrieval_version' as field, retrieval_version as value, responses from combined
  union all
  select arm, event_date, platform, 'safety_policy_version' as field, safety_policy_version as value, responses
  from combined
  union all
  select arm, event_date, platform, 'decoder_hash' as field, decoder_hash as value, responses from combined
)

select arm, field, value, event_date, platform, cast(sum(responses) as bigint) as responses
from listed
where value is not null
group by arm, field, value, event_date, platform
order by arm, field, value, event_date, platform nulls first
