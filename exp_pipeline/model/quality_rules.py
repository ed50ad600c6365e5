"""The rules of data quality: what each asks of which table, where to look first, and its usual lines."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import Field

from exp_pipeline.model.base import Noun
from exp_pipeline.model.incidents import Severity

QualityRuleName = Literal[
    "volume",
    "answered_turns",
    "responses_per_turn",
    "explicit_ends",
    "critical_nulls",
    "contract_breaks",
    "unreadable_rows",
    "retries",
    "conflicting_duplicates",
    "orphan_responses",
    "orphan_feedback",
    "orphan_exposures",
    "orphan_appeals",
    "gateway_tokens",
    "arrival_2h",
    "arrival_24h",
    "late_rows",
    "too_late_rows",
    "clock_skew",
    "receipt_drift",
    "deprecated_fields",
]
Unit = Literal["share", "values", "days"]
NotJudged = Literal["too_few_rows", "too_little_history", "too_early", "not_configured", "unreadable_totals"]
OpensAt = Literal["fail", "warn", "never"]
Opens = Literal["none", "warn", "page"]


class QualityRule(Noun):
    """What stays the same for a rule: what it asks, of which table, in which unit, and where to look first.

    `bad` says on which side of its line the number is bad. A day is ripe for the rule `ripe_after_days` after
    its end: what arrives later is part of what is judged.
    """

    name: QualityRuleName
    title: str
    question: str
    subject: str
    unit: Unit = "share"
    bad: Literal["above", "below"] = "above"
    first_look: str
    ripe_after_days: int = 0

    @property
    def runbook(self) -> str:
        """The rule's page, from the top of the repository."""
        return f"docs/runbooks/quality/{self.name.replace('_', '-')}.md"


class QualityLimits(Noun):
    """Where a rule draws its lines, and what follows.

    `warn_at` and `fail_at` are in the rule's unit; without one that verdict is never given. Groups (an event
    on a platform, say) of fewer than `minimum_rows` are not judged. `opens_at` says from which verdict on an
    incident is opened, `urgency` whether it wakes somebody.
    """

    warn_at: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    fail_at: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    minimum_rows: int = Field(default=200, ge=1)
    owner: str = Field(default="data-platform", min_length=1, max_length=60)
    opens_at: OpensAt = "fail"
    urgency: Severity = "warn"
    enabled: bool = True


def _rule(
    name: QualityRuleName, title: str, question: str, subject: str, *, first_look: str, **more: object
) -> QualityRule:
    fields = {"name": name, "title": title, "question": question, "subject": subject}
    return QualityRule.model_validate({**fields, "first_look": first_look, **more})


QUALITY_RULES: Mapping[QualityRuleName, QualityRule] = MappingProxyType(
    {
        rule.name: rule
        for rule in (
            _rule(
                "volume",
                "Volume",
                "How far is the number of events from the same weekday of earlier weeks?",
                "events",
                first_look="Is it one event, one platform, or all? Is the landing file of the day whole?",
            ),
            _rule(
                "answered_turns",
                "Turns with a response",
                "Which share of submitted turns has a response?",
                "turns",
                bad="below",
                first_look="Compare platforms; then model requests with error codes in the same hours.",
            ),
            _rule(
                "responses_per_turn",
                "Responses per turn",
                "By how much did responses per turn fall from the day before?",
                "turns",
                first_look="Which platform fell? Look for a client release or a provider outage that day.",
            ),
            _rule(
                "explicit_ends",
                "Sessions with an explicit end",
                "By how much did the share of sessions with an explicit end fall below its usual?",
                "sessions",
                first_look="Which platform fell? Clients that close without an event end by silence.",
            ),
            _rule(
                "critical_nulls",
                "Empty critical fields",
                "Which share of an event's rows lacks a field that it must not lack?",
                "events",
                first_look="Which event and field, and since which client version?",
            ),
            _rule(
                "contract_breaks",
                "Contract breaks",
                "Which share of rows was refused for a value, a range or a rule of its contract?",
                "quarantine",
                first_look="Table quarantine: which reason and event grew, from which source?",
            ),
            _rule(
                "unreadable_rows",
                "Unreadable rows",
                "Which share of landed rows could not be read at all?",
                "quarantine",
                first_look="Table quarantine: file and byte offset of the first row; was the file cut off?",
            ),
            _rule(
                "retries",
                "Retries",
                "Which share of landed rows was sent before, with the same content?",
                "landed_events",
                first_look="Which source? Clients send again when the collector answers slowly.",
            ),
            _rule(
                "conflicting_duplicates",
                "Conflicting duplicates",
                "Which share of landed rows reuses an event id for other content?",
                "quarantine",
                first_look="Which event? An id made from too little (a counter, a second) is used twice.",
            ),
            _rule(
                "orphan_responses",
                "Responses without a turn",
                "Which share of turns with a response has no submitted message?",
                "turns",
                first_look="Which platform? Is the submit event lost, or the turn id another one?",
            ),
            _rule(
                "orphan_feedback",
                "Feedback on unknown turns",
                "Which share of feedback names a turn that nobody knows?",
                "events",
                first_look="Do feedback and response take their turn id from the same place?",
            ),
            _rule(
                "orphan_exposures",
                "Exposures without assignment",
                "Which share of exposures is of a unit that was never assigned?",
                "exposures",
                first_look="Which experiment? Does the assignment event leave before the page changes?",
            ),
            _rule(
                "orphan_appeals",
                "Appeals without a flag",
                "Which share of appeals is against a turn that was never flagged?",
                "events",
                first_look="Are flags of the safety service missing, or do appeals name another id?",
            ),
            _rule(
                "gateway_tokens",
                "Tokens against the gateway",
                "How far are the tokens logged from what the gateway counted?",
                "events",
                first_look="Which model, and which direction? Compare the number of responses first.",
            ),
            _rule(
                "arrival_2h",
                "Arrived within 2 hours",
                "Which share of events arrived within two hours?",
                "events",
                bad="below",
                first_look="Which platform? Look at the collector's queue and at clients that were offline.",
            ),
            _rule(
                "arrival_24h",
                "Arrived within 24 hours",
                "Which share of events arrived within a day?",
                "events",
                bad="below",
                first_look="Which platform? Was a landing file delivered a day late?",
                ripe_after_days=1,
            ),
            _rule(
                "late_rows",
                "Late rows",
                "Which share of events arrived more than a day after their day?",
                "events",
                first_look="Which platform or source? What depends on these days is computed again.",
                ripe_after_days=2,
            ),
            _rule(
                "too_late_rows",
                "Too late rows",
                "Which share of rows came after the lateness limit and is kept out?",
                "quarantine",
                first_look="Which source? A backfill with a larger lateness takes them in.",
            ),
            _rule(
                "clock_skew",
                "Skewed clocks",
                "Which share of events carries a client clock that is ahead?",
                "events",
                first_look="Which platform and client version? The server's time is used for these.",
            ),
            _rule(
                "receipt_drift",
                "Unannounced receipts",
                "How many new model, prompt or policy versions appeared that nobody announced?",
                "events",
                unit="values",
                first_look="Ask the owner of the model gateway; announce the version, or hold readouts.",
            ),
            _rule(
                "deprecated_fields",
                "Deprecated contracts in use",
                "How many days are left to the last day of a field or version that is still sent?",
                "events",
                unit="days",
                bad="below",
                first_look="Which client version still sends it? `exp events` says what replaces it.",
            ),
        )
    }
)
"""Every rule of data quality, by name, in the order in which they are shown."""


def _limits(**fields: object) -> QualityLimits:
    return QualityLimits.model_validate(fields)


DEFAULT_LIMITS: Mapping[QualityRuleName, QualityLimits] = MappingProxyType(
    {
        "volume": _limits(warn_at=0.3, fail_at=0.5, urgency="page"),
        "answered_turns": _limits(warn_at=0.95, fail_at=0.8, owner="tutor-platform", urgency="page"),
        "responses_per_turn": _limits(warn_at=0.05, fail_at=0.2, owner="tutor-platform"),
        "explicit_ends": _limits(warn_at=0.25, fail_at=0.5, minimum_rows=50, owner="learning-data"),
        "critical_nulls": _limits(warn_at=0.02, fail_at=0.2, minimum_rows=50),
        "contract_breaks": _limits(warn_at=0.01, fail_at=0.05, minimum_rows=50),
        "unreadable_rows": _limits(warn_at=0.01, fail_at=0.05),
        "retries": _limits(warn_at=0.05, fail_at=0.25),
        "conflicting_duplicates": _limits(warn_at=0.002, fail_at=0.02),
        "orphan_responses": _limits(warn_at=0.02, fail_at=0.1, owner="tutor-platform"),
        "orphan_feedback": _limits(warn_at=0.05, fail_at=0.25, minimum_rows=30, owner="learning-data"),
        "orphan_exposures": _limits(warn_at=0.02, fail_at=0.1, minimum_rows=50, owner="experimentation"),
        "orphan_appeals": _limits(warn_at=0.05, fail_at=0.25, minimum_rows=20, owner="trust-and-safety"),
        "gateway_tokens": _limits(warn_at=0.02, fail_at=0.1, owner="tutor-platform"),
        "arrival_2h": _limits(warn_at=0.95, fail_at=0.8),
        "arrival_24h": _limits(warn_at=0.99, fail_at=0.95),
        "late_rows": _limits(warn_at=0.05, fail_at=0.2),
        "too_late_rows": _limits(warn_at=0.01, fail_at=0.05),
        "clock_skew": _limits(warn_at=0.02, fail_at=0.1, owner="client-platform"),
        "receipt_drift": _limits(fail_at=1, minimum_rows=10, owner="tutor-platform"),
        "deprecated_fields": _limits(warn_at=30, fail_at=0, minimum_rows=10),
    }
)
"""The lines of every rule where the policy file says nothing else."""
