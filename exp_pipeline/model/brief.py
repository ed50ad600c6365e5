"""The brief: one experiment's contract, as people write it in `data/catalog/experiments`."""

from __future__ import annotations

from datetime import date
from typing import Literal, Self

from pydantic import Field, model_validator

from exp_pipeline.model.base import Noun
from exp_pipeline.model.decision_rules import DecisionRules as DecisionRules
from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.intake import Intake, Review
from exp_pipeline.model.names import Identifier, Slug
from exp_pipeline.model.populations import Condition, Exclusion

HashScheme = Literal["sha256-v1", "percent-v1", "flagd", "flagd-v2", "flagd-v1", "growthbook", "none"]


class Hypothesis(Noun):
    """If we change X for population Y in context Z, metric M moves by D because R, without harming G."""

    change: str
    population: str
    context: str
    moves: str
    because: str
    without_harming: str

    def sentence(self) -> str:
        return (
            f"If we {self.change} for {self.population} in {self.context}, {self.moves}, "
            f"because {self.because}, without harming {self.without_harming}."
        )


class Arm(Noun):
    """One arm and its planned share of the units in the experiment."""

    name: Slug
    share: float = Field(gt=0, le=1)
    description: str = ""


class Effect(Noun):
    """A size of effect, absolute (in the metric's own unit) or relative to control. Exactly one is given."""

    absolute: float | None = None
    relative: float | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.absolute is None) == (self.relative is None):
            raise ValueError("give exactly one of absolute or relative")
        return self


class KillRule(Noun):
    """When to stop without a person: harm beyond `margin` shown at the one-sided level `alpha`."""

    alpha: float = Field(default=0.01, gt=0, lt=0.5)
    action: Literal["pause", "roll_back"] = "roll_back"


class Guardrail(Noun):
    """A metric that must not get worse by more than its margin (a positive number).

    `basis`: `interval` judges the one-sided confidence bound on harm; `point` judges the estimate itself
    against a budget (for rare events where no test can have power).
    """

    metric: Identifier
    margin: float = Field(gt=0)
    margin_kind: Literal["absolute", "relative"] = "absolute"
    basis: Literal["interval", "point"] = "interval"
    kill: KillRule | None = None


class Segment(Noun):
    """A declared segment (a column of the frozen context at assignment) with its equity floor."""

    column: Identifier
    floor: Effect | None = None


class VarianceReduction(Noun):
    """Covariates from before assignment that sharpen the estimate."""

    method: Literal["none", "cuped"] = "cuped"
    covariates: tuple[Identifier, ...] = ()
    pre_days: int = Field(default=28, ge=1, le=180)


class Receipt(Noun):
    """The pinned model receipt: which version fields may differ between arms; all others must be equal."""

    may_differ: tuple[
        Literal[
            "model_name",
            "model_version",
            "prompt_version",
            "retrieval_version",
            "safety_policy_version",
            "decoder_hash",
        ],
        ...,
    ] = ()


RampCheck = Literal["srm", "guardrails", "guardrails_powered", "data_quality", "fidelity"]


class RampStage(Noun):
    """One stage of a ramp: share of traffic, and what must hold before the next one begins.

    `dwell_days` is the shortest stay, `minimum_units` counts those in the experiment by then. `checks` must
    have been judged on the newest day and found good (`guardrails`: none fails; `guardrails_powered`: each
    one passes). `approval`: a person must let the experiment *into* this stage. No stage is entered while the
    newest complete day ended more than `freshness_hours` ago.
    """

    traffic: float = Field(gt=0, le=1)
    dwell_days: int = Field(default=1, ge=0)
    minimum_units: int = Field(default=0, ge=0)
    approval: bool = False
    checks: tuple[RampCheck, ...] = ("srm", "guardrails")
    freshness_hours: int = Field(default=36, ge=1, le=336)


class Stopping(Noun):
    """How repeated looks are paid for, so that the errors of all looks together stay at alpha.

    `always_valid` holds however often one looks. The others spend alpha over the planned looks (Lan-DeMets)
    and are narrower at the end; they say nothing at looks that were not planned. `gamma` is the power of
    `kim_demets`: above 1 spends late, 1 evenly.
    """

    rule: Literal["always_valid", "obrien_fleming", "pocock", "kim_demets"] = "always_valid"
    gamma: float = Field(default=1.0, gt=0, le=10)


class NoveltyPlan(Noun):
    """How newness is told from a lasting effect.

    The first `split_days` days since a unit's assignment are held against the days after them.
    `steady_from_week` (1 is the first week since assignment) says from when on the effect counts as settled;
    without it, the readout says what it takes.
    """

    split_days: int = Field(default=7, ge=1, le=180)
    steady_from_week: int | None = Field(default=None, ge=1, le=52)


class Family(Noun):
    """Metrics that are tested together, and the family that must have succeeded before these may be."""

    name: Slug
    metrics: tuple[Identifier, ...] = Field(min_length=1)
    after: Slug | None = None


class ValueModel(Noun):
    """What one unit of the primary metric is worth, and to how many it would apply."""

    value_per_unit: float = 0.0
    cost_per_unit: float = 0.0
    eligible_population: int = Field(default=0, ge=0)
    currency: str = "USD"


class TableMetric(Noun):
    """A metric read from columns of a unit table: one column, or numerator and denominator."""

    numerator: str
    denominator: str | None = None
    title: str = ""
    type: Literal["mean", "proportion", "ratio"] = "mean"
    direction: Literal["increase", "decrease"] = "increase"
    display: Literal["share", "number", "ms", "usd", "minutes"] = "number"
    definition: str = ""


class TableMapping(Noun):
    """Where a unit table from elsewhere keeps what a readout needs (`exp analyze`).

    `received` (whether, or how much of, the treatment was taken) and `weight` (units that a row stands for)
    enter the estimates written beside the memo, not the memo.
    """

    unit_id: str
    arm: str
    arms: dict[str, str] = Field(default_factory=dict)
    cluster: str | None = None
    stratum: str | None = None
    assigned_at: str | None = None
    exposed: str | None = None
    metrics: dict[Identifier, TableMetric] = Field(default_factory=dict)
    covariates: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    received: str | None = None
    weight: str | None = None


# Changing one of these after the start changes what the readout may claim; the rest is description.
ANALYSIS_FIELDS = (
    "version", "hash_scheme", "assignment", "layer", "holdout", "randomisation_unit", "analysis_unit",
    "arms", "control", "traffic", "strata", "eligible_roles", "eligibility", "exclusions", "start", "end",
    "looks", "stopping", "primary", "secondary", "guardrails", "counter_metrics", "segments", "mde", "alpha",
    "power", "practical_threshold", "variance_reduction", "multiplicity", "families", "comparisons",
    "novelty", "missing_data", "contamination_limit", "srm_alpha", "new_logging", "receipt", "decision",
)  # fmt: skip


class Brief(Noun):
    """Everything that is promised about one experiment before it starts.

    `assignment`: `hash` computes a unit's arm from its id by `hash_scheme`; `table` takes it from the table
    drawn once with `exp assign --units`, and by the hash for units that came after the draw. `holdout`:
    `respect` keeps the units of the global holdout out; `exempt` says on purpose that it does not.
    `eligibility` and `exclusions`: only units that fulfil every condition and no exclusion are analysed.
    `counter_metrics`: watched against gaming; they never decide. `missing_data`: what is done about units
    without an outcome: `observed` counts those that have one, `bounds` adds the worst and best case,
    `weights` lets those seen stand for those lost. `comparisons`: each arm with `control`, or `all` with each
    other. `new_logging`: events or bucketing are new, so that an A/A result is asked for first.
    `ramp`: stages of the experiment's own traffic; `rollout`: those of the winner after a decision to ship.
    `calendar`: the school calendar (`data/catalog/calendars`) outside whose hours no stage is entered.
    """

    name: Slug
    version: int = Field(default=1, ge=1)
    title: str
    hypothesis: Hypothesis
    owner: str
    on_call: str
    risk_class: Literal["low", "medium", "high"] = "low"
    decision_asked: str = ""

    randomisation_unit: Literal["learner", "class"] = "learner"
    analysis_unit: Literal["learner"] = "learner"
    hash_scheme: HashScheme = "sha256-v1"
    assignment: Literal["hash", "table"] = "hash"
    arms: tuple[Arm, ...] = Field(min_length=2)
    control: Slug
    traffic: float = Field(default=1.0, gt=0, le=1)
    strata: tuple[Identifier, ...] = ()
    layer: Slug | None = None
    holdout: Literal["respect", "exempt"] = "respect"
    eligible_roles: tuple[Literal["student", "teacher"], ...] = ("student",)
    eligibility: tuple[Condition, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()

    start: date
    end: date
    looks: tuple[date, ...] = ()
    stopping: Stopping = Stopping()
    blackout_days: tuple[date, ...] = ()
    time_zone: str = "UTC"

    primary: Identifier
    secondary: tuple[Identifier, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()
    counter_metrics: tuple[Identifier, ...] = ()
    segments: tuple[Segment, ...] = ()
    mde: Effect
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    power: float = Field(default=0.8, gt=0.5, lt=1)
    icc: float = Field(default=0.0, ge=0, lt=1)
    attrition: float = Field(default=0.0, ge=0, lt=1)
    expected_units_per_day: float | None = Field(default=None, gt=0)
    practical_threshold: Effect | None = None
    variance_reduction: VarianceReduction = VarianceReduction()
    multiplicity: Literal["holm", "benjamini-hochberg"] = "holm"
    families: tuple[Family, ...] = ()
    comparisons: Literal["control", "all"] = "control"
    novelty: NoveltyPlan = NoveltyPlan()
    missing_data: Literal["observed", "bounds", "weights"] = "observed"
    contamination_limit: float = Field(default=0.01, ge=0, le=1)
    srm_alpha: float = Field(default=0.001, gt=0, lt=0.5)
    new_logging: bool = False
    receipt: Receipt = Receipt()
    ramp: tuple[RampStage, ...] = ()
    rollout: tuple[RampStage, ...] = ()
    calendar: Slug | None = None
    decision: DecisionRules = DecisionRules()
    value: ValueModel = ValueModel()
    minimum_cell: int = Field(default=10, ge=1)
    reviews: tuple[Review, ...] = ()
    intake: Intake | None = None
    table: TableMapping | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = [arm.name for arm in self.arms]
        if len(set(names)) != len(names):
            raise ValueError(f"arm names must differ: {', '.join(names)}")
        if self.control not in names:
            raise ValueError(f"control {self.control!r} is not one of the arms: {', '.join(names)}")
        if self.assignment == "table" and self.hash_scheme == "none":
            raise ValueError("hash_scheme is needed for units that come after the table was drawn: none")
        total = sum(arm.share for arm in self.arms)
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"arm shares must add up to 1, they add up to {total:g}")
        if self.end <= self.start:
            raise ValueError(f"end {self.end} must come after start {self.start} (the end day is excluded)")
        for look in self.looks:
            if not self.start < look <= self.end:
                raise ValueError(
                    f"look {look} must lie after start {self.start} and not after end {self.end}"
                )
        if self.stopping.rule != "always_valid" and self.expected_units_per_day is None and self.looks:
            raise ValueError(
                f"stopping rule {self.stopping.rule} shares alpha out by planned units: "
                "give expected_units_per_day, or take always_valid"
            )
        if self.risk_class == "high" and self.decision.guardrails.underpowered == "say":
            raise ValueError(
                "decision: a high-risk change may not ship with a guardrail that is not shown to hold; "
                "rule guardrails says underpowered: say"
            )
        everything = self.metric_names()
        twice = sorted({metric for metric in everything if everything.count(metric) > 1})
        if twice:
            raise ValueError(f"each metric has one role; named twice: {', '.join(twice)}")
        _check_families(self.families, (self.primary, *self.secondary))
        _check_population(self.eligibility, self.exclusions)
        return self

    def treatments(self) -> tuple[Arm, ...]:
        """The arms that are compared with control, in the brief's order."""
        return tuple(arm for arm in self.arms if arm.name != self.control)

    def shares(self) -> dict[str, float]:
        """Planned share by arm name, in the brief's order."""
        return {arm.name: arm.share for arm in self.arms}

    def metric_names(self) -> tuple[str, ...]:
        """Every metric that the readout shows: primary, secondary, guardrails, counter-metrics, in order."""
        guardrails = (guardrail.metric for guardrail in self.guardrails)
        return (self.primary, *self.secondary, *guardrails, *self.counter_metrics)

    def analysis_digest(self) -> str:
        """Digest of the fields that the lock protects."""
        whole = self.model_dump(mode="json")
        return digest_of({field: whole[field] for field in ANALYSIS_FIELDS})


def _check_families(families: tuple[Family, ...], tested: tuple[str, ...]) -> None:
    """Families name metrics that are tested, each once, and wait only for families that stand before them."""
    before: dict[str, Family] = {}
    taken: dict[str, str] = {}
    for family in families:
        if family.name in before:
            raise ValueError(f"families must have different names: {family.name}")
        if family.after is not None and family.after not in before:
            raise ValueError(
                f"families stand in the order of their tests: {family.name} comes after {family.after}, "
                f"which is none of those above it ({', '.join(before) or 'there is none'})"
            )
        for metric in family.metrics:
            if metric not in tested:
                raise ValueError(
                    f"families hold the primary and secondary metrics ({', '.join(tested)}), not: {metric}"
                )
            if metric in taken:
                raise ValueError(f"families {taken[metric]} and {family.name} both hold: {metric}")
            taken[metric] = family.name
        before[family.name] = family


def _check_population(eligibility: tuple[Condition, ...], exclusions: tuple[Exclusion, ...]) -> None:
    """A column has one condition; what is asked for is not left out by an exclusion as well."""
    asked = [condition.column for condition in eligibility]
    twice = sorted({column for column in asked if asked.count(column) > 1})
    if twice:
        raise ValueError(f"eligibility has one condition a column, with all its values: {', '.join(twice)}")
    for condition in eligibility:
        out = {value for one in exclusions if one.column == condition.column for value in one.values}
        if set(condition.values) <= out:
            raise ValueError(f"exclusions leave out everything that eligibility asks of: {condition.column}")
