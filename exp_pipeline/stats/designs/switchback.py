"""Experiments that switch everybody back and forth over time: effects, carry-over, randomisation test."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.reference import require_level, two_sided_critical, two_sided_p
from exp_pipeline.stats.results import Effect, NotEstimable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

# All assignments are counted, instead of drawn, up to this many.
_MOST_COUNTED = 2**14


@dataclass(frozen=True, slots=True)
class SwitchbackEffect:
    """What is the effect of treating always, against never, on the mean of a slot?

    `order` is the number of earlier slots whose treatment may still matter. `se` is from a variance that is
    too large on average, never too small (`conservative`), so intervals cover at least their level.
    """

    method: str
    absolute: float
    se: float
    ci_lower: float
    ci_upper: float
    p_value: float
    level: float
    mean_control: float
    mean_treatment: float
    order: int
    regions: int
    slots: int
    blocks: int
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RandomisationTest:
    """How rare is the observed difference among the assignments that the design could have drawn?

    `p_value` is exact (`counted`: all assignments; else the share of `draws`, with the observed one among
    them) under no effect on any slot, whatever the outcomes' own course.
    """

    statistic: float
    p_value: float
    draws: int
    counted: bool


def switchback_difference(
    outcome: ArrayLike,
    treated: ArrayLike,
    block: ArrayLike,
    *,
    region: ArrayLike | None = None,
    slot_in_block: ArrayLike | None = None,
    burn_in: int = 0,
    cluster: str = "block",
    strata: ArrayLike | None = None,
    level: float = 0.95,
) -> Effect | NotEstimable:
    """By how much do treated slots differ, when whole blocks of slots were switched?

    outcome, treated: (n,), one row a region and slot. block: (n,) whole numbers, the blocks of time that
    were randomised. region: (n,) whole numbers where each region switched by itself. burn_in: so many slots
    are left out at the head of every block (`slot_in_block` counts from 0), switched or not, so that what is
    left out does not depend on the treatment; take at least the carry-over. cluster: "block" takes each
    region's blocks as independent, "region" whole regions (needs many). strata: (n,) whole numbers, such as
    the hour of the day. The estimate is that of `clusters.clustered_difference`.

    NotEstimable as there, and where burn-in leaves nothing. Raises ValueError for a block that holds both
    arms within a region, or arguments that do not fit.
    """
    y = np.asarray(outcome, dtype=np.float64)
    n = y.size
    arm = np.asarray(treated)
    if y.shape != (n,) or arm.shape != (n,) or not np.isin(arm, (0, 1)).all():
        raise ValueError(f"treated must hold {n} true or false values beside outcome, got shape {arm.shape}")
    if cluster not in ("block", "region"):
        raise ValueError(f"cluster must be 'block' or 'region', got {cluster!r}")
    if cluster == "region" and region is None:
        raise ValueError("cluster 'region' needs region")
    places = np.zeros(n, dtype=np.int64) if region is None else _codes("region", region, n)
    times = _codes("block", block, n)
    cells = np.unique(places * (int(times.max(initial=0)) + 1) + times, return_inverse=True)[1]
    share = np.bincount(cells, arm.astype(np.float64)) / np.bincount(cells)
    mixed = np.flatnonzero((share > 0.0) & (share < 1.0))
    if mixed.size:
        row = int(np.flatnonzero(cells == mixed[0])[0])
        raise ValueError(
            f"the block of row {row} holds treated and untreated slots: it was not switched whole"
        )
    if burn_in < 0:
        raise ValueError(f"burn_in must be at least 0, got {burn_in}")
    kept = np.ones(n, dtype=np.bool_)
    if burn_in:
        if slot_in_block is None:
            raise ValueError("burn_in needs slot_in_block")
        at = np.asarray(slot_in_block)
        if at.shape != (n,):
            raise ValueError(f"slot_in_block must have shape ({n},), got {at.shape}")
        kept = at >= burn_in
        if not kept.any():
            return NotEstimable("switchback", f"a burn-in of {burn_in} slots leaves no slot of any block")
    layers = None if strata is None else np.asarray(strata)[kept]
    groups = (places if cluster == "region" else cells)[kept]
    return clustered_difference(
        y[kept],
        arm[kept].astype(np.bool_),
        np.unique(groups, return_inverse=True)[1],
        strata=layers,
        level=level,
    )


def switchback_effect(
    outcome: ArrayLike,
    treated: ArrayLike,
    decision: ArrayLike,
    *,
    order: int,
    probability: float = 0.5,
    level: float = 0.95,
) -> SwitchbackEffect | NotEstimable:
    """What does treating all the time change, when treatment may still matter `order` slots later?

    outcome, treated: (slots,) or (regions, slots) in order of time; decision: (slots,) true where a coin of
    `probability` chose the treatment until the next decision, each region its own; the first is true.
    Horvitz and Thompson's over slots whose last `order` + 1 slots were all treated, or all not (Bojinov,
    Simchi-Levi and Zhao 2023), slots from `order` + 1 on. The variance takes, for products of outcomes that
    no assignment shows together, their largest size (as Aronow and Samii 2013 do); for the optimal design of
    the former it is their first bound (24 times inner squares, 6 at the ends). It rests on the coins alone,
    not on a model of outcomes. Take out first what is known beforehand of the course of the day: the variance
    grows with the outcomes' own size.

    NotEstimable where no stretch is wholly treated or untreated. Raises ValueError for a treatment that
    changes without a decision, or arguments that do not fit.
    """
    require_level(level)
    method = f"switchback-horvitz-thompson-{order}"
    y, arm, starts = _panel(outcome, treated, decision, order, probability)
    regions, slots = y.shape
    value, variance, shown = _horvitz_thompson(y, arm, starts, order, probability)
    if 0 in shown:
        side_name = "untreated" if shown[0] == 0 else "treated"
        return NotEstimable(method, f"no stretch of {order + 1} slots is wholly {side_name}")
    if variance <= 0.0:
        return NotEstimable(method, "the outcomes are zero, or their estimated variance is not above zero")
    absolute = float(value[1] - value[0])
    se = math.sqrt(variance)
    reach = two_sided_critical(level, math.inf) * se
    few = regions * int(starts.sum()) < 20
    return SwitchbackEffect(
        method=method,
        absolute=absolute,
        se=se,
        ci_lower=absolute - reach,
        ci_upper=absolute + reach,
        p_value=two_sided_p(absolute / se, math.inf),
        level=level,
        mean_control=float(value[0]),
        mean_treatment=float(value[1]),
        order=order,
        regions=regions,
        slots=slots,
        blocks=int(starts.sum()),
        flags=("fewer than twenty coins: prefer the randomisation test",) if few else (),
    )


def switchback_randomisation_test(
    outcome: ArrayLike,
    treated: ArrayLike,
    decision: ArrayLike,
    *,
    seed: int,
    order: int = 0,
    probability: float = 0.5,
    draws: int = 2000,
) -> RandomisationTest | NotEstimable:
    """Could the difference be that of the coins alone (Fisher's sharp null of no effect at all)?

    Arguments as in `switchback_effect`. The statistic is the difference of mean outcomes between slots whose
    last `order` + 1 slots were all treated and all not; assignments that leave a side empty count as no
    difference. All 2^coins assignments are counted if that is feasible and the coin is fair, else `draws`
    are drawn. NotEstimable where the observed assignment leaves a side empty.
    """
    y, arm, starts = _panel(outcome, treated, decision, order, probability)
    if draws < 100:
        raise ValueError(f"draws must be at least 100, got {draws}")
    regions, slots = y.shape
    coins = int(starts.sum())
    blocks = np.cumsum(starts) - 1
    values = y[:, order:]

    def statistic(assignment: BoolArray) -> FloatArray:
        """(k,) differences for assignments (k, regions, coins)."""
        by_slot = assignment[:, :, blocks].astype(np.int64)
        running = np.cumsum(by_slot, axis=2)
        window = running[:, :, order:].copy()
        window[:, :, 1:] -= running[:, :, : slots - order - 1]
        on, off = window == order + 1, window == 0
        n_on, n_off = on.sum(axis=(1, 2)), off.sum(axis=(1, 2))
        mean_on = np.where(on, values, 0.0).sum(axis=(1, 2)) / np.maximum(n_on, 1)
        mean_off = np.where(off, values, 0.0).sum(axis=(1, 2)) / np.maximum(n_off, 1)
        difference: FloatArray = np.where((n_on > 0) & (n_off > 0), mean_on - mean_off, 0.0)
        return difference

    seen = arm[None][:, :, np.flatnonzero(starts)]
    on = _windows(arm, order)
    if not on.any() or not _windows(~arm, order).any():
        return NotEstimable(
            "switchback-randomisation", f"no stretch of {order + 1} slots on one of the sides"
        )
    observed = float(statistic(seen)[0])
    bits = regions * coins
    counted = probability == 0.5 and bits < 63 and 2**bits <= min(_MOST_COUNTED, max(draws, 4096))
    limit = abs(observed) * (1.0 - 1e-9) - 1e-12 * float(np.abs(y).max())
    total = 2**bits if counted else draws
    rng = np.random.default_rng(seed)
    extreme = 0
    step = max(1, 2_000_000 // max(regions * slots, 1))
    for begin in range(0, total, step):
        k = min(step, total - begin)
        if counted:
            numbers = np.arange(begin, begin + k)[:, None] >> np.arange(bits)
            assignment = (numbers & 1).astype(np.bool_).reshape(k, regions, coins)
        else:
            assignment = rng.random((k, regions, coins)) < probability
        extreme += int((np.abs(statistic(assignment)) >= limit).sum())
    p = extreme / total if counted else (1 + extreme) / (1 + total)
    return RandomisationTest(observed, min(1.0, p), total, counted)


def _horvitz_thompson(
    y: FloatArray, arm: BoolArray, starts: BoolArray, order: int, probability: float
) -> tuple[FloatArray, float, IntArray]:
    """Estimates of both sides' mean, the bound of their difference's variance, and slots shown."""
    regions, slots = y.shape
    blocks = np.cumsum(starts) - 1
    # A slot depends on the blocks of its last order + 1 slots: from `early` to `late`.
    late, early = blocks[order:], blocks[: slots - order]
    support = np.unique(np.column_stack([early, late]), axis=0, return_inverse=True)
    spans, at = support[0], support[1].ravel()
    size = spans[:, 1] - spans[:, 0] + 1
    first = np.flatnonzero(starts)
    by_block = arm[:, first]
    total = regions * (slots - order)
    value, variance = np.zeros(2), 0.0
    shown = np.zeros(2, dtype=np.int64)
    sums = np.array([np.bincount(at, row[order:], minlength=len(spans)) for row in y])
    for side, chance in ((0, 1.0 - probability), (1, probability)):
        same = by_block if side else ~by_block
        running = np.concatenate([np.zeros((regions, 1)), np.cumsum(same, axis=1)], axis=1)
        whole = running[:, spans[:, 1] + 1] - running[:, spans[:, 0]] == size
        p = chance**size
        seen = np.where(whole, sums, 0.0)
        shown[side] = int((whole * np.bincount(at, minlength=len(spans))).sum())
        value[side] = float((seen / p).sum()) / total
        # Its own variance, and half of its square for each other side's sum that shares a block with it.
        overlap = (spans[:, None, 0] <= spans[None, :, 1]) & (spans[None, :, 0] <= spans[:, None, 1])
        neighbours = overlap.sum(axis=1) - 1
        variance += float((seen**2 / p * (1.0 / p + neighbours)).sum())
        for i, j in zip(*np.nonzero(np.triu(overlap, 1)), strict=True):
            union = max(spans[i, 1], spans[j, 1]) - min(spans[i, 0], spans[j, 0]) + 1
            both = chance**union
            variance += 2.0 * float((seen[:, i] * seen[:, j]).sum()) * (1.0 / (p[i] * p[j]) - 1.0 / both)
    return value, variance / total**2, shown


def _windows(arm: BoolArray, order: int) -> BoolArray:
    """Which slots (regions, slots - order) had `arm` in all of their last order + 1 slots?"""
    whole = np.ones((arm.shape[0], arm.shape[1] - order), dtype=np.bool_)
    for back in range(order + 1):
        whole &= arm[:, order - back : arm.shape[1] - back]
    return whole


def _codes(name: str, values: ArrayLike, n: int) -> IntArray:
    named = np.asarray(values)
    if named.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), got {named.shape}")
    return np.unique(named, return_inverse=True)[1].astype(np.int64)


def _panel(
    outcome: ArrayLike, treated: ArrayLike, decision: ArrayLike, order: int, probability: float
) -> tuple[FloatArray, BoolArray, BoolArray]:
    y = np.atleast_2d(np.asarray(outcome, dtype=np.float64))
    arm = np.atleast_2d(np.asarray(treated))
    starts = np.asarray(decision)
    if y.ndim != 2 or arm.shape != y.shape or not np.isfinite(y).all() or not np.isin(arm, (0, 1)).all():
        raise ValueError(
            f"outcome and treated must have one shape, got {y.shape} and {arm.shape}, without gaps"
        )
    slots = y.shape[1]
    if starts.shape != (slots,) or not np.isin(starts, (0, 1)).all() or slots == 0 or not starts[0]:
        raise ValueError(f"decision must hold {slots} true or false values, the first of them true")
    if not 0 <= order < slots:
        raise ValueError(f"order must lie between 0 and {slots - 1}, got {order}")
    if not 0.0 < probability < 1.0:
        raise ValueError(f"probability must lie between 0 and 1, got {probability!r}")
    arm, starts = arm.astype(np.bool_), starts.astype(np.bool_)
    changed = np.argwhere((arm[:, 1:] != arm[:, :-1]) & ~starts[1:])
    if changed.size:
        raise ValueError(
            f"treated changes at slot {changed[0, 1] + 1} of region {changed[0, 0]} without a decision"
        )
    return y, arm, starts
