"""The weekly review: how the product's numbers moved, and what was changed in the same week."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import AwareDatetime

from exp_pipeline.model.after import HoldoutMeasurement
from exp_pipeline.model.base import Noun
from exp_pipeline.model.metrics import Display
from exp_pipeline.model.readout import Outcome

WeekKind = Literal["north-star", "output", "input", "guardrail"]


class WeekMetric(Noun):
    """One metric of all learners of a week against the week before, in the metric's own unit.

    units: learners active in the week. change: this week less the one before, with an interval between
    learners; many of them are the same in both. good: whether a move is to the better; None without one.
    reason: why it cannot be told.
    """

    metric: str
    title: str
    kind: WeekKind
    drives: str = ""
    display: Display
    value: float | None = None
    before: float | None = None
    units: int = 0
    units_before: int = 0
    change: float | None = None
    ci_lower: float | None = None
    ci_upper: float | None = None
    relative: float | None = None
    moved: bool = False
    good: bool | None = None
    reason: str = ""


class WeekQuality(Noun):
    """One data-quality rule: on how many days of both weeks it warned or failed, of those it was told on."""

    rule: str
    failed: int
    warned: int
    told: int
    failed_before: int
    warned_before: int
    told_before: int


class WeekIncident(Noun):
    """One incident that was opened or closed in the week, or was open all of it."""

    rule: str
    subject: str
    severity: str
    what: Literal["opened", "closed", "opened and closed", "open"]
    opened_at: AwareDatetime
    resolved_at: AwareDatetime | None = None
    owner: str


class WeekChange(Noun):
    """Something that was changed in the week: a ramp's transition, or a version of the flags."""

    at: AwareDatetime
    kind: Literal["ramp", "flags"]
    what: str
    by: str


class WeekDecision(Noun):
    """One entry of the decision log of the week."""

    at: AwareDatetime
    experiment: str
    kind: str
    outcome: Outcome
    arm: str
    by: str


class WeekExperiment(Noun):
    """Where an experiment stood when the review was made, and what comes next."""

    experiment: str
    title: str
    owner: str
    state: str
    since: datetime | None = None
    next: str = ""


class WeekReview(Noun):
    """One ISO week (Monday to Sunday, UTC); `days` and `days_before` count days with data.

    holdouts: what was measured of held-out units at the week's end.
    """

    week: str
    first: date
    last: date
    made_at: AwareDatetime
    days: int
    days_before: int
    metrics: tuple[WeekMetric, ...]
    quality: tuple[WeekQuality, ...]
    incidents: tuple[WeekIncident, ...]
    decisions: tuple[WeekDecision, ...]
    changes: tuple[WeekChange, ...]
    experiments: tuple[WeekExperiment, ...]
    holdouts: tuple[HoldoutMeasurement, ...] = ()

    def moved(self) -> tuple[WeekMetric, ...]:
        """The metrics whose change is more than chance between learners."""
        return tuple(one for one in self.metrics if one.moved)
