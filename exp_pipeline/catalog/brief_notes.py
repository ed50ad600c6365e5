"""What each field of a brief is for: for the reference page and for drafts that `exp new` writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Sections of a brief, in the order of its fields: a title, and each field with its sentence.
SECTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "What, why and who": {
        "name": "The experiment's name, which is also the file's: lower-case letters, digits and hyphens.",
        "version": "Counts up where the experiment is run again with another design; each has a lock.",
        "title": "A short name for people.",
        "hypothesis": "If we change X for a population in a context, a metric moves by so much, because of a "
        "reason, without harming something.",
        "owner": "The team that decides.",
        "on_call": "The team that is called when a guardrail breaks.",
        "risk_class": "How much harm a mistake could do: it decides which reviews are needed. Medium needs a "
        "guardrail; high also a kill rule and a ramp.",
        "decision_asked": "The question that the memo answers.",
    },
    "Design": {
        "randomisation_unit": "Who is drawn: single learners, or whole classes (then give icc too).",
        "analysis_unit": "Whose outcome is counted.",
        "hash_scheme": "How an id becomes an arm; `none` where the arms come from elsewhere.",
        "assignment": "`hash` computes the arm of an id; `table` takes it from a table drawn once with "
        "`exp assign --units`.",
        "arms": "The arms with their planned shares, which add up to 1.",
        "control": "The arm that the others are compared with.",
        "traffic": "The share of all units that are let into the experiment.",
        "strata": "Arms are drawn within each combination of these columns of the context at assignment.",
        "layer": "Experiments of one layer share its units out among them: nobody is in two.",
        "holdout": "`respect` keeps units of the global holdout out; `exempt` lets them in on purpose.",
        "eligible_roles": "Accounts of these roles may be drawn.",
        "eligibility": "Only units that fulfil every condition are analysed. An unknown value fulfils none.",
        "exclusions": "Units that are left out of the analysis. The memo counts them by reason.",
    },
    "Time": {
        "start": "First day (UTC).",
        "end": "The first day after the experiment. Primary effects stay hidden until then.",
        "looks": "Days at which effects are looked at before the end.",
        "stopping": "How looks before the end are paid for.",
        "blackout_days": "Days that do not count: nobody is let in on them, and the plan does without them.",
        "time_zone": "The time zone of the schools, as an IANA name.",
        "calendar": "A school calendar of catalog/calendars, which a ramp keeps to.",
    },
    "Metrics": {
        "primary": "The one metric that decides.",
        "secondary": "Metrics that explain; they are believed only if the primary passes.",
        "guardrails": "What must not get worse. The margin is the harm that is still acceptable.",
        "counter_metrics": "What would get worse if the primary were gamed. Watched; they decide nothing.",
        "segments": "Columns of the context at assignment by which the effect is shown apart, with the least "
        "effect that each value may have.",
    },
    "Size and certainty": {
        "mde": "The smallest effect worth finding: absolute (0.02 is 2 percentage points) or relative.",
        "alpha": "How often an effect may be claimed where there is none.",
        "power": "How often an effect of that size shall be found.",
        "icc": "How alike the learners of one class are: the intraclass correlation, from history.",
        "attrition": "The share of units that will be lost before their outcome is seen.",
        "expected_units_per_day": "New units a day; without it, history tells.",
        "practical_threshold": "The effect from which on one would act.",
        "variance_reduction": "Measures from before assignment that sharpen the estimates.",
        "multiplicity": "How p-values of several secondary metrics are corrected.",
        "families": "Metrics tested together; a family is tested only after the one it waits for succeeded.",
        "comparisons": "Each arm with control, or all arms with each other too.",
        "novelty": "How newness is told from an effect that lasts.",
        "missing_data": "What is done about units without an outcome: `observed` counts those that have one, "
        "`bounds` adds the worst and the best case, `weights` lets those seen stand for those lost.",
    },
    "Trust": {
        "contamination_limit": "The share of units in a wrong arm above which assignment is not believed.",
        "srm_alpha": "Below this p-value the arms' sizes are taken as other than planned.",
        "new_logging": "Events or bucketing are new, so that an A/A result is asked for first.",
        "receipt": "Versions of model, prompt and policies that may differ between arms, and no others.",
    },
    "Going out": {
        "ramp": "Stages in which units are let in, and what each of them asks.",
        "rollout": "Stages in which the winner is given to everybody.",
        "decision": "The rules by which the readout is decided.",
        "value": "What a unit of the primary is worth, and to how many it would apply.",
    },
    "Housekeeping": {
        "minimum_cell": "Cells with fewer units are not shown.",
        "reviews": "Reviews that were given, with the team and the day. `exp review` records them elsewhere.",
        "intake": "Impact, confidence and effort, each from 1 (little) to 5: drafts are queued by them.",
        "table": "Where a unit table from elsewhere keeps what a readout needs (`exp analyze`).",
    },
}

NOTES: Final[Mapping[str, str]] = {
    name: note for section in SECTIONS.values() for name, note in section.items()
}
