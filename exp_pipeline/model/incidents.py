"""Incidents: what a check found, what that opened, and what people are told of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from exp_pipeline.model.base import Noun
from exp_pipeline.model.readout import Verdict

RuleName = Literal[
    "srm", "guardrail", "conservation", "contract", "data_quality", "freshness", "run_failed", "ramp",
    "drift", "decay", "holdout",
]  # fmt: skip
Severity = Literal["warn", "page"]
Status = Literal["open", "acknowledged", "resolved"]
Change = Literal["opened", "worsened", "escalated", "acknowledged", "resolved"]

# Subjects become keys and stand in messages: visible ASCII without spaces, so that no line can be forged.
Subject = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,200}$")]


class Rule(Noun):
    """What stays the same for every incident of one rule.

    `per_day`: each day's partition is its own subject, because a later good day does not mend it. For the
    other rules a later good day ends the incident.
    """

    name: RuleName
    title: str
    hurt: str
    first_action: str
    runbook: str
    per_day: bool = False


def _rule(name: RuleName, title: str, *, hurt: str, first_action: str, per_day: bool = False) -> Rule:
    page = f"docs/runbooks/{name.replace('_', '-')}.md"
    return Rule(name=name, title=title, hurt=hurt, first_action=first_action, runbook=page, per_day=per_day)


RULES: Mapping[RuleName, Rule] = MappingProxyType(
    {
        rule.name: rule
        for rule in (
            _rule(
                "srm",
                "sample ratio mismatch",
                hurt="all who trust its results",
                first_action="hold the ramp, compare counts by platform",
            ),
            _rule(
                "guardrail",
                "guardrail breached",
                hurt="learners in this arm",
                first_action="stop the arm if a kill rule acts",
            ),
            _rule(
                "conservation",
                "rows lost or doubled",
                hurt="all readouts of this day",
                first_action="compare landed rows with fates, rerun the day",
                per_day=True,
            ),
            _rule(
                "contract",
                "table breaks its contract",
                hurt="all who read this table",
                first_action="see the first bad rows, rerun the day",
                per_day=True,
            ),
            _rule(
                "data_quality",
                "data quality",
                hurt="readouts on this data",
                first_action="hold ramps, see which event and platform",
            ),
            _rule(
                "freshness",
                "data is late",
                hurt="ramps and readouts, which wait",
                first_action="see the newest landed file and run",
            ),
            _rule(
                "run_failed",
                "runs fail",
                hurt="all who wait for these tables",
                first_action="read the run's last error, run it again",
            ),
            _rule(
                "ramp",
                "ramp stopped by itself",
                hurt="learners who were in its arms",
                first_action="see that products serve control, find the cause",
            ),
            _rule(
                "drift",
                "what is served has drifted",
                hurt="learners, and comparisons with weeks before",
                first_action="compare versions with what was announced",
            ),
            _rule(
                "decay",
                "effect does not last",
                hurt="all who count on the gain",
                first_action="read the durability rows, tell the owner",
            ),
            _rule(
                "holdout",
                "shipping together did harm",
                hurt="learners who are served what was shipped",
                first_action="read `exp holdout`, see what shipped last",
            ),
        )
    }
)
"""Every rule that can open an incident, by name."""


class Finding(Noun):
    """One verdict of a check on one subject and day. It may open, worsen or close an incident.

    `severity` is what a failure would be worth; a `warn` verdict is never a page. `number` and `threshold`
    are in the check's own unit. `badness` says how far past the line the number is (0: at the line): how many
    times the allowed amount on top, or powers of ten for a p-value. `look` tells two looks with equal results
    apart (a run id, say); equal findings count once. `runbook` is the check's own page, beside the rule's.
    """

    rule: RuleName
    subject: Subject
    day: date
    verdict: Verdict
    severity: Severity = "page"
    evidence: str
    number: float | None = None
    threshold: float | None = None
    badness: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    owner: str
    experiment: str | None = None
    look: str = ""
    runbook: str | None = None


class Incident(Noun):
    """One trouble, from its first failing finding to its recovery; one at a time for a rule and subject.

    `since` and `last_day` are the first and newest failing days; `evidence`, `number`, `threshold` and
    `badness` are those of the newest. `severity` never falls. `revision` counts what has happened to it.
    `told_at` is when people were last told, `escalations` how often since then in vain.
    """

    id: str
    rule: RuleName
    subject: Subject
    experiment: str | None
    severity: Severity
    status: Status
    opened_at: AwareDatetime
    since: date
    last_day: date
    evidence: str
    number: float | None
    threshold: float | None
    badness: float
    hurt: str
    first_action: str
    owner: str
    runbook: str
    revision: int = Field(ge=1)
    acknowledged_by: str | None = None
    resolved_at: AwareDatetime | None = None
    told_at: AwareDatetime | None = None
    escalations: int = Field(default=0, ge=0)


class Transition(Noun):
    """One change of an incident, as it is after the change; `notify` says whether people are told."""

    change: Change
    at: AwareDatetime
    incident: Incident
    notify: bool

    @property
    def key(self) -> str:
        """The same for the same change however often the log is read: the message's idempotency key."""
        return f"{self.incident.id}:{self.incident.revision}:{self.change}"


class Message(Noun):
    """What leaves for a channel: `key` is one message's for ever, `incident` groups those of one trouble."""

    key: str
    incident: str
    change: Change
    severity: Severity
    rule: RuleName
    subject: Subject
    experiment: str | None
    owner: str
    at: datetime
    runbook: str
    text: str
    escalations: int = 0
