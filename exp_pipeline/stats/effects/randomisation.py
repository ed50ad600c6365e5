"""What could the assignment itself have brought? Fisher's test, at the unit that was randomised."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import (
    IntArray,
    arm_values,
    covariate_rows,
    finite_values,
    group_codes,
)
from exp_pipeline.stats.effects.contrast import independent_columns
from exp_pipeline.stats.inversion import DrawnStatistics, sums_of_scores
from exp_pipeline.stats.reference import require_level
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
Statistic = Literal["studentised", "difference"]

# Assignments x clusters held at once.
_CHUNK = 2_000_000


@dataclass(frozen=True, slots=True)
class RandomisationTest:
    """How unusual is the estimate among those that other assignments would have given?

    The p-value is for the sharp null: no unit's outcome depends on its arm. The interval holds the constant
    effects that the test does not reject; a bound is None, with a flag, where none is rejected on that side.
    `assignments` counts those that were looked at, the one that happened among them if `exact`: then they are
    all that the design allows. `smallest_p` is the least that the test could have given.
    """

    method: str
    n_control: int
    n_treatment: int
    clusters: int
    absolute: float
    statistic: float
    p_value: float
    smallest_p: float
    ci_lower: float | None
    ci_upper: float | None
    level: float
    assignments: int
    exact: bool
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """Sums by cluster, after strata and covariates were taken out of rows: (G,), or (G, q), (G, q, q).

    n: rows. stratum: which stratum, from 0. left: residual outcomes. basis: orthonormal covariates, their
    products with residuals (`basis_left`) and with one another (`basis_basis`).
    """

    n: FloatArray
    stratum: IntArray
    left: FloatArray
    basis: FloatArray
    basis_left: FloatArray
    basis_basis: FloatArray


def randomisation_test(
    outcome: ArrayLike,
    treated: ArrayLike,
    *,
    seed: int,
    cluster: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    covariates: ArrayLike | None = None,
    statistic: Statistic = "studentised",
    draws: int = 9_999,
    level: float = 0.95,
) -> RandomisationTest | NotEstimable:
    """Would the arms differ as much if the assignment had come out otherwise?

    outcome, treated (bool), cluster and strata (whole numbers): (n,), one row a unit of analysis. Arms are
    shuffled among clusters (or units, without clusters) within strata, the number treated in each stratum
    kept: all ways where there are no more than `draws`, else that many random ones with the one that
    happened counted in (Phipson and Smyth 2010). The estimate is least squares with strata and covariates;
    "studentised" compares it over its cluster-robust standard error, which keeps the test honest in large
    samples also where only the average effect is zero (Wu and Ding 2021; with covariates Zhao and Ding
    2021). "difference" compares the estimate itself.

    A stratum with one arm only has nothing to shuffle and is left out, with a flag. NotEstimable for an empty
    arm, no stratum with both arms, or no spread. Raises ValueError for shapes, values or draws (at least 99)
    that do not fit, a cluster with both arms or in two strata.
    """
    require_level(level)
    if statistic not in ("studentised", "difference"):
        raise ValueError(f"statistic must be 'studentised' or 'difference', got {statistic!r}")
    if draws < 99:
        raise ValueError(f"draws must be at least 99, got {draws}")
    y = finite_values("outcome", outcome)
    n = y.shape[0]
    arm = arm_values("treated", treated, n)
    groups = np.arange(n) if cluster is None else group_codes("cluster", cluster, n)
    layers = np.zeros(n, dtype=np.int64) if strata is None else group_codes("strata", strata, n)
    extra = covariate_rows(covariates, n)
    name = f"randomisation-{statistic}"
    counts = (n - int(arm.sum()), int(arm.sum()))
    for label, count in zip(("control", "treatment"), counts, strict=True):
        if count == 0:
            return NotEstimable(name, f"the {label} arm is empty", *counts)
    first = np.unique(groups, return_index=True)[1]
    for label, values in (("arm", arm), ("stratum", layers)):
        if not np.array_equal(values[first][groups], values):
            raise ValueError(f"cluster must lie in one {label} each: arms are shuffled among whole clusters")

    flags: list[str] = []
    mixed = np.zeros(int(layers.max()) + 1, dtype=np.bool_)
    mixed[np.intersect1d(layers[arm], layers[~arm])] = True
    keep = mixed[layers]
    if not keep.any():
        return NotEstimable(name, "no stratum has units of both arms", *counts)
    if not keep.all():
        flags.append(f"{int((~mixed).sum())} strata left out: they have one arm only")
        y, arm, extra = y[keep], arm[keep], extra[keep]
        groups, layers = group_codes("cluster", groups[keep], y.size), layers[keep]
        layers = group_codes("strata", layers, y.size)
        counts = (int((~arm).sum()), int(arm.sum()))
        first = np.unique(groups, return_index=True)[1]

    total = first.size
    chosen, stratum = arm[first].astype(np.float64), layers[first]
    sums, estimate, dropped = _sums(y, arm.astype(np.float64), groups, layers, extra, total)
    flags += dropped
    if sums is None:
        return NotEstimable(name, "covariates determine the arm, or the outcome has no spread", *counts)
    sizes = [int((stratum == s).sum()) for s in range(int(stratum.max()) + 1)]
    taken = [int(chosen[stratum == s].sum()) for s in range(len(sizes))]
    ways = math.prod(math.comb(size, count) for size, count in zip(sizes, taken, strict=True))
    exact = ways <= draws
    assigned = (
        iter([_every_assignment(stratum, sizes, taken)])
        if exact
        else _random_assignments(stratum, taken, draws, np.random.default_rng(seed))
    )
    drawn = _statistics(sums, chosen, assigned, statistic, exact)
    if not drawn.se > 0.0:
        return NotEstimable(name, "too few units for a variance beside the strata", *counts)
    smallest = 1.0 / ways if exact else 1.0 / (draws + 1.0)
    lower, upper = drawn.bounds(1.0 - level)
    if lower is None or upper is None:
        flags.append(
            f"{ways} possible assignments are too few to bound the effect on both sides at this level"
        )
    return RandomisationTest(
        method=name,
        n_control=counts[0],
        n_treatment=counts[1],
        clusters=total,
        absolute=estimate,
        statistic=estimate / drawn.se if statistic == "studentised" else estimate,
        p_value=drawn.p_value(-estimate),
        smallest_p=smallest,
        ci_lower=None if lower is None else estimate + lower,
        ci_upper=None if upper is None else estimate + upper,
        level=level,
        assignments=drawn.top.size,
        exact=exact,
        flags=tuple(flags),
    )


def _sums(
    y: FloatArray, arm: FloatArray, groups: IntArray, layers: IntArray, extra: FloatArray, total: int
) -> tuple[_Sums | None, float, list[str]]:
    """Sums by cluster of what strata, covariates and the arm leave, the estimate, and words on covariates."""
    per_stratum = np.bincount(layers)

    def within(values: FloatArray) -> FloatArray:
        means = np.bincount(layers, values) / per_stratum
        return np.asarray(values - means[layers])

    centred = np.column_stack([within(column) for column in extra.T]) if extra.shape[1] else extra
    size = np.sqrt(np.mean(centred**2, axis=0))
    alive = size > 1e-13 * np.abs(extra).max(axis=0, initial=0.0)
    scaled = np.where(alive, centred / np.where(alive, size, 1.0), 0.0)
    kept = independent_columns(scaled.T @ scaled)
    dropped = [
        f"covariate number {column + 1} dropped: it does not vary or repeats the others"
        for column in range(extra.shape[1])
        if column not in kept
    ]
    scaled = scaled[:, kept]
    basis = scaled @ np.linalg.inv(np.linalg.cholesky(scaled.T @ scaled)).T if kept else scaled
    plain, partial = within(y), within(arm)
    flat = float(partial @ partial)
    plain = plain - basis @ (basis.T @ plain)
    partial = partial - basis @ (basis.T @ partial)
    power = float(partial @ partial)
    if power <= 1e-9 * flat:
        return None, 0.0, dropped
    estimate = float(partial @ plain) / power
    left = plain - estimate * partial
    spread = within(y)
    scale = float(spread @ spread)
    if left @ left <= 1e-13 * scale or scale <= 1e-24 * float(y @ y):
        return None, 0.0, dropped
    q = basis.shape[1]

    def by_cluster(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(groups, values, minlength=total), dtype=np.float64)

    first = np.unique(groups, return_index=True)[1]
    squares = np.empty((total, q, q))
    for i, j in itertools.product(range(q), repeat=2):
        squares[:, i, j] = by_cluster(basis[:, i] * basis[:, j])
    sums = _Sums(
        n=by_cluster(np.ones(y.size)),
        stratum=layers[first],
        left=by_cluster(left),
        basis=np.column_stack([by_cluster(column) for column in basis.T]) if q else np.zeros((total, 0)),
        basis_left=np.column_stack([by_cluster(column * left) for column in basis.T])
        if q
        else np.zeros((total, 0)),
        basis_basis=squares,
    )
    return sums, estimate, dropped


def _every_assignment(stratum: IntArray, sizes: list[int], taken: list[int]) -> FloatArray:
    places = [np.flatnonzero(stratum == s) for s in range(len(sizes))]
    choices = [itertools.combinations(where, count) for where, count in zip(places, taken, strict=True)]
    rows = [list(itertools.chain(*parts)) for parts in itertools.product(*choices)]
    assigned = np.zeros((len(rows), stratum.size))
    assigned[np.arange(len(rows))[:, None], np.array(rows)] = 1.0
    return assigned


def _random_assignments(
    stratum: IntArray, taken: list[int], draws: int, rng: np.random.Generator
) -> Iterator[FloatArray]:
    places = [np.flatnonzero(stratum == s) for s in range(len(taken))]
    step = max(1, _CHUNK // stratum.size)
    for begin in range(0, draws, step):
        rows = min(step, draws - begin)
        assigned = np.zeros((rows, stratum.size))
        for where, count in zip(places, taken, strict=True):
            start = np.zeros((rows, where.size))
            start[:, :count] = 1.0
            assigned[:, where] = rng.permuted(start, axis=1)
        yield assigned


def _statistics(
    sums: _Sums, chosen: FloatArray, assigned: Iterator[FloatArray], statistic: Statistic, exact: bool
) -> DrawnStatistics:
    """Estimate and cluster-robust variance under each assignment, at any constant effect.

    Outcomes without the effect are straight lines in it, so estimates and scores by cluster are too.
    """
    real = _moved(sums, chosen[None, :])
    actual = _with_outcome(sums, real)
    se = math.sqrt(float(np.sum(actual**2))) / float(_with_itself(sums, real).sum())
    parts = []
    alone = not sums.basis.shape[1] and bool((sums.n == 1.0).all()) and not sums.stratum.any()
    if alone and statistic == "studentised":
        parts = [_of_units(sums.left, real.centred[0], chunk) for chunk in assigned]
        return DrawnStatistics.joined(parts, se=se, exact=exact)
    for chunk in assigned:
        drawn = _moved(sums, chunk)
        left, own = _with_outcome(sums, drawn), _with_itself(sums, drawn)
        with_real = (
            drawn.centred * real.centred * sums.n
            - drawn.centred * (real.slopes @ sums.basis.T)
            - real.centred * (drawn.slopes @ sums.basis.T)
            + np.einsum("bi,gij,j->bg", drawn.slopes, sums.basis_basis, real.slopes[0])
        )
        # Covariates may determine an arm that could have been drawn: it has no estimate, no spread either,
        # and so counts against the effect.
        power = own.sum(axis=1)
        power = np.where(power > 1e-9 * (drawn.centred**2 @ sums.n), power, np.inf)
        top, top_slope = left.sum(axis=1) / power, with_real.sum(axis=1) / power
        if statistic == "difference":
            none = np.zeros(top.size)
            parts.append(np.stack([top, top_slope, np.isfinite(power).astype(np.float64), none, none]))
            continue
        scores = left - top[:, None] * own
        slopes = with_real - top_slope[:, None] * own
        parts.append(sums_of_scores(top, top_slope, scores, slopes, power))
    return DrawnStatistics.joined(
        parts, se=1.0 if statistic == "difference" and se > 0.0 else se, exact=exact
    )


def _of_units(left: FloatArray, real: FloatArray, assigned: FloatArray) -> FloatArray:
    """As the general way, for units drawn one by one without strata or covariates: from sums by drawn arm.

    A unit's score is c (left - top c) less d times c (real - slope c), with c one of two numbers, so that
    squares need the sums of five columns over the drawn arms and nothing by unit.
    """
    columns = np.column_stack([left, left**2, real, left * real, real**2])
    treated = assigned @ columns
    taken, n = assigned.sum(axis=1), float(left.size)
    share = taken / n
    power = n * share * (1.0 - share)
    sides = (
        (1.0 - share, taken, treated),
        (-share, n - taken, columns.sum(axis=0)[None, :] - treated),
    )
    top = sum(c * held[:, 0] for c, _, held in sides) / power
    slope = sum(c * held[:, 2] for c, _, held in sides) / power
    squares = np.zeros((3, taken.size))
    for c, count, held in sides:
        e, e2, w, ew, w2 = held.T
        squares[0] += c**2 * (e2 - 2.0 * top * c * e + count * (top * c) ** 2)
        squares[1] += c**2 * (ew - slope * c * e - top * c * w + count * top * slope * c**2)
        squares[2] += c**2 * (w2 - 2.0 * slope * c * w + count * (slope * c) ** 2)
    return np.stack([top, slope, *(squares / power**2)])


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """An arm less its stratum's mean, (B, G), and its slopes on the covariates, (B, q)."""

    centred: FloatArray
    slopes: FloatArray


def _moved(sums: _Sums, assigned: FloatArray) -> _Drawn:
    order = np.argsort(sums.stratum, kind="stable")
    starts = np.flatnonzero(np.diff(sums.stratum[order], prepend=-1))
    rows = np.add.reduceat(sums.n[order], starts)
    shares = np.add.reduceat((assigned * sums.n)[:, order], starts, axis=1) / rows
    centred = assigned - shares[:, sums.stratum]
    return _Drawn(centred, centred @ sums.basis)


def _with_outcome(sums: _Sums, drawn: _Drawn) -> FloatArray:
    """Products by cluster, (B, G), of a drawn arm (less strata and covariates) with the residuals."""
    return np.asarray(drawn.centred * sums.left - drawn.slopes @ sums.basis_left.T)


def _with_itself(sums: _Sums, drawn: _Drawn) -> FloatArray:
    """Products by cluster, (B, G), of a drawn arm (less strata and covariates) with itself."""
    return np.asarray(
        drawn.centred**2 * sums.n
        - 2.0 * drawn.centred * (drawn.slopes @ sums.basis.T)
        + np.einsum("bi,gij,bj->bg", drawn.slopes, sums.basis_basis, drawn.slopes)
    )
