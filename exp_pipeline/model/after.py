"""After shipping: how answers, cost and speed move over the weeks, and whether an effect lasts."""

from __future__ import annotations

from datetime import date
from typing import Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from exp_pipeline.model.base import Noun
from exp_pipeline.model.metrics import Display
from exp_pipeline.model.readout import Outcome, Verdict

DriftKind = Literal["number", "share", "version"]
Against = Literal["control", "holdout"]
HoldoutWindow = Literal["four_weeks", "since_start"]
HoldoutSays = Literal["better", "worse", "no_clear_difference", "cannot_tell"]


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


class HoldoutReading(Noun):
    """What did everything that was shipped do together to one metric, over one stretch of days?

    first is included, end is not. n_*: learners; clusters_*: classes where they are held out. effect: served
    less held out, in the metric's own unit, with an interval at `level`. harm_p_value: one-sided, that
    shipping did no harm; alpha: what this metric, stretch and week may spend of a year's 0.05. alarm: the
    first is below the second. reason: why it cannot be told.
    """

    metric: str
    title: str
    direction: Literal["increase", "decrease"]
    display: Display
    window: HoldoutWindow
    first: date
    end: date
    n_held_out: int = 0
    n_served: int = 0
    clusters_held_out: int | None = None
    clusters_served: int | None = None
    held_out: float | None = None
    served: float | None = None
    effect: float | None = None
    ci_lower: float | None = None
    ci_upper: float | None = None
    relative: float | None = None
    relative_ci_lower: float | None = None
    relative_ci_upper: float | None = None
    level: float = 0.95
    harm_p_value: float | None = None
    alpha: float
    says: HoldoutSays = "cannot_tell"
    alarm: bool = False
    method: str = ""
    reason: str = ""
    note: str = ""


class HoldoutShare(Noun):
    """Are as many units held out as declared? Units are classes where classes are held out.

    p_value may be looked at every week (Dirichlet-multinomial). unplaced: units met without a bucket of this
    draw; they count on neither side.
    """

    declared: float
    held_out: int = Field(ge=0)
    served: int = Field(ge=0)
    unplaced: int = Field(default=0, ge=0)
    p_value: float | None = None
    verdict: Verdict

    @property
    def found(self) -> float | None:
        """The share that is held out; None while nobody was met."""
        both = self.held_out + self.served
        return self.held_out / both if both else None


class HoldoutMet(Noun):
    """How many held-out learners met one experiment. exempt: its brief says that it takes them on purpose."""

    experiment: str
    learners: int = Field(ge=1)
    exempt: bool = False


class ShippedTogether(Noun):
    """One experiment that was decided to ship while units were held out; `undone` by a later decision.

    exempt: it reached held-out units too, so its effect is not in the difference.
    """

    experiment: str
    at: AwareDatetime
    outcome: Outcome
    arm: str = ""
    by: str
    exempt: bool = False
    undone: AwareDatetime | None = None


class HoldoutMeasurement(Noun):
    """One holdout at the end of one ISO week: who is held out, what shipped, what that did together.

    since is the first day that counts, end the first that does not. without_class: learners of no class,
    where classes are held out: they count on neither side. contaminated: held-out learners who met
    any experiment, `met` by experiment; they count as held out. reason: why nothing could be measured.
    """

    layer: str
    title: str
    owner: str
    unit: Literal["learner", "class"]
    draw: str
    week: str
    since: date
    since_declared: bool
    end: date
    share: HoldoutShare | None = None
    without_class: int = Field(default=0, ge=0)
    contaminated: int = Field(default=0, ge=0)
    met: tuple[HoldoutMet, ...] = ()
    shipped: tuple[ShippedTogether, ...] = ()
    readings: tuple[HoldoutReading, ...] = ()
    reason: str = ""

    def alarms(self) -> tuple[HoldoutReading, ...]:
        """The readings that say that shipping did harm, by more than a year of looking makes likely."""
        return tuple(one for one in self.readings if one.alarm)
