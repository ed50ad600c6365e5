"""Effects where units adopted at different times: each cohort against those not treated yet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.effects import SHAKY_DF
from exp_pipeline.stats.quasi.event_study import EventStudy
from exp_pipeline.stats.quasi.outcome import NOT_RANDOMISED, QuasiEffect, hotelling, point
from exp_pipeline.stats.quasi.panel import (
    PARALLEL,
    adoption_of,
    checked_rows,
    kept_rows,
    renumbered,
    whole_periods,
)
from exp_pipeline.stats.reference import two_sided_critical, two_sided_p
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

DESIGN = "staggered difference-in-differences"
Controls = Literal["never", "not_yet"]


@dataclass(frozen=True, slots=True)
class CohortPeriod:
    """What was the effect in `period` on those who adopted in `cohort`? Before adoption it should be zero."""

    cohort: int
    period: int
    estimate: float
    se: float
    n_treatment: int
    n_control: int


@dataclass(frozen=True, slots=True, eq=False)
class StaggeredEffects:
    """What did treatment change in each cohort and period, and in sums of them?

    `overall` weighs every treated cohort and period by the cohort's size; `cohort_average` first averages the
    periods of each cohort, so that long-treated cohorts do not count more. `study` is by distance from
    adoption, its `average` over distances alike, its `pretrend` on those before.
    """

    design: str
    controls: str
    cells: tuple[CohortPeriod, ...]
    overall: QuasiEffect
    by_cohort: tuple[QuasiEffect, ...]
    cohorts: tuple[int, ...]
    cohort_average: QuasiEffect
    study: EventStudy
    assumptions: tuple[str, ...]
    flags: tuple[str, ...] = ()
    label: str = NOT_RANDOMISED


@dataclass(frozen=True, slots=True, eq=False)
class _Cell:
    """One effect with what each cluster adds to it, (G,)."""

    cohort: int
    period: int
    estimate: float
    moves: FloatArray
    n_treatment: int
    n_control: int


@dataclass(frozen=True, slots=True, eq=False)
class _Panel:
    """Changes of U units over T periods (NaN where not seen), with dates, clusters and cohorts' shares."""

    values: FloatArray
    times: IntArray
    start: FloatArray
    groups: IntArray
    clusters: int
    cohorts: IntArray
    shares: FloatArray


@dataclass(frozen=True, slots=True)
class _Said:
    """What all results of one call say."""

    controls: str
    counts: tuple[int, int]
    assumptions: tuple[str, ...]
    flags: tuple[str, ...]
    small_sample: bool
    level: float


def staggered_effects(
    outcome: ArrayLike,
    unit: ArrayLike,
    period: ArrayLike,
    adopted: ArrayLike,
    *,
    cluster: ArrayLike | None = None,
    controls: Controls = "never",
    small_sample: bool = True,
    level: float = 0.95,
) -> StaggeredEffects | NotEstimable:
    """What did treatment change, when units adopted at different times?

    outcome, unit, period (whole numbers), adopted (period of adoption, infinity for never): (n,), one row a
    unit and period. Each cohort's change since its last period before adoption is compared with that of the
    controls, and cells are averaged (Callaway and Sant'Anna 2021, unconditional; universal base period).
    controls: "never" adopted, or "not_yet" adopted at the time (and at the base). cluster: (n,), by default
    the unit. Units not seen at both periods of a cell are left out of it.

    Standard errors from influence functions summed by cluster, those of estimated weights among them. With
    `small_sample` each cluster's part of a cell's mean is divided by the root of one minus its share, which
    for two groups is Welch's variance, and t has Satterthwaite's degrees of freedom over cohorts; without,
    they are the paper's, and normal.

    NotEstimable where nobody adopts, no cohort has a period before, controls are missing, or a side is one
    cluster everywhere. Raises ValueError for shapes or values that do not fit.
    """
    if controls not in ("never", "not_yet"):
        raise ValueError(f"controls must be 'never' or 'not_yet', got {controls!r}")
    y, groups = checked_rows(outcome, cluster, unit, level, "auto")
    n = y.size
    when, start = whole_periods(period, n), adoption_of(adopted, unit, n)
    units = renumbered(np.asarray(unit))
    keep, flags = kept_rows(units, renumbered(when), groups)
    panel, more = _panel(y[keep], units[keep], when[keep], start[keep], groups[keep])
    flags += more
    name = f"{DESIGN}-{controls}"
    ever = int(np.isfinite(panel.start).sum())
    counts = panel.start.size - ever, ever
    if panel.cohorts.size == 0:
        reason = "nobody adopts within the periods, with a period before"
        return NotEstimable(name, reason, *counts)
    if controls == "never" and counts[0] == 0:
        return NotEstimable(name, "every unit adopts: compare with those not treated yet", *counts)
    cells, skipped = _cells(panel, controls, small_sample)
    if not any(cell.period >= cell.cohort for cell in cells):
        reason = "no cohort has a period from adoption on with two clusters on each side"
        return NotEstimable(name, reason, *counts)
    if skipped:
        flags += (f"{skipped} pairs of cohort and period have fewer than two clusters on a side",)
    assumptions = (
        *PARALLEL,
        "once treated, units stay treated",
        "the controls stand for what each cohort would have done"
        + (" (those who never adopt)" if controls == "never" else " (also those who adopt later)"),
    )

    said = _Said(f"-{controls}", counts, assumptions, flags, small_sample, level)
    treated = [cell for cell in cells if cell.period >= cell.cohort]
    weights, drift = _size_weights(panel, treated)
    overall = _effect(panel, said, "overall", *_sum(treated, weights, drift))
    by_cohort, kept_cohorts, averages = [], [], []
    for cohort in panel.cohorts:
        own = [cell for cell in treated if cell.cohort == cohort]
        if own:
            estimate, moves = _sum(own, np.full(len(own), 1.0 / len(own)), 0.0)
            averages.append(_Cell(int(cohort), int(cohort), estimate, moves, 0, 0))
            found = _effect(panel, said, f"cohort {cohort}", estimate, moves)
            if found is not None:
                by_cohort.append(found)
                kept_cohorts.append(int(cohort))
    weights, drift = _size_weights(panel, averages)
    average = _effect(panel, said, "cohort average", *_sum(averages, weights, drift))
    study = _study(panel, cells, said)
    if overall is None or average is None or study is None:
        return NotEstimable(name, "the outcome's changes have no spread", *counts)
    shown = tuple(
        CohortPeriod(
            cell.cohort,
            cell.period,
            cell.estimate,
            math.sqrt(float(cell.moves @ cell.moves)),
            cell.n_treatment,
            cell.n_control,
        )
        for cell in cells
    )
    return StaggeredEffects(
        DESIGN,
        controls,
        shown,
        overall,
        tuple(by_cohort),
        tuple(kept_cohorts),
        average,
        study,
        assumptions,
        flags,
    )


def _panel(
    y: FloatArray, units: IntArray, when: IntArray, start: FloatArray, groups: IntArray
) -> tuple[_Panel, tuple[str, ...]]:
    flags: tuple[str, ...] = ()
    times = np.unique(when)
    if times.size:
        start = np.where(start > times[-1], np.inf, start)
    always = np.isfinite(start) & (start <= (times[0] if times.size else 0))
    if always.any():
        flags = (f"{np.unique(units[always]).size} units adopted before the first period: they are left out",)
    units, groups = renumbered(units[~always]), renumbered(groups[~always])
    y, when, start = y[~always], when[~always], start[~always]
    u = int(units.max()) + 1 if units.size else 0
    values = np.full((u, times.size), np.nan)
    values[units, np.searchsorted(times, when)] = y
    first, home = np.full(u, np.inf), np.zeros(u, dtype=np.int64)
    first[units], home[units] = start, groups
    cohorts = np.unique(first[np.isfinite(first)]).astype(np.int64)
    shares = np.array([np.mean(first == cohort) for cohort in cohorts])
    clusters = int(home.max()) + 1 if u else 0
    return _Panel(values, times, first, home, clusters, cohorts, shares), flags


def _cells(panel: _Panel, controls: Controls, small_sample: bool) -> tuple[list[_Cell], int]:
    cells, skipped = [], 0
    for cohort in panel.cohorts:
        base = int(np.flatnonzero(panel.times < cohort)[-1])
        for place, time in enumerate(panel.times):
            if place == base:
                continue
            change = panel.values[:, place] - panel.values[:, base]
            seen = np.isfinite(change)
            side = seen & (panel.start == cohort)
            last = np.inf if controls == "never" else max(time, panel.times[base])
            others = seen & ~(panel.start == cohort)
            others &= np.isinf(panel.start) if controls == "never" else panel.start > last
            if min(_spread_over(panel, side), _spread_over(panel, others)) < 2:
                skipped += 1
                continue
            own, own_moves = _mean(change, side, panel, small_sample)
            other, other_moves = _mean(change, others, panel, small_sample)
            cells.append(
                _Cell(
                    int(cohort),
                    int(time),
                    own - other,
                    own_moves - other_moves,
                    int(side.sum()),
                    int(others.sum()),
                )
            )
    return cells, skipped


def _spread_over(panel: _Panel, side: BoolArray) -> int:
    return int(np.unique(panel.groups[side]).size)


def _mean(change: FloatArray, side: BoolArray, panel: _Panel, lift: bool) -> tuple[float, FloatArray]:
    """A mean, and by how much each cluster moves it."""
    groups, values = panel.groups[side], change[side]
    mean = float(values.mean())
    mean += float((values - mean).mean())
    moves = np.bincount(groups, weights=values - mean, minlength=panel.clusters) / values.size
    if lift:
        moves = moves / np.sqrt(1.0 - np.bincount(groups, minlength=panel.clusters) / values.size)
    return mean, moves


def _size_weights(panel: _Panel, cells: list[_Cell]) -> tuple[FloatArray, FloatArray]:
    """Weights by the cohorts' sizes, (K,), and by how much each cluster moves the sum through them, (G,)."""
    places = np.searchsorted(panel.cohorts, [cell.cohort for cell in cells])
    shares = panel.shares[places]
    total = float(shares.sum())
    weights = shares / total
    estimates = np.array([cell.estimate for cell in cells])
    middle = float(weights @ estimates)
    # d(sum)/d(share of a cohort) for each unit of that cohort; over all units these sum to zero.
    slope = np.bincount(places, weights=estimates - middle, minlength=panel.cohorts.size) / total
    at = np.searchsorted(panel.cohorts, panel.start)
    ever = np.isfinite(panel.start)
    pull = np.where(ever, slope[np.where(ever, at, 0)], 0.0)
    return weights, np.bincount(panel.groups, weights=pull, minlength=panel.clusters) / panel.start.size


def _cohort_degrees(panel: _Panel, moves: FloatArray) -> float:
    """Satterthwaite's degrees of freedom over cohorts, each with its clusters less one."""
    kinds = np.append(panel.cohorts.astype(np.float64), np.inf)
    holds = np.zeros((kinds.size, panel.clusters), dtype=np.bool_)
    holds[np.searchsorted(kinds, panel.start), panel.groups] = True
    if (holds.sum(axis=0) > 1).any():
        return panel.clusters - 1.0
    sizes = holds.sum(axis=1)
    parts = np.array([float(np.sum(moves[held] ** 2)) for held in holds])
    total = float(parts.sum())
    spread = float(np.sum(parts[sizes > 1] ** 2 / (sizes[sizes > 1] - 1.0)))
    return total**2 / spread if spread > 0.0 else 0.0


def _sum(cells: list[_Cell], weights: FloatArray, drift: FloatArray | float) -> tuple[float, FloatArray]:
    """The weighted sum of cells, and by how much each cluster moves it."""
    estimate = sum(float(w) * cell.estimate for w, cell in zip(weights, cells, strict=True))
    return float(estimate), np.stack([cell.moves for cell in cells], axis=1) @ weights + drift


def _effect(
    panel: _Panel, said: _Said, method: str, absolute: float, moves: FloatArray
) -> QuasiEffect | None:
    se = math.sqrt(float(moves @ moves))
    df = _cohort_degrees(panel, moves) if said.small_sample else math.inf
    if not (se > 1e-13 * float(np.nanmax(np.abs(panel.values))) and df > 0.0):
        return None
    rough = (f"only {df:.1f} degrees of freedom: p-value and interval are rough",) if df < SHAKY_DF else ()
    reach = two_sided_critical(said.level, df) * se
    ever = np.isfinite(panel.start)
    return QuasiEffect(
        design=DESIGN,
        method=method + said.controls,
        n_control=said.counts[0],
        n_treatment=said.counts[1],
        absolute=absolute,
        se=se,
        df=df,
        ci_lower=absolute - reach,
        ci_upper=absolute + reach,
        p_value=two_sided_p(absolute / se, df),
        level=said.level,
        assumptions=said.assumptions,
        flags=said.flags + rough,
        clusters_control=_spread_over(panel, ~ever),
        clusters_treatment=_spread_over(panel, ever),
    )


def _study(panel: _Panel, cells: list[_Cell], said: _Said) -> EventStudy | None:
    """Effects by distance from adoption, cohorts weighed by their sizes."""
    flags = said.flags
    bases = {int(panel.times[panel.times < cohort][-1] - cohort) for cohort in panel.cohorts}
    if len(bases) > 1:
        flags += ("cohorts have their last period before adoption at different distances",)
    distances = sorted({cell.period - cell.cohort for cell in cells})
    estimates, moves = [], []
    for distance in distances:
        own = [cell for cell in cells if cell.period - cell.cohort == distance]
        estimate, move = _sum(own, *_size_weights(panel, own))
        estimates.append(estimate)
        moves.append(move)
    together = np.stack(moves, axis=1)
    covariance = together.T @ together
    degrees = [_cohort_degrees(panel, move) if said.small_sample else math.inf for move in moves]
    points = tuple(
        point(at, estimates[j], math.sqrt(covariance[j, j]), degrees[j], said.level)
        for j, at in enumerate(distances)
    )
    post = np.array(distances) >= 0
    average = _effect(
        panel,
        said,
        "event average",
        float(np.mean(np.array(estimates)[post])),
        together[:, post].mean(axis=1),
    )
    pretrend = None
    if post.all():
        flags += ("one period before adoption: whether trends were parallel cannot be seen",)
    else:
        before = np.flatnonzero(~post)
        eta = panel.clusters - panel.cohorts.size - 1.0 if said.small_sample else math.inf
        pretrend = hotelling(np.array(estimates)[before], covariance[np.ix_(before, before)], eta)
        if pretrend is None:
            flags += ("too few clusters to test all points before adoption at once",)
    if average is None:
        return None
    return EventStudy(DESIGN, points, covariance, max(bases), average, pretrend, said.assumptions, flags)
