"""A readout: every fact that a memo shows, in the order in which it is believed."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import Field

from exp_pipeline.model.base import Noun
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.checks import (
    ArmCount,
    Cause,
    IntegrityCheck,
    SampleRatioDay,
    SampleRatioGroup,
    Verdict,
)
from exp_pipeline.model.decisions import ArmDecision, Decision, Outcome, RuleResult, SegmentValue
from exp_pipeline.model.effects import (
    ArmsDifference,
    ComplierEffect,
    CumulativePoint,
    FamilyResult,
    Impact,
    NoveltyContrast,
    NoveltyDay,
    NoveltyPoint,
    NoveltySplit,
    NoveltyTrend,
    RobustnessRow,
    SegmentDifference,
    ShrunkenEffect,
)
from exp_pipeline.model.metrics import Display
from exp_pipeline.model.populations import UnitsLeftOut

__all__ = [
    "LOCK_DAYS_ALLOWED",
    "ArmCount",
    "ArmDecision",
    "ArmsDifference",
    "BriefChange",
    "Cause",
    "ComplierEffect",
    "CumulativePoint",
    "Decision",
    "Estimate",
    "ExclusionCount",
    "FamilyResult",
    "GuardrailResult",
    "GuardrailStatus",
    "Impact",
    "InputCause",
    "InputChange",
    "IntegrityCheck",
    "LockState",
    "Movement",
    "NoveltyContrast",
    "NoveltyDay",
    "NoveltyPoint",
    "NoveltySplit",
    "NoveltyTrend",
    "Outcome",
    "PowerAchieved",
    "Provenance",
    "Readout",
    "RobustnessRow",
    "Role",
    "RuleResult",
    "SampleRatioDay",
    "SampleRatioGroup",
    "SegmentDifference",
    "SegmentValue",
    "ShrunkenEffect",
    "SinceLast",
    "Verdict",
]

# A daily run may be late by a weekend; more days of data than these could have shaped the brief.
LOCK_DAYS_ALLOWED = 3
GuardrailStatus = Literal["pass", "fail", "underpowered", "cannot_tell"]
Role = Literal["primary", "secondary", "guardrail", "counter"]


class Estimate(Noun):
    """One effect: treatment arm against control, for one metric, window and (perhaps) segment.

    Where `estimable` is false, every number after `n_treatment` is None and `reason` says why.
    Values are in the metric's own unit times its `per`; shares are fractions (0.02 is 2 percentage points).
    `why` says in one clause why this estimator: the entry of the table that chose it. Where `suppressed`, the
    cell is withheld for its size or its neighbour's: counts are 0 and mean nothing, numbers are None.
    """

    experiment: str
    snapshot: str
    metric: str
    title: str
    role: Role
    display: Display
    direction: Literal["increase", "decrease"]
    arm: str
    control: str
    segment: str | None = None
    segment_value: str | None = None
    window_days: int | None = None
    method: str
    why: str = ""
    n_control: int
    n_treatment: int
    clusters: int | None = None
    waiting: int = 0
    estimable: bool = True
    reason: str = ""
    mean_control: float | None = None
    mean_treatment: float | None = None
    absolute: float | None = None
    se: float | None = None
    df: float | None = None
    level: float = 0.95
    ci_lower: float | None = None
    ci_upper: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    family: str | None = None
    relative: float | None = None
    relative_ci_lower: float | None = None
    relative_ci_upper: float | None = None
    relative_method: str | None = None
    standardised: float | None = None
    variance_reduction: float | None = None
    always_valid_lower: float | None = None
    always_valid_upper: float | None = None
    look: int | None = None
    look_rule: str | None = None
    look_lower: float | None = None
    look_upper: float | None = None
    look_p_value: float | None = None
    look_alpha_spent: float | None = None
    stopped_estimate: float | None = None
    stopped_lower: float | None = None
    stopped_upper: float | None = None
    confirmatory: bool = True
    adjusted: bool = False
    suppressed: bool = False
    flags: tuple[str, ...] = ()


class GuardrailResult(Noun):
    """One guardrail in one arm: the harm, its one-sided bound, the margin, and what follows.

    `needed_units`: with so many units in the larger arm an underpowered verdict would be settled with the
    brief's power, if harm is as estimated; None where nothing is open, or where no affordable number would
    do. `detectable_harm`: the smallest margin that these data could have shown to hold with the brief's power
    were there no harm (margin's unit). Guardrails are shown while the readout is blinded too.
    """

    metric: str
    title: str
    arm: str
    status: GuardrailStatus
    basis: Literal["interval", "point"]
    margin: float
    margin_kind: Literal["absolute", "relative"]
    display: Display
    harm: float | None
    harm_bound: float | None
    p_value: float | None
    kill_action: Literal["pause", "roll_back"] | None = None
    kill_triggered: bool = False
    reason: str
    needed_units: int | None = None
    detectable_harm: float | None = None


class PowerAchieved(Noun):
    """What was planned and what the data could have found.

    Effects are in the primary's unit times its `per`. `achieved_mde`: found with the brief's power by these
    data; `achieved_power`: of these data for the planned effect; `mde_at_horizon`: what the planned end would
    find, should units come as they did. While the readout is blinded all of it rests on the spread of all
    units together, since that of single arms tells of the effect.
    """

    planned_mde: float
    planned_units_per_arm: int | None
    observed_units_per_arm: int
    achieved_mde: float | None
    achieved_power: float | None = None
    mde_at_horizon: float | None = None
    note: str = ""


class BriefChange(Noun):
    """One analysis field that changed after the brief was locked.

    `first_seen` is since when the field has been known to hold its value; None before any run saw it.
    """

    field: str
    locked_value: str
    current_value: str
    first_seen: datetime | None = None


class LockState(Noun):
    """Whether the brief stands as it was locked.

    `days_seen` counts the experiment's days whose data were already there when the brief was locked (the
    first day itself is the start, and counts as none); None where that is not known. `gaps` are what kept
    the brief from being ready at that moment: it started all the same.
    """

    locked_digest: str | None
    current_digest: str
    locked_at: datetime | None = None
    days_seen: int | None = None
    gaps: tuple[str, ...] = ()
    changes: tuple[BriefChange, ...] = ()

    @property
    def late(self) -> bool:
        """Whether the experiment had run for days when its brief was locked."""
        return self.days_seen is not None and self.days_seen > LOCK_DAYS_ALLOWED


class Provenance(Noun):
    """Where every number comes from, so that it can be computed again."""

    snapshot: str
    brief_digest: str
    metrics_digest: str
    code_version: str
    run_id: str
    as_of: date
    source: str
    inputs: dict[str, str] = Field(default_factory=dict)


class ExclusionCount(Noun):
    """Rows that did not become events of the experiment's days, by reason."""

    kind: Literal["excluded", "quarantined"]
    reason: str
    rows: int


InputCause = Literal[
    "late data",
    "correction",
    "made anew",
    "new days",
    "brief",
    "metrics",
    "code",
    "limits",
    "lock",
    "unblinding",
    "earlier A/A",
    "unknown",
]


class InputChange(Noun):
    """One kind of input in which two snapshots differ: why, of which tables, on which event days."""

    why: InputCause
    tables: tuple[str, ...] = ()
    days: tuple[date, ...] = ()


class Movement(Noun):
    """By how much one estimate moved between two readouts; `in_old_errors` in standard errors of the first.

    Only effects that both readouts may show; `moved` is None where one of them has no estimate.
    """

    metric: str
    title: str
    role: Role
    display: Display
    arm: str
    n_control: int
    n_treatment: int
    before: float | None
    now: float | None
    moved: float | None
    in_old_errors: float | None


class Unblinding(Noun):
    """Who recorded when, and why, that effects were to be seen before a planned look or the horizon.

    by: a team, not a person; empty in records that were made before it was asked for.
    """

    at: datetime
    by: str = ""
    reason: str


class SinceLast(Noun):
    """What changed since the readout before: its snapshot, which inputs are others, which estimates moved."""

    snapshot: str
    as_of: date | None
    inputs: tuple[InputChange, ...]
    movements: tuple[Movement, ...]


class Readout(Noun):
    """Everything a memo shows about one experiment at one snapshot.

    While `blinded` is true, `estimates` and `unadjusted` hold guardrails only, and `segments`,
    `segment_differences`, `shrunken`, `compliance`, `arms_compared`, `arms_difference`, `families`,
    `cumulative`, `novelty`, `novelty_days`, `novelty_contrasts`, `novelty_splits`, `novelty_trend`,
    `robustness`, `impact` are empty.
    """

    schema_version: Literal["1.0", "1.1"] = "1.1"
    experiment: str
    brief: Brief
    as_of: date
    horizon_reached: bool
    blinded: bool
    blinding_reason: str
    unblinded_because: str = ""
    unblindings: tuple[Unblinding, ...] = ()
    method: tuple[str, ...]
    lock: LockState
    counts: tuple[ArmCount, ...]
    sample_ratio: tuple[SampleRatioDay, ...]
    sample_ratio_groups: tuple[SampleRatioGroup, ...] = ()
    integrity: tuple[IntegrityCheck, ...]
    estimates: tuple[Estimate, ...]
    unadjusted: tuple[Estimate, ...] = ()
    segments: tuple[Estimate, ...] = ()
    segment_differences: tuple[SegmentDifference, ...] = ()
    shrunken: tuple[ShrunkenEffect, ...] = ()
    compliance: tuple[ComplierEffect, ...] = ()
    arms_compared: tuple[Estimate, ...] = ()
    arms_difference: ArmsDifference | None = None
    families: tuple[FamilyResult, ...] = ()
    guardrails: tuple[GuardrailResult, ...]
    cumulative: tuple[CumulativePoint, ...]
    novelty: tuple[NoveltyPoint, ...] = ()
    novelty_days: tuple[NoveltyDay, ...] = ()
    novelty_contrasts: tuple[NoveltyContrast, ...] = ()
    novelty_splits: tuple[NoveltySplit, ...] = ()
    novelty_trend: tuple[NoveltyTrend, ...] = ()
    robustness: tuple[RobustnessRow, ...] = ()
    power: PowerAchieved | None = None
    impact: tuple[Impact, ...] = ()
    exclusions: tuple[ExclusionCount, ...] = ()
    left_out: tuple[UnitsLeftOut, ...] = ()
    decision: Decision
    limits: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()
    since_last: SinceLast | None = None
    provenance: Provenance
