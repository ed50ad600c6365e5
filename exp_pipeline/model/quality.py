"""Data quality: how days are judged, as the policy file says it, and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Self, get_args

from pydantic import Field, StringConstraints, field_validator, model_validator

from exp_pipeline.model.base import Noun
from exp_pipeline.model.names import Identifier
from exp_pipeline.model.quality_rules import (
    DEFAULT_LIMITS,
    QUALITY_RULES,
    NotJudged,
    Opens,
    QualityLimits,
    QualityRuleName,
    Unit,
)
from exp_pipeline.model.readout import Verdict

Glob = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_*][A-Za-z0-9_.=*?-]*(/[A-Za-z0-9_*][A-Za-z0-9_.=*?-]*)*$")
]


class GatewayTotals(Noun):
    """Where the model gateway's own totals lie: CSV or Parquet with day, model_name, tokens_in, tokens_out.

    `files` is a glob below the data folder; of two files that give the same day and model, the later name
    counts. `events` are those whose receipts are added up against it: each call of a model once.
    """

    files: Glob
    events: tuple[str, ...] = ("tutor_turn_response_shown", "content_generated", "rubric_scored")


class QualityPolicy(Noun):
    """How days are judged.

    A number is over its line only where it would still be at the chosen `certainty` (one-sided, divided by
    the number of groups looked at), rows coming in clumps of `clustering` rows. Numbers of events are taken
    to vary `volume_dispersion` times as much as Poisson counts, until the past says otherwise. History is the
    same weekday of up to `weeks` weeks before, at least `minimum_weeks` of them. `runbooks_at` is the address
    under which `docs/runbooks/` is served; without one pages name the file.
    """

    certainty: float = Field(default=0.999, ge=0.9, lt=1)
    clustering: float = Field(default=4.0, ge=1, le=100)
    volume_dispersion: float = Field(default=16.0, ge=1, le=10_000)
    weeks: int = Field(default=6, ge=2, le=12)
    minimum_weeks: int = Field(default=2, ge=1, le=12)
    volume_leaves_out: tuple[str, ...] = ("experiment_assigned", "experiment_exposed")
    critical: dict[str, tuple[Identifier, ...]] = Field(default_factory=dict)
    receipt_fields: tuple[Identifier, ...] = (
        "model_name",
        "model_version",
        "prompt_version",
        "retrieval_version",
        "safety_policy_version",
        "decoder_hash",
    )
    announced: dict[Identifier, tuple[str, ...]] = Field(default_factory=dict)
    turn_lookback_days: int = Field(default=3, ge=0, le=14)
    flag_lookback_days: int = Field(default=28, ge=0, le=90)
    gateway: GatewayTotals | None = None
    runbooks_at: str = Field(default="", pattern=r"^(https?://[!-~]+/)?$")
    rules: dict[QualityRuleName, QualityLimits] = Field(default_factory=lambda: dict(DEFAULT_LIMITS))

    @field_validator("rules", mode="before")
    @classmethod
    def _completed(cls, given: object) -> object:
        """What is left out keeps its default, rule by rule and line by line."""
        if not isinstance(given, Mapping):
            return given
        unknown = sorted(str(name) for name in given if name not in DEFAULT_LIMITS)
        if unknown:
            raise ValueError(
                f"no such rule: {', '.join(unknown)}; allowed: {', '.join(get_args(QualityRuleName))}"
            )
        complete: dict[str, object] = {}
        for name, default in DEFAULT_LIMITS.items():
            own = given.get(name, {})
            if isinstance(own, QualityLimits):
                complete[name] = own
            elif isinstance(own, Mapping):
                complete[name] = {**default.model_dump(), **own}
            else:
                complete[name] = own
        return complete

    @model_validator(mode="after")
    def _lines_in_order(self) -> Self:
        if self.minimum_weeks > self.weeks:
            raise ValueError(f"minimum_weeks {self.minimum_weeks} must be at most weeks {self.weeks}")
        for name, limits in self.rules.items():
            warn, fail, rule = limits.warn_at, limits.fail_at, QUALITY_RULES[name]
            if limits.enabled and warn is None and fail is None:
                raise ValueError(f"rules.{name} needs warn_at or fail_at (or enabled: false)")
            if rule.unit == "share" and any(line is not None and line > 1 for line in (warn, fail)):
                raise ValueError(f"rules.{name} is a share: its lines must lie between 0 and 1")
            if warn is not None and fail is not None and (fail < warn) != (rule.bad == "below"):
                if fail == warn:
                    continue
                worse = "below" if rule.bad == "below" else "above"
                raise ValueError(f"rules.{name}: fail_at {fail:g} must lie {worse} warn_at {warn:g}")
        return self

    def limits(self, name: QualityRuleName) -> QualityLimits:
        """Where does a rule draw its lines?"""
        return self.rules[name]


class Carrier(Noun):
    """One group that was judged: which event, platform, ... it is, its number, and what that rests on.

    `usual` is what the number is compared with, where that is a past day's and not the rule's line.
    """

    group: str
    value: float
    part: float
    rows: float
    usual: float | None = None
    verdict: Verdict


class QualityFinding(Noun):
    """What one rule found on one day: the number of the group that carries it, its line, and the verdict.

    `value` and `threshold` are in the rule's unit. `reason` is filled where it cannot be told. `carriers` are
    the groups that stray most, worst first. `opens` says which incident the verdict opens.
    """

    day: date
    rule: QualityRuleName
    subject: str
    value: float | None = None
    threshold: float | None = None
    unit: Unit
    rows: int = 0
    verdict: Verdict
    reason: NotJudged | None = None
    owner: str
    opens: Opens = "none"
    evidence: str
    carriers: tuple[Carrier, ...] = ()


class QualityPoint(Noun):
    """What a rule said of one past day."""

    day: date
    verdict: Verdict
    value: float | None = None
    threshold: float | None = None


class QualityLine(Noun):
    """One rule on a day's page: the finding that stands, its history, and since when it has failed.

    `finding` is the day's own, or for a rule that waits for late data the newest that could be told. `since`
    is the first day of the present run of warnings and failures; days that cannot be told do not break it.
    """

    finding: QualityFinding
    history: tuple[QualityPoint, ...]
    since: date | None = None


class QualityPage(Noun):
    """Every rule on one day, worst first; `history_days` is how far back the history goes."""

    day: date
    lines: tuple[QualityLine, ...]
    history_days: int
    runbooks_at: str = ""

    def with_verdict(self, *verdicts: Verdict) -> tuple[QualityLine, ...]:
        """The lines with one of these verdicts, in order."""
        return tuple(line for line in self.lines if line.finding.verdict in verdicts)
