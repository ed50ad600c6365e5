"""After shipping: how answers, cost and speed move over the weeks, and whether an effect lasts."""

from __future__ import annotations

from datetime import date
from typing import Literal, Self

from pydantic import Field, model_validator

from exp_pipeline.model.base import Noun
from exp_pipeline.model.readout import Verdict

DriftKind = Literal["number", "share", "version"]
Against = Literal["control", "holdout"]


class DriftLimits(Noun):
    """From which change on drift is told: relative for numbers (0.2 is 20 %), absolute for shares."""

    warn_at: float = Field(gt=0, allow_inf_nan=False)
    fail_at: float = Field(gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.fail_at < self.warn_at:
            raise ValueError(f"fail_at {self.fail_at:g} must be at least warn_at {self.warn_at:g}")
        return self


class DriftPolicy(Noun):
    """How drift is judged: each day against the same weekday of so many weeks, with so much certainty.

    `certainty` is shared out over everything that is watched on a day. `clustering`: rows come in clumps of
    about so many that share their fate.
    """

    weeks: int = Field(default=6, ge=3, le=26)
    minimum_weeks: int = Field(default=3, ge=3, le=26)
    minimum_rows: int = Field(default=200, ge=1)
    certainty: float = Field(default=0.999, gt=0.5, lt=1)
    clustering: float = Field(default=4.0, ge=1, allow_inf_nan=False)
    numbers: DriftLimits = DriftLimits(warn_at=0.2, fail_at=0.5)
    shares: DriftLimits = DriftLimits(warn_at=0.02, fail_at=0.1)
    versions: DriftLimits = DriftLimits(warn_at=0.1, fail_at=0.3)
    owner: str = "tutor-platform"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.minimum_weeks > self.weeks:
            raise ValueError(f"minimum_weeks {self.minimum_weeks} must be at most weeks {self.weeks}")
        return self


class DriftDay(Noun):
    """What drift is judged by of one day. `content` names the lake's files that it was counted from.

    versions: of each receipt field, the responses by its value. Numbers are None where nothing gives them.
    """

    day: date
    content: str
    turns: int = Field(ge=0)
    answered: int = Field(ge=0)
    responses: int = Field(ge=0)
    sessions: int = Field(ge=0)
    safety_flags: int = Field(ge=0)
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    tokens_in: int = Field(default=0, ge=0)
    tokens_out: int = Field(default=0, ge=0)
    cost_usd: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    versions: dict[str, dict[str, int]] = Field(default_factory=dict)


class DriftFinding(Noun):
    """Does one thing stray from its own weeks before on one day?

    value, usual: in the thing's own unit. change: relative for numbers, a difference of shares otherwise.
    noise: the change that chance alone may make, at the policy's certainty. reason: why it cannot be told.
    """

    day: date
    subject: str
    kind: DriftKind
    title: str
    value: float | None = None
    usual: float | None = None
    change: float | None = None
    noise: float | None = None
    threshold: float | None = None
    rows: int = 0
    weeks: int = 0
    verdict: Verdict
    reason: str = ""
    evidence: str


class DurabilityRow(Noun):
    """Does an experiment's effect still hold some weeks after its end?

    gain: the effect in the last `days` days of the experiment; later: in as many days up to `due`; change:
    later less gain for the same units, with a two-sided interval. p_value: one-sided, that the effect has not
    decayed; alpha: what this look and arm may spend of 0.05. cumulative: the effect on everything from
    assignment to `due`. reason: why it cannot be told.
    """

    experiment: str
    version: int
    snapshot: str
    metric: str
    title: str
    arm: str
    against: Against
    days_after_end: int
    due: date
    days: int
    n_control: int = 0
    n_treatment: int = 0
    gain: float | None = None
    later: float | None = None
    change: float | None = None
    ci_lower: float | None = None
    ci_upper: float | None = None
    level: float = 0.95
    p_value: float | None = None
    alpha: float | None = None
    cumulative: float | None = None
    cumulative_ci_lower: float | None = None
    cumulative_ci_upper: float | None = None
    estimable: bool = True
    decayed: bool = False
    reason: str = ""
    note: str = ""
