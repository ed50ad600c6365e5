"""Policies: the rules of time, sessions and exclusion, as people write them in `data/catalog/policies`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from exp_pipeline.model.after import DriftPolicy
from exp_pipeline.model.base import Noun
from exp_pipeline.model.quality import QualityPolicy

# Late events, open sessions and the weeks that a day is compared with must still be there.
LEAST_RETENTION_DAYS = 60
RawText = Literal["prompt", "completion", "answer_text", "feedback_text"]


class TimePolicy(Noun):
    """When an event counts as late, and when a client's clock is not believed.

    The contract allows 5 minutes of skew at most.
    """

    lateness_days: int = Field(default=3, ge=0, le=60)
    skew_minutes: int = Field(default=5, ge=0, le=5)


class SessionPolicy(Noun):
    """When a learner's run of events ends. A gap of exactly `gap_minutes` still belongs."""

    gap_minutes: int = Field(default=30, ge=1, le=240)
    cap_hours: int = Field(default=12, ge=1, le=12)
    cut_on_objective: bool = True
    cut_on_shared_device: bool = True


class ExclusionPolicy(Noun):
    """Whose events do not count: kept apart with a reason, and counted in every readout."""

    roles: tuple[str, ...] = ("staff", "test")
    learner_ids: tuple[str, ...] = ()
    user_agent_contains: tuple[str, ...] = ()
    superhuman_events_per_minute: int = Field(default=240, ge=10)


class DebugEnvelopePolicy(Noun):
    """What share of raw texts is kept, redacted, apart from the lake and for how long; 0 keeps none.

    At most a fifth: more would be a copy, not a sample.
    """

    share: float = Field(default=0.0, ge=0, le=0.2, allow_inf_nan=False)
    days: int = Field(default=14, ge=1, le=90)
    fields: tuple[RawText, ...] = Field(default=("prompt", "completion"), min_length=1)

    @property
    def is_on(self) -> bool:
        return self.share > 0


class IncidentPolicy(Noun):
    """When a page that nobody takes is told again, and how old the newest day may be.

    Told again after `escalate_minutes`, then after twice that, and so on, `escalations` times at most.
    `fresh_within_hours` counts from the end of the newest complete day.
    """

    escalate_minutes: int = Field(default=30, ge=5, le=1440)
    escalations: int = Field(default=3, ge=0, le=10)
    fresh_within_hours: int = Field(default=12, ge=1, le=240)


RetainedTable = Literal[
    "landed", "events", "quarantine", "exclusions", "learner_days", "sessions", "turns", "assignments",
    "exposures", "unit_days", "srm_daily", "guardrails_daily", "data_quality",
]  # fmt: skip


# Each table, what it is made from, and how many days longer that must be kept, so that nothing that is still
# there would be made from less: days lean on their neighbours, data quality on weeks before.
_MADE_FROM: Mapping[RetainedTable, tuple[tuple[RetainedTable, ...], int]] = {
    "events": (("landed",), 7),
    "quarantine": (("landed",), 7),
    "exclusions": (("landed",), 7),
    "learner_days": (("events",), 7),
    "sessions": (("events",), 7),
    "turns": (("events",), 7),
    "assignments": (("events",), 7),
    "exposures": (("events",), 7),
    "unit_days": (("learner_days", "sessions", "assignments"), 7),
    "srm_daily": (("assignments",), 7),
    "guardrails_daily": (("unit_days",), 7),
    "data_quality": (("events", "quarantine", "turns", "sessions", "assignments"), 70),
}


class RetentionPolicy(Noun):
    """For how many days each table's partitions are kept, counted from the end of their day.

    What is not named is kept for good. `snapshots_of_decided`: frozen datasets of experiments that people
    have decided on, counted from that decision; the newest two, and those that the log of decisions names,
    always stay.
    """

    tables: dict[RetainedTable, int] = Field(default_factory=dict)
    snapshots_of_decided: int | None = Field(default=None, ge=30)

    @field_validator("tables")
    @classmethod
    def _long_enough(cls, given: dict[RetainedTable, int]) -> dict[RetainedTable, int]:
        short = sorted(f"{name}: {days}" for name, days in given.items() if days < LEAST_RETENTION_DAYS)
        if short:
            raise ValueError(
                f"tables must be kept for at least {LEAST_RETENTION_DAYS} days (late events and weekdays of "
                f"earlier weeks are read from them): {', '.join(short)}"
            )
        return given

    @model_validator(mode="after")
    def _sources_are_kept_longer(self) -> Self:
        for table, (sources, longer) in _MADE_FROM.items():
            kept = self.tables.get(table)
            for source in sources:
                own = self.tables.get(source)
                if own is not None and (kept is None or own < kept + longer):
                    told = "for good" if kept is None else f"{kept} days"
                    raise ValueError(
                        f"tables.{source}: {own} days, but {table}, which is made from it, is kept {told}; "
                        f"keep {source} at least {longer} days longer, or {table} could not be made again"
                    )
        return self


class Policies(Noun):
    """Every policy in one noun, with the defaults that hold where nothing is written."""

    time: TimePolicy = TimePolicy()
    session: SessionPolicy = SessionPolicy()
    exclusion: ExclusionPolicy = ExclusionPolicy()
    quality: QualityPolicy = QualityPolicy()
    debug_envelope: DebugEnvelopePolicy = DebugEnvelopePolicy()
    incidents: IncidentPolicy = IncidentPolicy()
    drift: DriftPolicy = DriftPolicy()
    retention: RetentionPolicy = RetentionPolicy()
    landing_line_limit_bytes: int = Field(default=4_000_000, ge=1_000)
