"""Do units of one arm touch those of the other, and what does that do to the effect?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import arm_values, finite_values, group_codes
from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.clusters.intraclass import design_effect
from exp_pipeline.stats.effects.contrast import independent_columns
from exp_pipeline.stats.groups.joint import JointEffects, contrast_of_cells, joint_effects
from exp_pipeline.stats.reference import require_level, two_sided_critical, two_sided_p
from exp_pipeline.stats.results import Effect, NotEstimable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Contacts:
    """Whom does each of n units touch? part: (n,) number of the connected part that a unit belongs to."""

    neighbours: IntArray
    treated_neighbours: IntArray
    part: IntArray

    @property
    def share_treated(self) -> FloatArray:
        """Which share of a unit's neighbours is treated? (n,), 0 for a unit without neighbours."""
        return np.asarray(self.treated_neighbours / np.maximum(self.neighbours, 1), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Difference:
    """One number with its interval: a change of an effect, or the effect of exposure."""

    absolute: float
    se: float
    df: float
    ci_lower: float
    ci_upper: float
    p_value: float


@dataclass(frozen=True, slots=True)
class DoseEffect:
    """What is the effect among units of whose neighbours a share above lower, up to upper, is treated?"""

    lower: float
    upper: float
    n_control: int
    n_treatment: int
    effect: Difference


@dataclass(frozen=True, slots=True)
class Spillover:
    """What does exposure to treated neighbours do, in a straight line in their share, to units that have any?

    on_control, on_treatment: by all neighbours treated against none. direct: of treatment with no neighbour
    treated. total: of everybody treated against nobody, which is what a launch does.
    """

    on_control: Difference
    on_treatment: Difference
    direct: Difference
    total: Difference


@dataclass(frozen=True, slots=True)
class Interference:
    """How many controls touch treated units, and what is the effect without those who touch the other arm?

    moved: the effect without them less that of all. Without a spillover, and where who touches whom has
    nothing to do with the effect, it is chance.
    """

    controls: int
    controls_exposed: int
    treated: int
    treated_exposed: int
    share_of_controls_exposed: float
    mean_share_treated: float
    all_units: Effect | NotEstimable
    without_shared: Effect | NotEstimable
    moved: Difference | NotEstimable
    by_dose: tuple[DoseEffect, ...] | NotEstimable
    spillover: Spillover | NotEstimable
    level: float
    flags: tuple[str, ...] = ()


def contacts(
    treated: ArrayLike, *, groups: ArrayLike | None = None, pairs: ArrayLike | None = None
) -> Contacts:
    """Whom does each unit touch? Either groups (n,), such as a class, device or household, or pairs (m, 2).

    pairs: places (from 0) of two units that touch; order and repeats do not matter. Raises ValueError unless
    exactly one is given, or for a unit paired with itself or out of range.
    """
    arm = np.asarray(treated)
    arm = arm_values("treated", arm, arm.shape[0] if arm.ndim == 1 else -1)
    n = arm.size
    if (groups is None) == (pairs is None):
        raise ValueError("exactly one of groups and pairs must be given")
    if groups is not None:
        codes = group_codes("groups", groups, n)
        size, held = np.bincount(codes), np.bincount(codes, weights=arm)
        return Contacts((size[codes] - 1).astype(np.int64), (held[codes] - arm).astype(np.int64), codes)
    ends = np.asarray(pairs)
    if ends.size == 0:
        ends = np.zeros((0, 2), dtype=np.int64)
    if ends.ndim != 2 or ends.shape[1] != 2 or not np.issubdtype(ends.dtype, np.integer):
        raise ValueError(f"pairs must be whole numbers of shape (m, 2), got shape {ends.shape}")
    if ends.size and (ends.min() < 0 or ends.max() >= n or (ends[:, 0] == ends[:, 1]).any()):
        raise ValueError(f"pairs must name two different units from 0 to {n - 1}")
    ends = np.unique(np.sort(ends.astype(np.int64), axis=1), axis=0)
    a, b = np.concatenate([ends[:, 0], ends[:, 1]]), np.concatenate([ends[:, 1], ends[:, 0]])
    part = np.arange(n)
    # The smallest number in reach, handed on until nothing changes; halving chains on the way.
    while True:
        before = part.copy()
        np.minimum.at(part, a, part[b])
        part = part[part]
        if np.array_equal(before, part):
            break
    return Contacts(
        np.bincount(a, minlength=n).astype(np.int64),
        np.bincount(a, weights=arm[b].astype(np.float64), minlength=n).astype(np.int64),
        np.unique(part, return_inverse=True)[1].astype(np.int64).reshape(n),
    )


def interference(
    outcome: ArrayLike,
    treated: ArrayLike,
    touched: Contacts,
    *,
    doses: tuple[float, ...] = (0.0, 1 / 3, 2 / 3, 1.0),
    level: float = 0.95,
) -> Interference:
    """How much do the arms touch, and does the effect hang on it?

    outcome, treated: (n,), randomised unit by unit. touched: see `contacts`. doses: edges of the shares of
    treated neighbours, the first being "none"; an effect is given for none and for each stretch between
    edges. Errors are by connected part throughout. The spillover is least squares on arm, share and their
    product beside the number of neighbours (CR1, parts less one degrees of freedom): under randomisation of
    units the share is as good as random, who has neighbours is not.
    """
    require_level(level)
    y = finite_values("outcome", outcome)
    n = y.size
    arm = arm_values("treated", treated, n)
    if touched.neighbours.shape != (n,):
        raise ValueError(f"touched must be of the same {n} units, got {touched.neighbours.shape[0]}")
    if len(doses) < 2 or any(a >= b for a, b in pairwise(doses)) or doses[0] != 0.0:
        raise ValueError(f"doses must rise from 0, got {doses!r}")
    other = np.where(arm, touched.neighbours - touched.treated_neighbours, touched.treated_neighbours)
    shared = other > 0
    n_c, n_t = int((~arm).sum()), int(arm.sum())
    exposed_c, exposed_t = int((shared & ~arm).sum()), int((shared & arm).sum())
    everyone = clustered_difference(y, arm, touched.part, level=level)
    apart: Effect | NotEstimable
    if shared.any():
        apart = clustered_difference(y[~shared], arm[~shared], touched.part[~shared], level=level)
        moved = _moved(y, arm, ~shared, touched.part, level)
    else:
        apart = everyone
        moved = NotEstimable("sensitivity", "no unit touches the other arm: nothing to leave out", n_c, n_t)
    share = touched.share_treated
    flags = []
    if n_c and exposed_c > 0.5 * n_c:
        flags.append("most controls touch treated units: those who do not are a special few")
    return Interference(
        controls=n_c,
        controls_exposed=exposed_c,
        treated=n_t,
        treated_exposed=exposed_t,
        share_of_controls_exposed=exposed_c / n_c if n_c else 0.0,
        mean_share_treated=float(share[~arm].mean()) if n_c else 0.0,
        all_units=everyone,
        without_shared=apart,
        moved=moved,
        by_dose=_by_dose(y, arm, share, touched, doses, level),
        spillover=_spillover(y, arm, share, touched, level),
        level=level,
        flags=tuple(flags),
    )


@dataclass(frozen=True, slots=True)
class ClusterAdvice:
    """Is it better to randomise units or clusters? Bias, standard error and root mean squared error of each.

    break_even_n: units from which clusters are better; None where they never are.
    """

    unit_bias: float
    unit_se: float
    unit_rmse: float
    cluster_bias: float
    cluster_se: float
    cluster_rmse: float
    design_effect: float
    break_even_n: int | None
    better: Literal["units", "clusters"]


def cluster_advice(
    *,
    n: int,
    sd: float,
    spillover: float,
    contacts_within: float,
    icc: float,
    mean_size: float,
    size_cv: float = 0.0,
) -> ClusterAdvice:
    """Is the bias of touching arms worse than the loss by randomising whole clusters?

    n: units in all, in two equal arms. sd: of the outcome. spillover: what it does to a unit that all its
    neighbours are treated. contacts_within: share of a unit's neighbours in its own cluster. The aim is the
    effect of everybody treated against nobody. Units: both arms have the same share of treated neighbours, so
    that all of the spillover is missed; clusters: only what crosses them. Raises ValueError out of range.
    """
    if n < 4 or not sd > 0.0 or not 0.0 <= contacts_within <= 1.0 or not math.isfinite(spillover):
        raise ValueError(
            f"n must be 4 or more, sd above 0, contacts_within in [0, 1], spillover a number; got {n!r}, "
            f"{sd!r}, {contacts_within!r}, {spillover!r}"
        )
    inflation = design_effect(icc, mean_size, size_cv)
    unit_bias, cluster_bias = -spillover, -spillover * (1.0 - contacts_within)
    unit_se = 2.0 * sd / math.sqrt(n)
    cluster_se = unit_se * math.sqrt(inflation)
    unit_rmse, cluster_rmse = math.hypot(unit_bias, unit_se), math.hypot(cluster_bias, cluster_se)
    gained = unit_bias**2 - cluster_bias**2
    even = None if gained <= 0.0 else max(4, math.ceil(4.0 * sd**2 * (inflation - 1.0) / gained))
    return ClusterAdvice(
        unit_bias, unit_se, unit_rmse, cluster_bias, cluster_se, cluster_rmse, inflation, even,
        "clusters" if cluster_rmse < unit_rmse else "units",
    )  # fmt: skip


def _difference(absolute: float, variance: float, df: float, level: float) -> Difference:
    se = math.sqrt(variance)
    reach = two_sided_critical(level, df) * se
    return Difference(absolute, se, df, absolute - reach, absolute + reach, two_sided_p(absolute / se, df))


def _moved(
    y: FloatArray, arm: NDArray[np.bool_], kept: NDArray[np.bool_], part: IntArray, level: float
) -> Difference | NotEstimable:
    """Both effects from the same units: what each unit does to their difference, summed by part."""
    counts = int((~arm).sum()), int(arm.sum())
    influence, gap = np.zeros(y.size), 0.0
    for sign, inside in ((1.0, kept), (-1.0, np.ones(y.size, dtype=np.bool_))):
        for way, side in ((-1.0, inside & ~arm), (1.0, inside & arm)):
            if int(side.sum()) < 2:
                return NotEstimable("sensitivity", "an arm keeps fewer than two units", *counts)
            mean = float(y[side].mean())
            gap += sign * way * mean
            influence += np.where(side, sign * way * (y - mean) / side.sum(), 0.0)
    parts = int(part.max()) + 1
    sums = np.bincount(part, weights=influence)
    variance = float(sums @ sums) * parts / max(parts - 1, 1)
    if parts < 3 or not variance > 0.0:
        return NotEstimable("sensitivity", f"{parts} separate parts give no error", *counts)
    return _difference(gap, variance, parts - 1.0, level)


def _by_dose(
    y: FloatArray,
    arm: NDArray[np.bool_],
    share: FloatArray,
    touched: Contacts,
    doses: tuple[float, ...],
    level: float,
) -> tuple[DoseEffect, ...] | NotEstimable:
    inside = touched.neighbours > 0
    cell = np.searchsorted(np.array(doses), share, side="left")
    if np.unique(cell[inside]).size < 2:
        reason = "units with neighbours do not differ in the share that is treated"
        return NotEstimable("dose", reason, int((~arm).sum()), int(arm.sum()))
    joint = joint_effects(y[inside], arm[inside], cell[inside], touched.part[inside])
    if not isinstance(joint, JointEffects):
        return joint
    found = []
    for place, name in enumerate(joint.names):
        own = contrast_of_cells(joint, np.eye(len(joint.names))[place], level=level)
        if isinstance(own, NotEstimable):
            continue
        upper = int(name)
        found.append(
            DoseEffect(
                doses[max(upper - 1, 0)], doses[upper],
                int(joint.n_control[place]), int(joint.n_treatment[place]),
                Difference(own.estimate, own.se, own.df, own.ci_lower, own.ci_upper, own.p_value),
            )
        )  # fmt: skip
    return tuple(found)


def _spillover(
    y: FloatArray, arm: NDArray[np.bool_], share: FloatArray, touched: Contacts, level: float
) -> Spillover | NotEstimable:
    counts = int((~arm).sum()), int(arm.sum())
    inside = touched.neighbours > 0
    if not inside.any():
        return NotEstimable("spillover", "no unit has a neighbour", *counts)
    y, arm, share = y[inside], arm[inside], share[inside]
    part = np.unique(touched.part[inside], return_inverse=True)[1].reshape(-1)
    n = y.size
    number = touched.neighbours[inside].astype(np.float64)
    columns = np.column_stack([np.ones(n), arm, share, arm * share, number])
    size = np.sqrt(np.mean(columns**2, axis=0))
    scaled = columns / np.where(size > 0.0, size, 1.0)
    kept = independent_columns(scaled.T @ scaled)
    parts = int(part.max()) + 1
    p = len(kept)
    if not {0, 1, 2, 3} <= set(kept):
        reason = "arms and shares of treated neighbours do not vary apart from one another"
        return NotEstimable("spillover", reason, *counts)
    if parts <= p or n <= p:
        return NotEstimable("spillover", f"{parts} separate parts are too few", *counts)
    x = columns[:, kept]
    bread = np.linalg.inv(x.T @ x)
    beta = bread @ (x.T @ y)
    residual = y - x @ beta
    beta = beta + bread @ (x.T @ residual)
    residual = y - x @ beta
    scores = np.column_stack([np.bincount(part, weights=x[:, j] * residual) for j in range(p)])
    factor = parts / (parts - 1.0) * (n - 1.0) / (n - p)
    covariance = factor * bread @ (scores.T @ scores) @ bread
    found = []
    for weights in ((0, 0, 1, 0), (0, 0, 1, 1), (0, 1, 0, 0), (0, 1, 1, 1)):
        c = np.zeros(p)
        c[:4] = weights
        variance = float(c @ covariance @ c)
        if not variance > 1e-26 * float(np.mean(y**2)):
            return NotEstimable("spillover", "the outcome has no spread that arm and share leave", *counts)
        found.append(_difference(float(c @ beta), variance, parts - 1.0, level))
    return Spillover(*found)
