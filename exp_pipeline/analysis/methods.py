"""Which estimator answers for which metric: one table, read by machine and by people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exp_pipeline.analysis.histograms import difference_in_binned_quantiles, is_binned
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.model.metrics import Estimand, Metric, MetricType, step_column
from exp_pipeline.stats.adjustment import adjusted_difference, adjusted_ratio
from exp_pipeline.stats.clusters import clustered_difference
from exp_pipeline.stats.means import difference_in_means, difference_in_proportions
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.quantiles import difference_in_quantiles
from exp_pipeline.stats.ratios import difference_in_ratios
from exp_pipeline.stats.results import Effect, NotEstimable

Answer = Effect | NotEstimable

# Fewer units than this for each covariate, and its slope is mostly noise.
UNITS_PER_COVARIATE = 10


@dataclass(frozen=True, slots=True)
class TwoArms:
    """Which rows does an estimator compare? Both frames as in `MetricUnits.frame`."""

    control: pl.DataFrame
    treatment: pl.DataFrame
    covariates: tuple[str, ...]
    stratified: bool
    quantile: float
    level: float


@dataclass(frozen=True, slots=True)
class Method:
    """How is a kind of metric estimated, and how is that said in one sentence?"""

    sentence: str
    estimate: Callable[[TwoArms], Answer]


def moments_of(frame: pl.DataFrame, columns: Sequence[str]) -> Moments:
    """Which moments have these columns? Rows must be free of gaps."""
    return Moments.from_array(_matrix(frame, columns), columns)


def _matrix(frame: pl.DataFrame, columns: Sequence[str]) -> NDArray[np.float64]:
    values = np.empty((frame.height, len(columns)), dtype=np.float64)
    for position, name in enumerate(columns):
        values[:, position] = frame[name].to_numpy()
    return values


def _means(arms: TwoArms) -> Answer:
    return difference_in_means(
        moments_of(arms.control, ["num"]),
        moments_of(arms.treatment, ["num"]),
        outcome="num",
        level=arms.level,
    )


def _proportions(arms: TwoArms) -> Answer:
    return difference_in_proportions(
        int(arms.control["num"].sum()),
        arms.control.height,
        int(arms.treatment["num"].sum()),
        arms.treatment.height,
        level=arms.level,
    )


def _ratios(arms: TwoArms) -> Answer:
    names = ["num", "den"]
    return difference_in_ratios(
        moments_of(arms.control, names),
        moments_of(arms.treatment, names),
        numerator="num",
        denominator="den",
        level=arms.level,
    )


def _adjusted(arms: TwoArms) -> Answer:
    names = ["num", *arms.covariates]
    return adjusted_difference(
        moments_of(arms.control, names),
        moments_of(arms.treatment, names),
        outcome="num",
        covariates=arms.covariates,
        level=arms.level,
    )


def _adjusted_ratios(arms: TwoArms) -> Answer:
    names = ["num", "den", *arms.covariates]
    return adjusted_ratio(
        moments_of(arms.control, names),
        moments_of(arms.treatment, names),
        numerator="num",
        denominator="den",
        covariates=arms.covariates,
        level=arms.level,
    )


def _clustered(arms: TwoArms) -> Answer:
    return _by_cluster(arms, ratio=False)


def _clustered_ratios(arms: TwoArms) -> Answer:
    return _by_cluster(arms, ratio=True)


def _by_cluster(arms: TwoArms, *, ratio: bool) -> Answer:
    columns = ["num", "den", "layer", "cluster", *arms.covariates]
    both = pl.concat([arms.control.select(columns), arms.treatment.select(columns)])
    treated = np.arange(both.height) >= arms.control.height
    answer = clustered_difference(
        both["num"].to_numpy(),
        treated,
        _codes(both["cluster"]),
        covariates=_matrix(both, arms.covariates) if arms.covariates else None,
        strata=both["layer"].to_numpy() if arms.stratified else None,
        denominator=both["den"].to_numpy() if ratio else None,
        level=arms.level,
    )
    names = [name.split("__", 1)[1] for name in arms.covariates]
    if not isinstance(answer, Effect) or not names:
        return answer
    flags = answer.flags
    for position in range(len(names), 0, -1):
        flags = tuple(
            flag.replace(f"covariate number {position} ", f"covariate {names[position - 1]} ")
            for flag in flags
        )
    return replace(answer, flags=flags)


def _quantiles(arms: TwoArms) -> Answer:
    return _quantiles_by(arms, "unit_id")


def _clustered_quantiles(arms: TwoArms) -> Answer:
    answer = _quantiles_by(arms, "cluster")
    n_control, n_treatment = arms.control.height, arms.treatment.height
    if isinstance(answer, NotEstimable):
        return replace(answer, n_control=n_control, n_treatment=n_treatment)
    return replace(
        answer,
        n_control=n_control,
        n_treatment=n_treatment,
        clusters_control=answer.n_control,
        clusters_treatment=answer.n_treatment,
    )


def _quantiles_by(arms: TwoArms, owner: str) -> Answer:
    if is_binned(arms.control):
        return difference_in_binned_quantiles(
            arms.control, arms.treatment, owner, quantile=arms.quantile, level=arms.level
        )
    control, treatment = (
        frame.select(owner, "values").explode("values") for frame in (arms.control, arms.treatment)
    )
    return difference_in_quantiles(
        control["values"].to_numpy(),
        _codes(control[owner]),
        treatment["values"].to_numpy(),
        _codes(treatment[owner]),
        quantile=arms.quantile,
        level=arms.level,
    )


def _codes(names: pl.Series) -> NDArray[np.int64]:
    if not names.len():
        return np.zeros(0, dtype=np.int64)
    return names.rank("dense").cast(pl.Int64).to_numpy()


_ADJUSTED = "adjusted for what was known before assignment (CUPED, slopes pooled over the arms)"
_CLUSTERS = (
    "standard errors by randomised cluster (CR2 with Satterthwaite degrees of freedom when clusters are few)"
)
_MEAN = Method("Difference of means, Welch's t.", _means)
_MEAN_ADJUSTED = Method(f"Difference of means, {_ADJUSTED}.", _adjusted)
_SHARE = Method("Difference of shares with Newcombe's interval.", _proportions)
_SHARE_ADJUSTED = Method(f"Difference of shares, {_ADJUSTED}.", _adjusted)
_RATIO = Method("Difference of ratios of sums, delta method by unit.", _ratios)
_RATIO_ADJUSTED = Method(
    f"Difference of ratios of sums, delta method by unit, {_ADJUSTED}.", _adjusted_ratios
)
_QUANTILE = Method(
    "Difference of quantiles, interval by unit so that many rows of one unit count as one.", _quantiles
)
_CLUSTERED = Method(f"Difference of means over units, {_CLUSTERS}.", _clustered)
_CLUSTERED_ADJUSTED = Method(f"Difference of means over units, {_ADJUSTED}, {_CLUSTERS}.", _clustered)
_CLUSTERED_RATIO = Method(f"Difference of ratios of sums, {_CLUSTERS}.", _clustered_ratios)
_CLUSTERED_RATIO_ADJUSTED = Method(
    f"Difference of ratios of sums, {_ADJUSTED}, {_CLUSTERS}.", _clustered_ratios
)
_CLUSTERED_QUANTILE = Method("Difference of quantiles, interval by randomised cluster.", _clustered_quantiles)

# What is compared, clusters randomised?, covariates?
METHODS: dict[tuple[Estimand, bool, bool], Method] = {
    ("mean", False, False): _MEAN,
    ("mean", False, True): _MEAN_ADJUSTED,
    ("mean", True, False): _CLUSTERED,
    ("mean", True, True): _CLUSTERED_ADJUSTED,
    ("proportion", False, False): _SHARE,
    ("proportion", False, True): _SHARE_ADJUSTED,
    ("proportion", True, False): _CLUSTERED,
    ("proportion", True, True): _CLUSTERED_ADJUSTED,
    ("ratio", False, False): _RATIO,
    ("ratio", False, True): _RATIO_ADJUSTED,
    ("ratio", True, False): _CLUSTERED_RATIO,
    ("ratio", True, True): _CLUSTERED_RATIO_ADJUSTED,
    ("quantile", False, False): _QUANTILE,
    ("quantile", True, False): _CLUSTERED_QUANTILE,
}


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
    """What came out for one metric and arm? `effect` is in the metric's own unit, its `per` applied."""

    effect: Answer
    sentence: str
    adjusted: bool
    flags: tuple[str, ...]


def compare(
    units: MetricUnits, arm: str, control: str, *, clustered: bool, adjusted: bool, level: float
) -> Comparison:
    """By how much does one arm differ from control in this metric?

    Adjustment needs covariates, and ten units for each in both arms together; with fewer the plain estimate
    is given and a flag says so.
    """
    metric = units.metric
    frames = [units.frame.filter(pl.col("arm") == name) for name in (control, arm)]
    n = frames[0].height + frames[1].height
    flags = units.notes if adjusted else ()
    use = adjusted and bool(units.covariates)
    if use and n < UNITS_PER_COVARIATE * (len(units.covariates) + 1):
        use = False
        flags = (*flags, f"not adjusted: {n} units are too few for {len(units.covariates)} covariates")
    method = METHODS[metric.estimand, clustered, use]
    arms = TwoArms(
        control=frames[0],
        treatment=frames[1],
        covariates=units.covariates if use else (),
        stratified=units.stratified and clustered,
        quantile=metric.quantile or 0.5,
        level=level,
    )
    answer = _without_outcome(metric, arms) or scaled(method.estimate(arms), metric.per)
    sentence = " ".join((method.sentence, *_OF_ONE_UNIT.get(metric.type, "").splitlines()))
    return Comparison(answer, sentence, use, (*flags, *units.reasons, *_steps_taken(metric, frames)))


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


def _without_outcome(metric: Metric, arms: TwoArms) -> NotEstimable | None:
    """Why a cost per outcome cannot be told: an arm with no outcome has no cost of one."""
    if metric.type != "cost_per_outcome":
        return None
    for name, frame in (("control", arms.control), ("treatment", arms.treatment)):
        if frame.height and float(frame["den"].sum()) == 0.0:
            reason = f"there is no outcome ({metric.denominator}) in the {name} arm, so no cost of one"
            return NotEstimable("ratio-delta", reason, arms.control.height, arms.treatment.height)
    return None


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
