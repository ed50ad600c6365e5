"""Briefs with ramps, and facts at which nothing speaks against the next stage."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from exp_pipeline.model.brief import Brief, Guardrail, KillRule, RampStage
from exp_pipeline.model.calendars import SchoolCalendar
from exp_pipeline.model.ramps import GuardrailFact, RampEntry, RampFacts, RampState
from exp_pipeline_tests.analysis.builders import START, brief_of

STAGES = (
    RampStage(traffic=0.01, dwell_days=2, minimum_units=50),
    RampStage(traffic=0.05, dwell_days=2, minimum_units=250),
    RampStage(traffic=0.25, dwell_days=3, minimum_units=800, approval=True),
    RampStage(traffic=0.5, dwell_days=7),
)
# Monday to Friday, 8 to 15 o'clock in a zone that changes to summer time on the 29th of March.
SCHOOL = SchoolCalendar.model_validate(
    {
        "name": "school",
        "time_zone": "Europe/Paris",
        "terms": [{"name": "spring", "first": "2026-02-23", "last": "2026-04-17"}],
        "holidays": [
            {"name": "fair", "first": "2026-03-11"},
            {"name": "walk", "first": "2026-03-19", "last": "2026-03-20"},
        ],
    }
)


def ramp_brief(**changes: Any) -> Brief:
    """A brief that goes to half of the units in four stages, with two kill rules."""
    fields: dict[str, Any] = {
        "traffic": 0.5,
        "ramp": STAGES,
        "hash_scheme": "flagd",
        "guardrails": (
            Guardrail(metric="waiting", margin=0.1, kill=KillRule(action="roll_back")),
            Guardrail(metric="giveaway", margin=0.1, kill=KillRule(action="pause")),
            Guardrail(metric="cost", margin=0.1),
        ),
    }
    return brief_of(**(fields | changes))


def at(day: int, hour: int = 10, minute: int = 0) -> datetime:
    """A moment so many days after the start."""
    moment = datetime(START.year, START.month, START.day, hour, minute, tzinfo=UTC)
    return moment + timedelta(days=day)


def on_stage(stage: int, since: datetime, **changes: Any) -> RampState:
    """A ramp that is on at a stage."""
    share = STAGES[stage - 1].traffic
    fields: dict[str, Any] = {
        "status": "on",
        "stage": stage,
        "traffic": share,
        "enrolled": share,
        "since": since,
        "sequence": stage,
    }
    return RampState(**(fields | changes))


def good_facts(brief: Brief, now: datetime, state: RampState | None = None, **changes: Any) -> RampFacts:
    """Facts of a fresh day on which everything is well and plenty of units have come."""
    newest = now.astimezone(UTC).date() - timedelta(days=1)
    fields: dict[str, Any] = {
        "now": now,
        "state": RampState() if state is None else state,
        "newest_day": newest,
        "units": 100_000,
        "guardrails": guardrail_facts(brief, newest),
        "guardrails_day": newest,
        "verdicts": {
            "srm": ("pass", "p 0.6"),
            "data_quality": ("pass", "21 verdicts"),
            "fidelity": ("pass", ""),
        },
    }
    return RampFacts(**(fields | changes))


def guardrail_facts(brief: Brief, day: date, **killed: str) -> tuple[GuardrailFact, ...]:
    """Each guardrail in each treatment arm; `killed` names arms in which a metric's kill rule acts."""
    return tuple(
        GuardrailFact(
            metric=guardrail.metric,
            arm=arm.name,
            status="fail" if killed.get(guardrail.metric) == arm.name else "pass",
            killed=killed.get(guardrail.metric) == arm.name,
            evidence=f"harm 0.3, margin {guardrail.margin:g} on {day}",
        )
        for guardrail in brief.guardrails
        for arm in brief.treatments()
    )


def entry(sequence: int, moment: datetime, action: str, stage: int, **changes: Any) -> RampEntry:
    """One transition of the sample brief's ramp."""
    fields: dict[str, Any] = {
        "experiment": "worked-example",
        "version": 1,
        "sequence": sequence,
        "at": moment,
        "action": action,
        "stage": stage,
        "stages": len(STAGES),
        "traffic": 0.0
        if action in ("pause", "roll_back", "close") or not stage
        else STAGES[stage - 1].traffic,
        "by": "schedule",
    }
    return RampEntry.model_validate(fields | changes)
