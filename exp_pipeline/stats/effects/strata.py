"""Effects where units were randomised one by one within strata: schools, grades, waves, matched pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.stats.cubes import Cubes
from exp_pipeline.stats.effects.contrast import ArmSummary, effect_of_arms, independent_columns, same_units
from exp_pipeline.stats.effects.skew import ArmEstimates, ArmShape, looked_at
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.reference import chi_square_tail, require_level
from exp_pipeline.stats.results import Effect, NotEstimable

FloatArray = NDArray[np.float64]
Weighting = Literal["auto", "precision", "size"]

# Below this, shares of treated units that differ between strata are a plan and not chance.
SHARES_DIFFER = 0.001
_NO_RESIDUAL = 1e-13
_FULL_LEVERAGE = 1.0 - 1e-10


@dataclass(frozen=True, slots=True)
class StratumArms:
    """What is known of both arms in one stratum? The same variables in both; cubes where they were summed."""

    control: Moments
    treatment: Moments
    control_cubes: Cubes | None = None
    treatment_cubes: Cubes | None = None

    def __post_init__(self) -> None:
        same_units(self.control, self.treatment, self.control_cubes, self.treatment_cubes)


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """S strata: units (S,), means (S, 1+k) and products (S, 1+k, 1+k) of outcome and covariates, by arm."""

    n_c: FloatArray
    n_t: FloatArray
    means_c: FloatArray
    means_t: FloatArray
    products_c: FloatArray
    products_t: FloatArray


@dataclass(frozen=True, slots=True)
class _Estimate:
    """The effect by one weighting. `weights` (S,) sum to one."""

    weights: FloatArray
    variance_control: float
    variance_treatment: float
    df: float


def stratified_difference(
    strata: Mapping[str, StratumArms],
    *,
    outcome: str,
    covariates: Sequence[str] = (),
    weighting: Weighting = "auto",
    level: float = 0.95,
) -> Effect | NotEstimable:
    """By how much do the arms' means differ within strata?

    "precision" is least squares with one constant a stratum: a stratum weighs n_c n_t / n. Its variance is
    HC2, its degrees of freedom Bell and McCaffrey's (2002), both as `clusters` gives them with each unit a
    cluster; for matched pairs this is the paired t. "size" weighs each stratum by its units
    (post-stratification: Miratrix, Sekhon and Yu 2013), so that it answers for the average unit also where
    the effect and the share of treated units differ between strata. Its variance is Neyman's by stratum, with
    Satterthwaite degrees of freedom; strata with one unit in an arm borrow from one another (Pashley and
    Miratrix 2021, equation 9 for blocks of differing size). "auto" takes "size" where a chi-square test finds
    that shares of treated units differ between strata (p < 0.001), and "precision" otherwise: there the
    two nearly agree. Covariates (see `adjusted_difference`) have slopes pooled within strata.

    Where every stratum has cubes of both arms, skewness of the residuals is corrected for (`skew.corrected`),
    its shape pooled over strata; without them arms far from equal are flagged.

    A stratum with one arm only tells nothing about the effect: it is left out, with a flag. NotEstimable
    where no stratum has both arms, or without spread. Raises ValueError for an unknown weighting or variable.
    """
    require_level(level)
    if weighting not in ("auto", "precision", "size"):
        raise ValueError(f"weighting must be 'auto', 'precision' or 'size', got {weighting!r}")
    wanted = [outcome, *covariates]
    if len(set(wanted)) != len(wanted):
        raise ValueError(f"covariates must differ from one another and from the outcome, got {wanted!r}")
    name = "strata" if weighting == "auto" else f"strata-{weighting}"
    all_c = sum(arms.control.n for arms in strata.values())
    all_t = sum(arms.treatment.n for arms in strata.values())
    for arm, n in (("control", all_c), ("treatment", all_t)):
        if n == 0:
            return NotEstimable(name, f"the {arm} arm is empty", all_c, all_t)
    usable = [key for key in sorted(strata) if strata[key].control.n and strata[key].treatment.n]
    if not usable:
        return NotEstimable(name, "no stratum has units of both arms", all_c, all_t)
    parts = [strata[key] for key in usable]
    cells = _cells(
        [arms.control.select(wanted) for arms in parts], [a.treatment.select(wanted) for a in parts]
    )
    n_c, n_t = int(cells.n_c.sum()), int(cells.n_t.sum())
    flags: list[str] = []
    if all_c + all_t > n_c + n_t:
        alone = sum((arms.control.n == 0) != (arms.treatment.n == 0) for arms in strata.values())
        left = all_c + all_t - n_c - n_t
        flags.append(f"{alone} strata ({left} units) left out: they have units of one arm only")

    theta, dropped = _slopes(cells, covariates)
    flags += dropped
    k = int(np.count_nonzero(theta))
    residual = _residual_outcome(cells, theta)
    total = _within(cells)[0, 0]
    if _within(residual)[0, 0] <= _NO_RESIDUAL * total or _rounding_only(cells):
        return NotEstimable(name, f"{outcome} has no spread within strata", n_c, n_t)

    estimate: _Estimate | None = None
    if weighting == "size" or (weighting == "auto" and _shares_differ(cells)):
        estimate = _by_size(residual)
        if estimate is None and weighting == "size":
            reason = "strata with one unit in an arm are too few, or one holds half of their units"
            return NotEstimable(name, f"no variance by size of strata: {reason}", n_c, n_t)
        if estimate is None:
            flags.append("weighted by precision, not by size: too few strata with one unit in an arm")
        else:
            name = "strata-size"
    if estimate is None:
        estimate, name = _by_precision(residual), "strata-precision"
    if estimate is None or not estimate.variance_control + estimate.variance_treatment > 0.0:
        return NotEstimable(name, "too few units beside the strata for a variance", n_c, n_t)

    spent = _spent(cells, k)
    if spent is None:
        return NotEstimable(name, "too few units beside strata and covariates for a variance", n_c, n_t)
    weights = estimate.weights
    gap = weights @ (cells.means_t - cells.means_c)[:, 1:]
    slope_part = _slope_part(cells, residual, gap, theta)
    variance_c = estimate.variance_control * spent
    variance_t = estimate.variance_treatment * spent
    variance = variance_c + variance_t + slope_part
    value_c = float(weights @ cells.means_c[:, 0])
    absolute = float(weights @ (cells.means_t - cells.means_c)[:, 0] - gap @ theta)
    df = max(estimate.df - k, 1.0)
    se = math.sqrt(variance)
    # Arm values stand at the covariates of all units of a stratum, which are themselves random.
    n_all = cells.n_c + cells.n_t
    shift = float((weights * cells.n_t / n_all) @ ((cells.means_t - cells.means_c)[:, 1:] @ theta))
    cross_c, spread_c = _with_covariates(cells.n_c, cells.products_c, theta)
    cross_t, spread_t = _with_covariates(cells.n_t, cells.products_t, theta)
    tied = float(weights**2 @ (1.0 / n_all))
    shared = float(weights**2 @ ((cells.n_c * spread_c + cells.n_t * spread_t) / n_all**2))
    values = ArmEstimates(
        value_c + shift,
        value_c + shift + absolute,
        variance_control=variance_c + 2.0 * cross_c * tied + shared,
        variance_treatment=variance_t + 2.0 * cross_t * tied + shared,
        covariance=(cross_c + cross_t) * tied + shared,
    )
    raw_c, raw_t = _merged(cells, "c"), _merged(cells, "t")
    plain = raw_c[1] / n_c + raw_t[1] / n_t
    effect = effect_of_arms(
        name,
        ArmSummary(n_c, *raw_c),
        ArmSummary(n_t, *raw_t),
        absolute,
        se,
        df,
        values.relative(df, level),
        level=level,
        variance_reduction=1.0 - variance / plain if plain > 0.0 else None,
        flags=tuple(flags),
    )
    mix = {outcome: 1.0, **dict(zip(covariates, (-theta).tolist(), strict=True))}
    return looked_at(
        effect,
        _shape([arms.control_cubes for arms in parts], mix, cells.n_c, weights, variance_c),
        _shape([arms.treatment_cubes for arms in parts], mix, cells.n_t, weights, variance_t),
        values,
    )


def _shape(
    cubes: Sequence[Cubes | None],
    mix: Mapping[str, float],
    n: FloatArray,
    weights: FloatArray,
    variance: float,
) -> ArmShape | None:
    """How skewed are one arm's residuals, pooled over strata? None without cubes or strata of three units."""
    known = [one for one in cubes if one is not None]
    spare = float(np.sum(np.where(n >= 3.0, (n - 1.0) * (n - 2.0) / n, 0.0)))
    if len(known) < len(cubes) or spare <= 0.0 or not variance > 0.0:
        return None
    third = sum(float(one.linear({"sum": mix}).triples[0, 0, 0]) for one in known) / spare
    squares = float(np.sum(weights**2 / n))
    return ArmShape(
        n=int(n.sum()),
        variance=variance / squares,
        third=third,
        pull_squares=squares,
        pull_cubes=float(np.sum(weights**3 / n**2)),
    )


def _cells(control: Sequence[Moments], treatment: Sequence[Moments]) -> _Cells:
    return _Cells(
        n_c=np.array([moments.n for moments in control], dtype=np.float64),
        n_t=np.array([moments.n for moments in treatment], dtype=np.float64),
        means_c=np.array([moments.means for moments in control]),
        means_t=np.array([moments.means for moments in treatment]),
        products_c=np.array([moments.products for moments in control]),
        products_t=np.array([moments.products for moments in treatment]),
    )


def _within(cells: _Cells) -> FloatArray:
    """Products within strata, the arm's effect taken out: what least squares with strata leaves."""
    weights = cells.n_c * cells.n_t / (cells.n_c + cells.n_t)
    gaps = cells.means_t - cells.means_c
    apart = gaps - weights @ gaps / weights.sum()
    inside = (cells.products_c + cells.products_t).sum(axis=0)
    return np.asarray(inside + np.einsum("s,si,sj->ij", weights, apart, apart), dtype=np.float64)


def _slopes(cells: _Cells, covariates: Sequence[str]) -> tuple[FloatArray, list[str]]:
    """Slopes (k,), zero for useless covariates, and what is said of those."""
    k = len(covariates)
    if k == 0:
        return np.zeros(0), []
    gram = _within(cells)
    scale = np.concatenate([np.abs(cells.means_c), np.abs(cells.means_t)]).max(axis=0)
    units = cells.n_c.sum() + cells.n_t.sum()
    for column in range(1, k + 1):
        if gram[column, column] <= 1e-26 * units * scale[column] ** 2:
            gram[column, :] = gram[:, column] = 0.0
    most = int(units) - cells.n_c.size - 3
    kept = [1 + position for position in independent_columns(gram[1:, 1:])][: max(most, 0)]
    theta = np.zeros(k)
    if kept:
        theta[np.array(kept) - 1] = np.linalg.solve(gram[np.ix_(kept, kept)], gram[kept, 0])
    flags = [
        f"covariate {name} dropped: it does not vary within strata, repeats the others, or units are too few"
        for position, name in enumerate(covariates, start=1)
        if position not in kept
    ]
    return theta, flags


def _residual_outcome(cells: _Cells, theta: FloatArray) -> _Cells:
    """The same cells with one variable: outcome less what the covariates tell."""
    mix = np.concatenate(([1.0], -theta))
    return _Cells(
        n_c=cells.n_c,
        n_t=cells.n_t,
        means_c=(cells.means_c @ mix)[:, None],
        means_t=(cells.means_t @ mix)[:, None],
        products_c=np.maximum(np.einsum("i,sij,j->s", mix, cells.products_c, mix), 0.0)[:, None, None],
        products_t=np.maximum(np.einsum("i,sij,j->s", mix, cells.products_t, mix), 0.0)[:, None, None],
    )


def _rounding_only(cells: _Cells) -> bool:
    size = max(float(np.abs(cells.means_c[:, 0]).max()), float(np.abs(cells.means_t[:, 0]).max()))
    return bool(_within(cells)[0, 0] <= 1e-26 * (cells.n_c.sum() + cells.n_t.sum()) * size**2)


def _shares_differ(cells: _Cells) -> bool:
    if cells.n_c.size < 2:
        return False
    n = cells.n_c + cells.n_t
    share = cells.n_t.sum() / n.sum()
    statistic = float(np.sum((cells.n_t - n * share) ** 2 / (n * share * (1.0 - share))))
    return chi_square_tail(statistic, n.size - 1) < SHARES_DIFFER


def _spent(cells: _Cells, k: int) -> float | None:
    """By what must a variance grow for k fitted slopes? None when nothing is left."""
    df = float(cells.n_c.sum() + cells.n_t.sum()) - cells.n_c.size - 1.0
    return df / (df - k) if df > k else None


def _with_covariates(n: FloatArray, products: FloatArray, theta: FloatArray) -> tuple[float, float]:
    """Covariance of an arm's residuals with what the covariates tell, and the variance of the latter.

    Both pooled over strata; zero where every stratum has one unit of the arm.
    """
    df = float(np.sum(n - 1.0))
    if theta.size == 0 or df <= 0.0:
        return 0.0, 0.0
    pooled = products.sum(axis=0) / df
    mix = np.concatenate(([1.0], -theta))
    return float(mix @ pooled[:, 1:] @ theta), float(theta @ pooled[1:, 1:] @ theta)


def _slope_part(cells: _Cells, residual: _Cells, gap: FloatArray, theta: FloatArray) -> float:
    """What does not knowing the slopes add to the variance?"""
    k = int(np.count_nonzero(theta))
    if k == 0:
        return 0.0
    df = float(cells.n_c.sum() + cells.n_t.sum()) - cells.n_c.size - 1.0 - k
    gram = _within(cells)[1:, 1:]
    kept = np.flatnonzero(theta)
    inner = float(gap[kept] @ np.linalg.solve(gram[np.ix_(kept, kept)], gap[kept]))
    return inner * float(_within(residual)[0, 0]) / df


def _by_precision(cells: _Cells) -> _Estimate | None:
    """Least squares with strata as constants: HC2 and Bell-McCaffrey df, all from cells.

    Within a cell all units have the same leverage, 1/n + (arm - share)^2 / W, so that squares of residuals
    need only the cell's own spread and mean.
    """
    n = cells.n_c + cells.n_t
    weights = cells.n_c * cells.n_t / n
    total = float(weights.sum())
    share = cells.n_t / n
    gaps = (cells.means_t - cells.means_c)[:, 0]
    apart = gaps - weights @ gaps / total
    squares, norm, trace = [], 0.0, 0.0
    sums = np.zeros(n.size)
    crossed = np.zeros(n.size)
    doubled = 0.0
    for count, products, arm in (
        (cells.n_c, cells.products_c[:, 0, 0], -share),
        (cells.n_t, cells.products_t[:, 0, 0], 1.0 - share),
    ):
        left = 1.0 - (1.0 / n + arm**2 / total)
        if np.any((left < 1.0 - _FULL_LEVERAGE) & (arm != 0.0)):
            return None
        pull = arm**2 / total**2
        squares.append(float(np.sum(pull * (products + count * arm**2 * apart**2) / left)))
        lifted = pull / left
        trace += float(np.sum(count * pull))
        norm += float(np.sum(count * lifted**2 * (2.0 * left - 1.0)))
        sums += count * lifted
        crossed += count * lifted * arm
        doubled += float(np.sum(count * lifted * arm**2))
    norm += float(np.sum(sums**2 / n**2 + 2.0 * crossed**2 / (n * total))) + doubled**2 / total**2
    if not norm > 0.0:
        return None
    return _Estimate(weights / total, squares[0], squares[1], trace**2 / norm)


def _by_size(cells: _Cells) -> _Estimate | None:
    """Strata weighed by their units; those with one unit in an arm lend one another a variance."""
    n = cells.n_c + cells.n_t
    weights = n / n.sum()
    large = (cells.n_c >= 2) & (cells.n_t >= 2)
    parts: list[tuple[float, float]] = []
    sides = [0.0, 0.0]
    for side, (count, products) in enumerate(
        ((cells.n_c, cells.products_c[:, 0, 0]), (cells.n_t, cells.products_t[:, 0, 0]))
    ):
        own = weights[large] ** 2 * products[large] / (count[large] - 1.0) / count[large]
        sides[side] += float(own.sum())
        parts += [(float(v), float(df)) for v, df in zip(own, count[large] - 1.0, strict=True)]
    small = ~large
    if small.any():
        units = n[small]
        together = float(units.sum())
        if units.size < 2 or np.any(2.0 * units >= together):
            return None
        gaps = (cells.means_t - cells.means_c)[small, 0]
        spare = units**2 / (together - 2.0 * units)
        apart = gaps - units @ gaps / together
        variance = float(np.sum(spare / (together + spare.sum()) * apart**2))
        variance *= (together / float(n.sum())) ** 2
        sides[0] += variance / 2.0
        sides[1] += variance / 2.0
        parts.append((variance, max(float(np.sum(units**2) ** 2 / np.sum(units**4)) - 1.0, 1.0)))
    spread = sum(part * part / df for part, df in parts)
    if not spread > 0.0:
        return None
    return _Estimate(weights, sides[0], sides[1], sum(part for part, _ in parts) ** 2 / spread)


def _merged(cells: _Cells, arm: Literal["c", "t"]) -> tuple[float, float]:
    """Mean and sample variance of the outcome over all strata of one arm."""
    n, means, products = (
        (cells.n_c, cells.means_c, cells.products_c)
        if arm == "c"
        else (cells.n_t, cells.means_t, cells.products_t)
    )
    units = float(n.sum())
    mean = float(n @ means[:, 0] / units)
    squares = float(products[:, 0, 0].sum() + n @ (means[:, 0] - mean) ** 2)
    return mean, squares / max(units - 1.0, 1.0)
