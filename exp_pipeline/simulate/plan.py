"""What a simulated world consists of, and what is true in it by declaration."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Literal, Self

from pydantic import Field, model_validator

from exp_pipeline.model.base import Noun
from exp_pipeline.model.names import Slug


class ArmTruth(Noun):
    """What one arm really does to a learner, against a product without the experiment.

    Log-odds are added on the logit scale of a single answer; multipliers act on the single turn.
    """

    name: Slug
    share: float = Field(gt=0, le=1)
    mastery_log_odds: float = 0.0
    accuracy_log_odds: float = 0.0
    latency_multiplier: float = Field(default=1.0, gt=0)
    cost_multiplier: float = Field(default=1.0, gt=0)
    giveaway_multiplier: float = Field(default=1.0, ge=0)
    prompt_version: str | None = None


class Gate(Noun):
    """A draw of a layer or holdout: only units with buckets from `first` to before `end` are let through."""

    scheme: str
    salt: str
    first: int = Field(ge=0)
    end: int = Field(ge=0)


class SimulatedExperiment(Noun):
    """One experiment of the simulated product: who is drawn, when, and what each arm does.

    The end day is excluded. `schools` are positions of eligible schools; empty means every school. `traffic`
    is the share of units that flags let in on each day from the start, and nobody after its last day; None:
    everybody, always. A unit enters at its first session while its own draw lies inside; while it lies
    outside again, it has control's experience and logs nothing.
    """

    name: Slug
    version: int = Field(default=1, ge=1)
    unit: Literal["learner", "class"] = "learner"
    start: date
    end: date
    arms: tuple[ArmTruth, ...] = Field(min_length=2)
    schools: tuple[int, ...] = ()
    surface: str = "tutor_panel"
    hash_scheme: str = "sha256-v1"
    traffic: tuple[float, ...] | None = None
    gates: tuple[Gate, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"end {self.end} must come after start {self.start} (the end day is excluded)")
        total = sum(arm.share for arm in self.arms)
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"arm shares must add up to 1, they add up to {total:g}")
        return self

    def share_on(self, day: date) -> float:
        """Which share of units do flags let in on a day of the experiment?"""
        if self.traffic is None:
            return 1.0
        place = (day - self.start).days
        return self.traffic[place] if 0 <= place < len(self.traffic) else 0.0

    def shares(self) -> dict[str, float]:
        """Planned share by arm, in the order in which the hash lays them out."""
        return {arm.name: arm.share for arm in self.arms}


class Faults(Noun):
    """What goes wrong between the product and the landing folder.

    Shares are of student events; the others are counts over the whole plan. One event suffers at most one
    fault, so that every count can be found again. Retries and late events may hit any student event; the
    other faults spare assignments, because they would change who is in the experiment.
    """

    retry_share: float = Field(default=0.0, ge=0, le=0.2)
    late_share: float = Field(default=0.0, ge=0, le=0.2)
    conflicting_duplicates: int = Field(default=0, ge=0)
    too_late: int = Field(default=0, ge=0)
    clock_skewed: int = Field(default=0, ge=0)
    clock_year_ahead: int = Field(default=0, ge=0)
    not_json: int = Field(default=0, ge=0)
    not_utf8: int = Field(default=0, ge=0)
    truncated: int = Field(default=0, ge=0)
    contract_breaks: int = Field(default=0, ge=0)


class SimulationPlan(Noun):
    """A simulated world. The same plan gives the same bytes, day by day, in any order of days."""

    name: Slug = "custom"
    seed: int = Field(ge=0)
    start: date
    days: int = Field(ge=1, le=1100)
    schools: int = Field(ge=1)
    classes_per_school: int = Field(ge=1)
    learners: int = Field(ge=1)
    class_size_cv: float = Field(default=0.2, ge=0, le=0.5)
    staff_accounts: int = Field(default=0, ge=0)
    test_accounts: int = Field(default=0, ge=0)
    sessions_per_learner_day: float = Field(default=0.25, gt=0, le=3)
    turns_per_session: float = Field(default=5.0, ge=1, le=60)
    experiments: tuple[SimulatedExperiment, ...] = ()
    contaminated_units: int = Field(default=0, ge=0)
    exposure_share: float = Field(default=0.97, gt=0, le=1)
    shared_device_share: float = Field(default=0.06, ge=0, le=1)
    midnight_share: float = Field(default=0.01, ge=0, le=1)
    explicit_end_share: float = Field(default=0.6, ge=0, le=1)
    idle_gap_share: float = Field(default=0.01, ge=0, le=1)
    objective_change_share: float = Field(default=0.15, ge=0, le=1)
    mastery_intercept: float = -3.0
    ability_on_mastery: float = 1.6
    accuracy_intercept: float = 0.2
    ability_on_accuracy: float = 1.1
    class_icc: float = Field(default=0.05, ge=0, lt=1)
    id_hex_digits: int = Field(default=32, ge=10, le=32)
    faults: Faults = Faults()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.learners < self.schools * self.classes_per_school:
            raise ValueError(
                f"learners must be at least one per class ({self.schools * self.classes_per_school}), "
                f"got {self.learners}"
            )
        if self.id_hex_digits % 2:
            raise ValueError(f"id_hex_digits must be even, got {self.id_hex_digits}")
        for experiment in self.experiments:
            unknown = [school for school in experiment.schools if not 0 <= school < self.schools]
            if unknown:
                raise ValueError(
                    f"experiment {experiment.name}: schools must lie in 0..{self.schools - 1}, got {unknown}"
                )
        if self.contaminated_units and not any(e.unit == "learner" for e in self.experiments):
            raise ValueError("contaminated_units needs an experiment that draws learners")
        return self

    def day(self, index: int) -> date:
        """The day at a position, 0 being the first."""
        return self.start + timedelta(days=index)

    def index(self, day: date) -> int:
        """Position of a day in the plan; may lie outside 0..days-1."""
        return (day - self.start).days

    def all_days(self) -> tuple[date, ...]:
        """Every simulated day, in order."""
        return tuple(self.day(index) for index in range(self.days))
