"""What a readout says of effects beside its estimates: receiving, segments, time, arms, families, worth."""

from __future__ import annotations

from datetime import date
from typing import Literal

from exp_pipeline.model.base import Noun


class ComplierEffect(Noun):
    """What receiving the treatment did to those who received it because they were assigned to it.

    A diagnostic beside the ITT estimate, never a decision. Effects are in the primary's own unit times its
    `per`; shares are fractions of units. `received` says what counts as receiving. `sides` is "one" where one
    arm kept to its assignment wholly, None where receiving is a dose. `first_stage` is by how much assignment
    moved what was received (for yes or no: the share of compliers); `first_stage_f` is infinite where
    assignment alone decided. Where `weak`, read `robust_*` (Anderson-Rubin): kind "interval" lies between the
    bounds, "outside" is all but what lies between them, "everything" excludes nothing and has no bounds.
    `p_value` is that of ITT. Where `estimable` is false numbers are None and `reason` says why. None of it is
    there while the readout is blinded.
    """

    arm: str
    control: str
    metric: str
    received: str
    method: str
    n_control: int
    n_treatment: int
    clusters: int | None = None
    sides: Literal["one", "two"] | None = None
    received_control: float | None = None
    received_treatment: float | None = None
    first_stage: float | None = None
    first_stage_f: float | None = None
    weak: bool = False
    itt: float | None = None
    absolute: float | None = None
    se: float | None = None
    df: float | None = None
    level: float = 0.95
    ci_lower: float | None = None
    ci_upper: float | None = None
    p_value: float | None = None
    robust_kind: Literal["interval", "outside", "everything"] | None = None
    robust_lower: float | None = None
    robust_upper: float | None = None
    estimable: bool = True
    reason: str = ""
    flags: tuple[str, ...] = ()


class ShrunkenEffect(Noun):
    """The primary effect of one arm in one segment value, drawn towards the others as far as they are alike.

    `raw*` is the value's own effect, `shrunken*` what it is learning from the other values (primary's unit
    times its `per`, intervals at the readout's level). `own_weight` is 1 where nothing is learnt. `best_rank`
    and `worst_rank`: the places, 1 for the largest effect, that no comparison of two values rules out. A cell
    that is suppressed for its size has no counts and no numbers, `reason` says so, and enters nothing that is
    shown. None of it is there while the readout is blinded.
    """

    segment: str
    value: str
    arm: str
    n_control: int | None = None
    n_treatment: int | None = None
    raw: float | None = None
    raw_lower: float | None = None
    raw_upper: float | None = None
    shrunken: float | None = None
    shrunken_lower: float | None = None
    shrunken_upper: float | None = None
    own_weight: float | None = None
    best_rank: int | None = None
    worst_rank: int | None = None
    suppressed: bool = False
    estimable: bool = True
    reason: str = ""


class ArmsDifference(Noun):
    """Whether the treatment arms differ from one another in their effect on the primary.

    `p_value` is of all arms together; `spread` is the standard deviation of true effects (primary's unit).
    None where `reason` says why. Not there while the readout is blinded.
    """

    arms: tuple[str, ...]
    method: str = ""
    p_value: float | None = None
    spread: float | None = None
    reason: str = ""
    flags: tuple[str, ...] = ()


class NoveltyDay(Noun):
    """The primary effect of one arm on one day since each unit's own assignment (day 0 is that day).

    Of units that have had that whole day by the end of the data; primary's unit times its `per`. Where
    `estimable` is false, `reason` says why. Not there while the readout is blinded.
    """

    day: int
    arm: str
    n_control: int
    n_treatment: int
    absolute: float | None = None
    ci_lower: float | None = None
    ci_upper: float | None = None
    estimable: bool = True
    reason: str = ""


class NoveltySplit(Noun):
    """The primary effect of one arm after `split_days` days since assignment less that before, same units.

    Days count from each unit's assignment: early is day 0 to `split_days` - 1, late from `split_days` to
    `until_day` (excluded), both complete for every unit that counts. Sums and counts are of one day on
    average, so that stretches of unequal length compare; a share is of units that did it at all in a stretch,
    so both stretches are then taken equally long. Primary's unit times its `per`. Not there while blinded.
    """

    arm: str
    split_days: int
    until_day: int | None = None
    n_control: int = 0
    n_treatment: int = 0
    early: float | None = None
    late: float | None = None
    absolute: float | None = None
    ci_lower: float | None = None
    ci_upper: float | None = None
    p_value: float | None = None
    estimable: bool = True
    reason: str = ""


class NoveltyTrend(Noun):
    """How the primary effect of one arm moves from week to week since assignment, and where it settles.

    `slope` is the change of the effect a week (primary's unit times its `per`), `p_value` its own;
    `constant_p_value` asks whether one effect would do for all weeks. `steady` holds from `steady_from_week`
    (0 is the first week) on; `steady_because` says by which rule. `half_life_weeks`: of an exponential decay,
    where it is the rule. Weeks of the same units count once (joint covariance by unit or cluster). Where
    `estimable` is false, `reason` says why. Not there while the readout is blinded.
    """

    arm: str
    weeks: int = 0
    slope: float | None = None
    slope_lower: float | None = None
    slope_upper: float | None = None
    p_value: float | None = None
    constant_p_value: float | None = None
    steady: float | None = None
    steady_lower: float | None = None
    steady_upper: float | None = None
    steady_from_week: int | None = None
    steady_method: Literal["decay", "stable periods", "last period", "declared"] | None = None
    steady_because: str = ""
    half_life_weeks: float | None = None
    estimable: bool = True
    reason: str = ""
    flags: tuple[str, ...] = ()


class FamilyResult(Noun):
    """One family of metrics in one arm: whether its gate is open, and whether it succeeded.

    `after` is the family (or "primary") that must succeed first; None for the first. `gate_open` is whether
    it did, in this arm: rows of a closed family are exploratory whatever their p-values say. `succeeded`:
    every metric of the family has an adjusted p-value below alpha, or at least one (`needs`). `alpha` is the
    level that the adjusted p-values are held against. Not there while the readout is blinded.
    """

    name: str
    arm: str
    metrics: tuple[str, ...]
    after: str | None = None
    gate_open: bool = True
    succeeded: bool = False
    needs: Literal["all", "any"] = "any"
    correction: str = ""
    alpha: float = 0.05
    smallest_p_adjusted: float | None = None
    because: str = ""


class Impact(Noun):
    """What full rollout of one arm would be worth, with its interval and assumptions.

    Money is in `currency`. `value` is expected under a flat prior (the estimate is then its mean), the
    interval is that of the effect. `probability_positive`: that shipping is worth more than not shipping, the
    effect drawn from a normal around the estimate. `loss_if_shipped` and `loss_if_not_shipped`: what the
    wrong decision costs on average, were this one taken. `outcomes`: how many more at full rollout, where the
    primary is a number a unit (None for ratios and quantiles). `cost_per_outcome`: extra cost for one more
    outcome, from `cost_metric` where the readout has one, with Fieller's interval: `cost_interval` "interval"
    lies between the bounds, "outside" is all but what lies between, "everything" has none. Empty while
    blinded.
    """

    arm: str
    value: float | None
    value_lower: float | None
    value_upper: float | None
    currency: str
    probability_positive: float | None = None
    loss_if_shipped: float | None = None
    loss_if_not_shipped: float | None = None
    outcomes: float | None = None
    cost_metric: str | None = None
    cost_per_outcome: float | None = None
    cost_per_outcome_lower: float | None = None
    cost_per_outcome_upper: float | None = None
    cost_interval: Literal["interval", "outside", "everything"] | None = None
    cost_reason: str = ""
    assumptions: tuple[str, ...]


class CumulativePoint(Noun):
    """The primary effect of one arm on all data up to the end of one day."""

    day: date
    arm: str
    n_control: int
    n_treatment: int
    absolute: float | None
    ci_lower: float | None
    ci_upper: float | None
    always_valid_lower: float | None
    always_valid_upper: float | None


class NoveltyPoint(Noun):
    """The primary effect of one arm in one week since each unit's own assignment (week 0 is the first).

    Only units that have had that whole week. Where `estimable` is false, `reason` says why.
    """

    week: int
    arm: str
    n_control: int
    n_treatment: int
    absolute: float | None
    ci_lower: float | None
    ci_upper: float | None
    estimable: bool = True
    reason: str = ""


class NoveltyContrast(Noun):
    """The primary effect of one arm in its last complete week less that in its first, on the same units.

    `absolute` below zero for a metric that is to increase means that the effect wears off.
    """

    arm: str
    early_week: int
    late_week: int | None
    n_control: int
    n_treatment: int
    early: float | None
    late: float | None
    absolute: float | None
    ci_lower: float | None
    ci_upper: float | None
    p_value: float | None
    estimable: bool = True
    reason: str = ""


class SegmentDifference(Noun):
    """Whether one arm's effect on the primary differs between the values of a declared segment.

    p_value is of all values together. `opposite_p_value` asks whether the arm helps some and harms others.
    `spread` is the standard deviation of true effects (metric's unit). None where `reason` says why.
    """

    segment: str
    arm: str
    p_value: float | None = None
    opposite_p_value: float | None = None
    spread: float | None = None
    reason: str = ""
    flags: tuple[str, ...] = ()


class RobustnessRow(Noun):
    """The primary effect estimated another way.

    `kind`: "headline" is the estimate itself, "sensitivity" another defensible analysis, "diagnostic" one
    that answers another question or is known to err, "bounds" an interval without a point. `method` and `why`
    as in `Estimate`. Not there while the readout is blinded.
    """

    arm: str
    variant: str
    absolute: float | None
    ci_lower: float | None
    ci_upper: float | None
    p_value: float | None
    n: int
    note: str = ""
    kind: Literal["headline", "sensitivity", "diagnostic", "bounds"] = "sensitivity"
    method: str = ""
    why: str = ""
