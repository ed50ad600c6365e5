"""Which estimator answers for which metric: one table, read by machine and by people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import polars as pl

from exp_pipeline.analysis.effects import estimators
from exp_pipeline.analysis.effects.estimators import Answer, TwoArms, TwoSums, moments_of, whole
from exp_pipeline.analysis.tables.methods import UNITS_PER_COVARIATE
from exp_pipeline.analysis.unit_sums import UNKNOWN
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.model.metrics import Estimand, Metric, MetricType, step_column
from exp_pipeline.stats.results import NotEstimable

__all__ = ["METHODS", "Answer", "Comparison", "compare", "moments_of", "scaled"]


@dataclass(frozen=True, slots=True)
class Method:
    """How is a kind of metric estimated, and how is that said in one sentence? From sums, or from rows."""

    sentence: str
    from_sums: Callable[[TwoSums], Answer] | None = None
    from_rows: Callable[[TwoArms], Answer] | None = None


_ADJUSTED = "adjusted for what was known before assignment (CUPED, slopes pooled over the arms)"
_CLUSTERS = (
    "standard errors by randomised cluster, as units of one cluster are alike "
    "(CR2 with Satterthwaite degrees of freedom when clusters are few)"
)
_ALONE = "as units were randomised one by one"
_STRATA = "within the strata of the draw (fixed effects, variance robust to unequal spread)"
_SHARES = "Difference of shares"
_RATIOS = "Difference of ratios of sums, delta method by unit"
_MEAN = Method(f"Difference of means, Welch's t, {_ALONE}.", estimators.means)
_MEAN_ADJUSTED = Method(f"Difference of means, {_ADJUSTED}.", estimators.adjusted)
_MEAN_STRATA = Method(f"Difference of means, {_STRATA}.", estimators.within_strata)
_MEAN_STRATA_ADJUSTED = Method(f"Difference of means, {_STRATA}, {_ADJUSTED}.", estimators.within_strata)
_SHARE = Method(f"{_SHARES} with Newcombe's interval, {_ALONE}.", estimators.proportions)
_SHARE_ADJUSTED = Method(f"{_SHARES}, {_ADJUSTED}.", estimators.adjusted)
_SHARE_STRATA = Method(f"{_SHARES}, {_STRATA}.", estimators.within_strata)
_SHARE_STRATA_ADJUSTED = Method(f"{_SHARES}, {_STRATA}, {_ADJUSTED}.", estimators.within_strata)
_RATIO = Method(f"{_RATIOS}, {_ALONE}.", estimators.ratios)
_RATIO_ADJUSTED = Method(f"{_RATIOS}, {_ADJUSTED}.", estimators.adjusted_ratios)
_RATIO_STRATA = Method(f"{_RATIOS}, {_STRATA}.", estimators.ratios_within_strata)
_RATIO_STRATA_ADJUSTED = Method(f"{_RATIOS}, {_STRATA}, {_ADJUSTED}.", estimators.ratios_within_strata)
_QUANTILE = Method(
    "Difference of quantiles, interval by unit so that many rows of one unit count as one.",
    from_rows=estimators.quantiles,
)
_CLUSTERED = Method(f"Difference of means over units, {_CLUSTERS}.", from_rows=estimators.clustered)
_CLUSTERED_ADJUSTED = Method(
    f"Difference of means over units, {_ADJUSTED}, {_CLUSTERS}.", from_rows=estimators.clustered
)
_CLUSTERED_RATIO = Method(
    f"Difference of ratios of sums, {_CLUSTERS}.", from_rows=estimators.clustered_ratios
)
_CLUSTERED_RATIO_ADJUSTED = Method(
    f"Difference of ratios of sums, {_ADJUSTED}, {_CLUSTERS}.", from_rows=estimators.clustered_ratios
)
_CLUSTERED_QUANTILE = Method(
    "Difference of quantiles, interval by randomised cluster.", from_rows=estimators.clustered_quantiles
)

# What is compared, clusters randomised?, strata?, covariates? Strata of clusters enter the same regression.
METHODS: dict[tuple[Estimand, bool, bool, bool], Method] = {
    ("mean", False, False, False): _MEAN,
    ("mean", False, False, True): _MEAN_ADJUSTED,
    ("mean", False, True, False): _MEAN_STRATA,
    ("mean", False, True, True): _MEAN_STRATA_ADJUSTED,
    ("mean", True, False, False): _CLUSTERED,
    ("mean", True, False, True): _CLUSTERED_ADJUSTED,
    ("mean", True, True, False): _CLUSTERED,
    ("mean", True, True, True): _CLUSTERED_ADJUSTED,
    ("proportion", False, False, False): _SHARE,
    ("proportion", False, False, True): _SHARE_ADJUSTED,
    ("proportion", False, True, False): _SHARE_STRATA,
    ("proportion", False, True, True): _SHARE_STRATA_ADJUSTED,
    ("proportion", True, False, False): _CLUSTERED,
    ("proportion", True, False, True): _CLUSTERED_ADJUSTED,
    ("proportion", True, True, False): _CLUSTERED,
    ("proportion", True, True, True): _CLUSTERED_ADJUSTED,
    ("ratio", False, False, False): _RATIO,
    ("ratio", False, False, True): _RATIO_ADJUSTED,
    ("ratio", False, True, False): _RATIO_STRATA,
    ("ratio", False, True, True): _RATIO_STRATA_ADJUSTED,
    ("ratio", True, False, False): _CLUSTERED_RATIO,
    ("ratio", True, False, True): _CLUSTERED_RATIO_ADJUSTED,
    ("ratio", True, True, False): _CLUSTERED_RATIO,
    ("ratio", True, True, True): _CLUSTERED_RATIO_ADJUSTED,
    ("quantile", False, False, False): _QUANTILE,
    ("quantile", False, True, False): _QUANTILE,
    ("quantile", True, False, False): _CLUSTERED_QUANTILE,
    ("quantile", True, True, False): _CLUSTERED_QUANTILE,
}


_OF_ESTIMAND: dict[Estimand, str] = {
    "mean": "one number a unit",
    "proportion": "yes or no a unit",
    "ratio": "a ratio of sums over units",
    "quantile": "a quantile of many values of each unit",
}
_STRATA_UNUSED = (
    "strata of the draw are not used: quantiles are compared over all units, whose interval is then "
    "rather too wide"
)


def why_of(estimand: Estimand, *, clustered: bool, stratified: bool, covariates: int) -> str:
    """Why does the table choose this estimator? One clause: what is compared, and how it was randomised."""
    drawn = "whole clusters randomised" if clustered else "units randomised one by one"
    within = " within strata" if stratified and estimand != "quantile" else ""
    known = f", {covariates} columns known before assignment" if covariates else ""
    return f"{_OF_ESTIMAND[estimand]}, {drawn}{within}{known}"


# What the number of one unit is, where the name of the estimator does not tell.
_OF_ONE_UNIT: dict[MetricType, str] = {
    "retention": "A unit counts when it was active on any day from the first that counts to the last.",
    "funnel": "A unit counts when it took every step in order within the window; all units are in the base.",
    "first_time_to": "Time restricted at the window: units that never got there count all of it.",
    "gain": "Only units with both scores have a gain, and who has them may depend on the arm.",
    "composite": "A unit's number is the weighted mean of its parts, each on its declared scale.",
    "cost_per_outcome": "All costs count, also of units without an outcome.",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came out for one metric and arm? `effect` is in the metric's own unit, its `per` applied.

    why: which entry of the table chose the estimator, in one clause.
    """

    effect: Answer
    sentence: str
    adjusted: bool
    flags: tuple[str, ...]
    why: str = ""


def compare(
    units: MetricUnits,
    arm: str,
    control: str,
    *,
    clustered: bool,
    adjusted: bool,
    level: float,
    segment: tuple[str, str] | None = None,
) -> Comparison:
    """By how much does one arm differ from control in this metric?

    segment: a column and the value whose units alone are compared. Adjustment needs covariates, and ten
    units for each in both arms together; with fewer the plain estimate is given and a flag says so.
    """
    metric = units.metric
    by_sums = METHODS[metric.estimand, clustered, units.stratified, False].from_sums is not None
    sums = _two_sums(units, arm, control, segment, level) if by_sums else None
    rows = None if by_sums and not metric.steps else _two_arms(units, arm, control, segment, level)
    n = _size(sums) if sums is not None else _size(rows)
    flags = units.notes if adjusted else ()
    use = adjusted and bool(units.covariates)
    if use and n < UNITS_PER_COVARIATE * (len(units.covariates) + 1):
        use = False
        flags = (*flags, f"not adjusted: {n} units are too few for {len(units.covariates)} covariates")
    method = METHODS[metric.estimand, clustered, units.stratified, use]
    covariates = units.covariates if use else ()
    answer: Answer
    if method.from_sums is not None and sums is not None:
        answer = _without_outcome(metric, sums) or method.from_sums(replace(sums, covariates=covariates))
    elif method.from_rows is not None and rows is not None:
        answer = _rows_without_outcome(metric, rows) or method.from_rows(replace(rows, covariates=covariates))
    else:
        raise ValueError(
            f"metric {metric.name!r}: there is no estimator of {metric.estimand!r} for this design"
        )
    sentence = " ".join((method.sentence, *_OF_ONE_UNIT.get(metric.type, "").splitlines()))
    taken = () if rows is None else _steps_taken(metric, (rows.control, rows.treatment))
    if metric.estimand == "quantile" and units.stratified:
        flags = (*flags, _STRATA_UNUSED)
    why = why_of(
        metric.estimand, clustered=clustered, stratified=units.stratified, covariates=len(covariates)
    )
    return Comparison(scaled(answer, metric.per), sentence, use, (*flags, *units.reasons, *taken), why)


def _two_sums(
    units: MetricUnits, arm: str, control: str, segment: tuple[str, str] | None, level: float
) -> TwoSums:
    column, value = segment if segment is not None else (None, None)
    sums = units.sums(column)
    return TwoSums(sums.arm(control, value), sums.arm(arm, value), (), level)


def _two_arms(
    units: MetricUnits, arm: str, control: str, segment: tuple[str, str] | None, level: float
) -> TwoArms:
    frame = units.frame
    if segment is not None:
        frame = frame.filter(pl.col(segment[0]).cast(pl.String).fill_null(UNKNOWN) == segment[1])
    return TwoArms(
        control=frame.filter(pl.col("arm") == control),
        treatment=frame.filter(pl.col("arm") == arm),
        covariates=(),
        stratified=units.stratified,
        quantile=units.metric.quantile or 0.5,
        level=level,
    )


def _size(arms: TwoSums | TwoArms | None) -> int:
    if isinstance(arms, TwoSums):
        return int(arms.control.n.sum() + arms.treatment.n.sum())
    return 0 if arms is None else arms.control.height + arms.treatment.height


def _steps_taken(metric: Metric, frames: Sequence[pl.DataFrame]) -> tuple[str, ...]:
    """How far units of control and treatment got in a funnel, in words."""
    names = [step_column(metric.name, place) for place in range(1, len(metric.steps) + 1)]
    if not names or any(name not in frame.columns for frame in frames for name in names):
        return ()
    told = [
        f"{step} {' and '.join(f'{frame[name].sum():,} of {frame.height:,}' for frame in frames)}"
        for step, name in zip(metric.steps, names, strict=True)
    ]
    return (f"units that got to each step, control and treatment: {'; '.join(told)}",)


def _without_outcome(metric: Metric, arms: TwoSums) -> NotEstimable | None:
    """Why a cost per outcome cannot be told: an arm with no outcome has no cost of one."""
    if metric.type != "cost_per_outcome":
        return None
    sides = {"control": whole(arms.control), "treatment": whole(arms.treatment)}
    n_control, n_treatment = (side.n for side in sides.values())
    for name, side in sides.items():
        if side.n and side.mean("den") == 0.0:
            return _no_outcome(metric, name, n_control, n_treatment)
    return None


def _rows_without_outcome(metric: Metric, arms: TwoArms) -> NotEstimable | None:
    if metric.type != "cost_per_outcome":
        return None
    for name, frame in (("control", arms.control), ("treatment", arms.treatment)):
        if frame.height and float(frame["den"].sum()) == 0.0:
            return _no_outcome(metric, name, arms.control.height, arms.treatment.height)
    return None


def _no_outcome(metric: Metric, arm: str, n_control: int, n_treatment: int) -> NotEstimable:
    reason = f"there is no outcome ({metric.denominator}) in the {arm} arm, so no cost of one"
    return NotEstimable("ratio-delta", reason, n_control, n_treatment)


def scaled(answer: Answer, per: float) -> Answer:
    """What is the effect per so many units of the denominator, such as per 1,000 sessions?"""
    if isinstance(answer, NotEstimable) or per == 1.0:
        return answer
    return replace(
        answer,
        mean_control=answer.mean_control * per,
        mean_treatment=answer.mean_treatment * per,
        absolute=answer.absolute * per,
        se=answer.se * per,
        ci_lower=answer.ci_lower * per,
        ci_upper=answer.ci_upper * per,
    )
