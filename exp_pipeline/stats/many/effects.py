"""Thousands of two-arm effects at once: the estimators of `contrast`, on arrays instead of single numbers.

Each function answers what its scalar twin answers (`difference_in_means`, `adjusted_difference`,
`difference_in_ratios`, `adjusted_ratio`). Cells that are out of the ordinary
(too few units, no spread, covariates that repeat one another, skewed values in unequal arms) are handed to
the twin itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.stats.effects.adjustment import adjusted_difference, adjusted_ratio
from exp_pipeline.stats.effects.contrast import COLLINEAR
from exp_pipeline.stats.effects.means import difference_in_means
from exp_pipeline.stats.effects.ratios import WEAK_DENOMINATOR, difference_in_ratios
from exp_pipeline.stats.effects.skew import HEAVY_TAILED, LOPSIDED, NOT_LOOKED_AT, UNSEEN
from exp_pipeline.stats.many.relative import many_relative, many_standardised
from exp_pipeline.stats.moments import ROUNDING
from exp_pipeline.stats.moments_table import MomentsTable
from exp_pipeline.stats.reference import SMALLEST_P, require_level
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline.stats.tails import t_critical, t_tails

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Mask = NDArray[np.bool_]
Answer = Effect | NotEstimable

# Twice as strict as the twin, so that a covariate near its limit is judged there.
_SURELY_INDEPENDENT = 2.0 * COLLINEAR
_SURELY_RESIDUAL = 1e-12
_SURELY_STRAIGHT = 1.0 - 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class ManyEffects:
    """By how much do the arms of many cells differ? The fields of `Effect`, as arrays (cells,).

    A number that an `Effect` would hold as None is NaN here. flags: (cells for which it holds, text), in the
    order in which an `Effect` lists them. special: cells that the scalar estimator answered, by place; their
    numbers in the arrays mean nothing. relative_by: (cells whose relative interval is of a method, its name).
    """

    method: str
    level: float
    n_control: IntArray
    n_treatment: IntArray
    mean_control: FloatArray
    mean_treatment: FloatArray
    absolute: FloatArray
    se: FloatArray
    df: FloatArray
    ci_lower: FloatArray
    ci_upper: FloatArray
    p_value: FloatArray
    relative: FloatArray
    relative_ci_lower: FloatArray
    relative_ci_upper: FloatArray
    relative_by: tuple[tuple[Mask, str], ...]
    standardised: FloatArray
    variance_reduction: FloatArray
    flags: tuple[tuple[Mask, str], ...] = ()
    special: dict[int, Answer] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.n_control.shape[0])

    @property
    def relative_methods(self) -> NDArray[np.str_]:
        """By which method is each cell's relative interval made, where it has one? (cells,)"""
        names = np.array([name for _, name in self.relative_by])
        found: NDArray[np.str_] = names[np.argmax([holds for holds, _ in self.relative_by], axis=0)]
        return found

    def at(self, place: int) -> Answer:
        """What is the answer of one cell?"""
        if place in self.special:
            return self.special[place]
        relative = _or_none(self.relative[place])
        method = next(name for holds, name in self.relative_by if holds[place])
        return Effect(
            method=self.method,
            n_control=int(self.n_control[place]),
            n_treatment=int(self.n_treatment[place]),
            mean_control=float(self.mean_control[place]),
            mean_treatment=float(self.mean_treatment[place]),
            absolute=float(self.absolute[place]),
            se=float(self.se[place]),
            df=float(self.df[place]),
            ci_lower=float(self.ci_lower[place]),
            ci_upper=float(self.ci_upper[place]),
            p_value=float(self.p_value[place]),
            level=self.level,
            relative=relative,
            relative_ci_lower=_or_none(self.relative_ci_lower[place]),
            relative_ci_upper=_or_none(self.relative_ci_upper[place]),
            relative_method=None if relative is None else method,
            standardised=_or_none(self.standardised[place]),
            variance_reduction=_or_none(self.variance_reduction[place]),
            flags=tuple(text for holds, text in self.flags if holds[place]),
        )


def many_means(
    control: MomentsTable, treatment: MomentsTable, *, outcome: str, level: float = 0.95
) -> ManyEffects:
    """By how much do the means differ, cell by cell? `difference_in_means`, on tables of the same cells.

    Where both tables have cubes of the outcome, cells of skewed values get the interval that its shapes give.
    """
    require_level(level)
    names = (outcome,)
    control, treatment = control.select(names), treatment.select(names)

    def twin(place: int) -> Answer:
        shapes = control.third(place), treatment.third(place)
        return difference_in_means(
            control.group(place),
            treatment.group(place),
            outcome=outcome,
            control_shape=None if None in shapes else shapes[0],
            treatment_shape=None if None in shapes else shapes[1],
            level=level,
        )

    spread = _varies(control, 0) | _varies(treatment, 0)
    values = control.means[:, 0], treatment.means[:, 0]
    usable = spread & ~_lopsided(control, treatment)
    return _contrasts("welch", (control, treatment), values, usable, (), twin, level)


def _unseen(control: MomentsTable, treatment: MomentsTable) -> Mask:
    """Where are arms unequal and skewness not looked at? `skew.unseen`, on arrays."""
    n_c, n_t = (np.maximum(table.n, 1).astype(np.float64) for table in (control, treatment))
    by_design = (1.0 / n_t**2 - 1.0 / n_c**2) / (1.0 / n_t + 1.0 / n_c) ** 1.5
    found: Mask = np.abs(by_design) > UNSEEN
    if control.cubes is not None and treatment.cubes is not None:
        found &= np.minimum(control.n, treatment.n) < 3
    return found


def _lopsided(control: MomentsTable, treatment: MomentsTable) -> Mask:
    """Where does skewness change anything? The limits of `skew.corrected_for_skewness`, on arrays."""
    if control.cubes is None or treatment.cubes is None:
        return np.zeros(len(control), dtype=bool)
    found = (control.n >= 3) & (treatment.n >= 3)
    n_c, n_t = (np.maximum(table.n, 3).astype(np.float64) for table in (control, treatment))
    v_c, v_t = control.products[:, 0, 0] / (n_c - 1.0), treatment.products[:, 0, 0] / (n_t - 1.0)
    found &= (v_c > 0.0) | (v_t > 0.0)
    v_c, v_t = np.where(found, v_c, 1.0), np.where(found, v_t, 1.0)
    third_c = control.cubes * n_c / ((n_c - 1.0) * (n_c - 2.0))
    third_t = treatment.cubes * n_t / ((n_t - 1.0) * (n_t - 2.0))
    n = n_c + n_t
    shape = (n_c * third_c + n_t * third_t) / n / ((n_c * v_c + n_t * v_t) / n) ** 1.5
    by_spread = (v_t**1.5 / n_t**2 - v_c**1.5 / n_c**2) / (v_c / n_c + v_t / n_t) ** 1.5
    by_design = (1.0 / n_t**2 - 1.0 / n_c**2) / (1.0 / n_t + 1.0 / n_c) ** 1.5
    skewed = np.abs(shape) * np.maximum(np.abs(by_spread), np.abs(by_design)) > LOPSIDED * _SURELY_STRAIGHT
    heavy = np.abs(shape) / np.sqrt(np.minimum(n_c, n_t)) > HEAVY_TAILED * _SURELY_STRAIGHT
    return found & (skewed | heavy)


def many_adjusted(
    control: MomentsTable,
    treatment: MomentsTable,
    *,
    outcome: str,
    covariates: Sequence[str],
    level: float = 0.95,
) -> ManyEffects:
    """By how much do the means differ given the covariates, cell by cell? `adjusted_difference`."""
    require_level(level)
    names = (outcome, *covariates)
    control, treatment = control.select(names), treatment.select(names)

    def twin(place: int) -> Answer:
        arms = control.group(place), treatment.group(place)
        return adjusted_difference(*arms, outcome=outcome, covariates=covariates, level=level)

    spread = _varies(control, 0) | _varies(treatment, 0)
    values = control.means[:, 0], treatment.means[:, 0]
    return _contrasts("cuped", (control, treatment), values, spread, (), twin, level)


def many_ratios(
    control: MomentsTable,
    treatment: MomentsTable,
    *,
    numerator: str,
    denominator: str,
    covariates: Sequence[str] = (),
    level: float = 0.95,
) -> ManyEffects:
    """By how much do ratios of sums differ, cell by cell? `difference_in_ratios`, or `adjusted_ratio`."""
    require_level(level)
    names = (numerator, denominator, *covariates)

    raw = control.select(names), treatment.select(names)

    def twin(place: int) -> Answer:
        c, t = raw[0].group(place), raw[1].group(place)
        if covariates:
            return adjusted_ratio(
                c, t, numerator=numerator, denominator=denominator, covariates=covariates, level=level
            )
        return difference_in_ratios(c, t, numerator=numerator, denominator=denominator, level=level)

    values, linear, flags = [], [], []
    usable = np.ones(len(control), dtype=bool)
    spread = np.zeros(len(control), dtype=bool)
    for arm, table in zip(("control", "treatment"), raw, strict=True):
        base = table.means[:, 1]
        usable &= base != 0.0
        safe = np.where(base != 0.0, base, 1.0)
        ratio = table.means[:, 0] / safe
        weights = np.zeros((len(table), len(names) - 1, len(names)))
        weights[:, 0, 0], weights[:, 0, 1] = 1.0 / safe, -ratio / safe
        weights[:, np.arange(1, len(names) - 1), np.arange(2, len(names))] = 1.0
        linearised = table.linear(weights, ("outcome", *covariates))
        se = np.sqrt(_variance(table, 1) / np.maximum(table.n, 1))
        flags.append(
            (
                np.abs(base) < WEAK_DENOMINATOR * se,
                f"{denominator} is near zero in the {arm} arm: the ratio's interval is unreliable",
            )
        )
        size = _variance(table, 0) + table.means[:, 0] ** 2
        spread |= _variance(linearised, 0) > 1e-24 * size / safe**2
        values.append(ratio)
        linear.append(linearised)
    method = "cuped-ratio" if covariates else "ratio-delta"
    return _contrasts(
        method, (linear[0], linear[1]), (values[0], values[1]), usable & spread, flags, twin, level,
        standardise=False,
    )  # fmt: skip


def _contrasts(
    method: str,
    tables: tuple[MomentsTable, MomentsTable],
    values: tuple[FloatArray, FloatArray],
    usable: Mask,
    flags: Sequence[tuple[Mask, str]],
    twin: Callable[[int], Answer],
    level: float,
    *,
    standardise: bool = True,
) -> ManyEffects:
    """`contrast` for all cells; tables hold the (linearised) outcome first, then the covariates."""
    control, treatment = tables
    cells, k = len(control), len(control.names) - 1
    n_c, n_t = control.n.astype(np.float64), treatment.n.astype(np.float64)
    df_all = n_c + n_t - 2.0
    pooled = control.products + treatment.products
    regular = usable & (n_c >= 2) & (n_t >= 2) & (k <= df_all - 2.0)
    if k:
        regular &= _independent(pooled[:, 1:, 1:])
        for place in range(1, k + 1):
            regular &= _varies(control, place) | _varies(treatment, place)
    identity = np.eye(k + 1)
    pooled = np.where(regular[:, None, None], pooled, identity)
    n_c, n_t = np.where(regular, n_c, 4.0 + k), np.where(regular, n_t, 4.0 + k)
    df_all = n_c + n_t - 2.0
    n = n_c + n_t
    theta = np.linalg.solve(pooled[:, 1:, 1:], pooled[:, 1:, :1])[:, :, 0] if k else np.zeros((cells, 0))
    gap = treatment.means[:, 1:] - control.means[:, 1:]
    residual = np.concatenate((np.ones((cells, 1)), -theta), axis=1)
    # Row times matrix, once: the residual's products with outcome and covariates.
    with_c = np.einsum("ti,tij->tj", residual, control.products)
    with_t = np.einsum("ti,tij->tj", residual, treatment.products)
    ss_c = np.maximum(np.einsum("ti,ti->t", with_c, residual), 0.0)
    ss_t = np.maximum(np.einsum("ti,ti->t", with_t, residual), 0.0)
    regular &= ss_c + ss_t > _SURELY_RESIDUAL * pooled[:, 0, 0]
    ss_c, ss_t = np.where(regular, ss_c, 1.0), np.where(regular, ss_t, 1.0)
    spent = df_all / (df_all - k)
    variance_c = ss_c / (n_c - 1.0) / n_c * spent
    variance_t = ss_t / (n_t - 1.0) / n_t * spent
    slope_part = np.zeros(cells)
    if k:
        along = np.linalg.solve(pooled[:, 1:, 1:], gap[:, :, None])[:, :, 0]
        slope_part = np.einsum("ti,ti->t", gap, along) * (ss_c + ss_t) / (df_all - k)
    se = np.sqrt(variance_c + variance_t + slope_part)
    share = variance_c / (variance_c + variance_t)
    df = np.maximum(1.0 / (share**2 / (n_c - 1.0) + (1.0 - share) ** 2 / (n_t - 1.0)) - k, 1.0)
    shift = np.einsum("ti,ti->t", theta, gap)
    absolute = values[1] - values[0] - shift

    cross_c = np.einsum("ti,ti->t", with_c[:, 1:], theta) / (n_c - 1.0) / n
    cross_t = np.einsum("ti,ti->t", with_t[:, 1:], theta) / (n_t - 1.0) / n
    inner_c = np.einsum("ti,tij,tj->t", theta, control.products[:, 1:, 1:], theta)
    inner_t = np.einsum("ti,tij,tj->t", theta, treatment.products[:, 1:, 1:], theta)
    shared = (inner_c / (n_c - 1.0) * n_c + inner_t / (n_t - 1.0) * n_t) / n**2
    critical = t_critical((1.0 - level) / 2.0, df)
    relative = many_relative(
        values[0] + shift * n_t / n,
        values[1] - shift * n_c / n,
        variance_c + 2.0 * cross_c + shared,
        variance_t + 2.0 * cross_t + shared,
        cross_c + cross_t + shared,
        critical,
    )
    raw_c, raw_t = _variance(control, 0), _variance(treatment, 0)
    unadjusted = np.where(regular, raw_c / n_c + raw_t / n_t, 1.0)
    pooled_variance = ((n_c - 1.0) * raw_c + (n_t - 1.0) * raw_t) / df_all
    nothing = np.full(cells, np.nan)
    reach = critical * se
    return ManyEffects(
        method,
        level,
        control.n,
        treatment.n,
        values[0],
        values[1],
        absolute,
        se,
        df,
        absolute - reach,
        absolute + reach,
        np.clip(2.0 * t_tails(np.abs(absolute / se), df), SMALLEST_P, 1.0),
        relative.relative,
        relative.lower,
        relative.upper,
        relative.by,
        many_standardised(absolute, pooled_variance, df_all) if standardise else nothing,
        1.0 - se**2 / unadjusted if k else nothing,
        (*flags, *relative.flags, (_unseen(control, treatment), NOT_LOOKED_AT)),
        {place: twin(place) for place in np.flatnonzero(~regular).tolist()},
    )


def _independent(gram: FloatArray) -> Mask:
    """Which (cells, k, k) centred products are far from singular? By Cholesky, column by column."""
    k = gram.shape[1]
    size = np.sqrt(np.maximum(gram[:, np.arange(k), np.arange(k)], 0.0))
    good: Mask = np.all(size > 0.0, axis=1)
    size = np.where(size > 0.0, size, 1.0)
    left = gram / (size[:, :, None] * size[:, None, :])
    for place in range(k):
        pivot = left[:, place, place]
        good &= pivot > _SURELY_INDEPENDENT
        column = left[:, place + 1 :, place] / np.sqrt(np.where(good, pivot, 1.0))[:, None]
        left[:, place + 1 :, place + 1 :] -= column[:, :, None] * column[:, None, :]
    return good


def _variance(table: MomentsTable, place: int) -> FloatArray:
    """As `Moments.variance`: exactly 0 when only rounding is left, and with fewer than two units."""
    value = table.products[:, place, place] / np.maximum(table.n - 1, 1)
    floor = (ROUNDING * np.abs(table.means[:, place])) ** 2
    return np.where((table.n >= 2) & (value > floor), value, 0.0)


def _varies(table: MomentsTable, place: int) -> Mask:
    return _variance(table, place) > 0.0


def _or_none(number: float) -> float | None:
    return None if np.isnan(number) else float(number)
