"""Strengths of many items (models, prompts, rankings) from comparisons of two at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.labels.paired_likelihood import MOST_STEPS, boundless, log_likelihood, maximise
from exp_pipeline.stats.reference import require_level, two_sided_critical, two_sided_p
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Ties = Literal["davidson", "rao-kupper", "half"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """What is one number of a model, and how sure are we? p is two-sided, against zero, by Wald's test."""

    value: float
    se: float
    ci_lower: float
    ci_upper: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Strength:
    """How strong is one item? `value` is its log strength, with the mean over items at zero.

    `comparisons` is the number of comparisons that it took part in.
    """

    item: str
    value: float
    se: float
    ci_lower: float
    ci_upper: float
    comparisons: float


@dataclass(frozen=True, slots=True)
class StrengthContrast:
    """By how much is `item` stronger than `against`?

    `gap` is the difference of log strengths (the log odds among decided comparisons, except with Rao and
    Kupper's ties). `win_share` is the chance that it wins a decided comparison without advantage of place,
    with the interval that belongs to the gap's.
    """

    item: str
    against: str
    gap: Parameter
    win_share: float
    win_share_lower: float
    win_share_upper: float


@dataclass(frozen=True, slots=True)
class BradleyTerry:
    """Which items win, and how sure are we?

    `strengths` are in order of name. `order_effect` is the log odds that being shown first adds.
    `tie_effect` is log nu (Davidson) or the threshold log theta (Rao and Kupper); its p_value says nothing
    of interest. `covariance` is that of the strengths, row by row. `errors` is "model" or "clustered"; with
    clusters `df` is their number less one, else infinite. `log_likelihood` is without the ridge's penalty.
    """

    method: str
    strengths: tuple[Strength, ...]
    order_effect: Parameter | None
    tie_effect: Parameter | None
    covariance: tuple[tuple[float, ...], ...]
    log_likelihood: float
    n_comparisons: float
    errors: str
    clusters: int | None
    df: float
    level: float
    flags: tuple[str, ...] = ()

    def contrast(self, item: str, against: str) -> StrengthContrast:
        """By how much is one item stronger than another? Raises ValueError for items that are not here."""
        names = [strength.item for strength in self.strengths]
        for argument, name in (("item", item), ("against", against)):
            if name not in names:
                raise ValueError(f"{argument} must be one of {', '.join(names)}, got {name!r}")
        if item == against:
            raise ValueError(f"against must be another item than {item!r}")
        i, j = names.index(item), names.index(against)
        variance = self.covariance[i][i] + self.covariance[j][j] - 2.0 * self.covariance[i][j]
        gap = _parameter(self.strengths[i].value - self.strengths[j].value, variance, self.df, self.level)
        threshold = 0.0
        if self.method == "bradley-terry-rao-kupper" and self.tie_effect is not None:
            threshold = self.tie_effect.value
        shares = [_decided_share(x, threshold) for x in (gap.value, gap.ci_lower, gap.ci_upper)]
        return StrengthContrast(item, against, gap, *shares)


@dataclass(frozen=True, slots=True)
class QuasiErrors:
    """Which one error for each item tells the errors of all differences nearly?

    The error of any difference is about the root of the two squares' sum; `worst_low` and `worst_high` are
    the largest relative errors of that, such as -0.02 and 0.01. For plots of many items.
    """

    errors: Mapping[str, float]
    worst_low: float
    worst_high: float


def quasi_errors(fit: BradleyTerry) -> QuasiErrors | NotEstimable:
    """Which comparison bars can stand beside the strengths? Firth and de Menezes (2004).

    Least squares of log(q_i + q_j) on the log variance of each difference. NotEstimable below three items,
    or where some q is negative (its item is tied so closely to others that no bar of its own exists).
    """
    method = "quasi-variances"
    k = len(fit.strengths)
    if k < 3:
        return NotEstimable(method, f"{k} items: one difference needs no quasi-variances")
    covariance = np.array(fit.covariance)
    i, j = np.triu_indices(k, 1)
    spread = np.diag(covariance)
    target = np.log(spread[i] + spread[j] - 2.0 * covariance[i, j])
    pairs = np.zeros((i.size, k))
    pairs[np.arange(i.size), i] = pairs[np.arange(i.size), j] = 1.0
    quasi = np.linalg.lstsq(pairs, np.exp(target), rcond=None)[0]
    if (pairs @ quasi <= 0.0).any():
        quasi = np.full(k, float(np.exp(target).mean()) / 2.0)
    for _ in range(MOST_STEPS):
        total = pairs @ quasi
        gap = target - np.log(total)
        step = np.linalg.lstsq(pairs / total[:, None], gap, rcond=None)[0]
        while (pairs @ (quasi + step) <= 0.0).any():
            step = step / 2.0
        quasi = quasi + step
        if float(np.abs(step).max()) <= 1e-13 * float(np.abs(quasi).max()):
            break
    else:
        return NotEstimable(method, f"the fit did not settle in {MOST_STEPS} steps")
    if (quasi <= 0.0).any():
        item = fit.strengths[int(quasi.argmin())].item
        return NotEstimable(method, f"the quasi-variance of {item} is negative: show differences instead")
    off = np.sqrt((pairs @ quasi) / np.exp(target)) - 1.0
    names = [strength.item for strength in fit.strengths]
    errors = {name: math.sqrt(float(q)) for name, q in zip(names, quasi, strict=True)}
    return QuasiErrors(errors, float(off.min()), float(off.max()))


def wins_to_rows(
    items: Sequence[str], wins: ArrayLike, ties: ArrayLike | None = None
) -> tuple[list[str], list[str], FloatArray, FloatArray]:
    """Which rows (first, second, outcome, count) does a table of wins hold?

    wins: (k, k), row beats column; ties: (k, k), where the cell and its mirror are added up. Raises
    ValueError for negative counts, a filled diagonal or shapes that do not fit.
    """
    k = len(items)
    first: list[str] = []
    second: list[str] = []
    outcome: list[float] = []
    count: list[float] = []
    for name, table, score in (("wins", wins, 1.0), ("ties", ties, 0.5)):
        if table is None:
            continue
        cells = np.asarray(table, dtype=np.float64)
        if cells.shape != (k, k) or not np.isfinite(cells).all() or (cells < 0).any():
            raise ValueError(f"{name} must be a ({k}, {k}) table of counts of at least 0")
        if np.diag(cells).any():
            raise ValueError(f"{name} must have an empty diagonal: no item is compared with itself")
        for i, j in zip(*np.nonzero(cells), strict=True):
            first.append(items[int(i)])
            second.append(items[int(j)])
            outcome.append(score)
            count.append(float(cells[i, j]))
    return first, second, np.array(outcome), np.array(count)


def bradley_terry(
    first: Sequence[str],
    second: Sequence[str],
    outcome: ArrayLike,
    *,
    count: ArrayLike | None = None,
    cluster: ArrayLike | None = None,
    ties: Ties = "davidson",
    order_effect: bool = False,
    ridge: float = 0.0,
    level: float = 0.95,
) -> BradleyTerry | NotEstimable:
    """How strong are items that were compared two at a time?

    first, second: (n,) names, `first` shown first. outcome: (n,) 1 where first won, 0 where second won, 0.5
    a tie. count: (n,) how often each row was seen. cluster: (n,) rater (or prompt), whose answers may be
    alike: the standard errors are then the sandwich over clusters with G / (G - 1), on a t with G - 1.

    With eta = strength of first - strength of second + order effect, P(first) = 1 / (1 + e^-eta): Bradley
    and Terry (1952). Ties by Davidson (1970), P(tie) = nu / (e^(eta/2) + e^(-eta/2) + nu), with the order
    effect of Davidson and Beaver (1977), or by Rao and Kupper (1967), thresholds at +-log theta; or as half
    a win for each side ("half": the model's own errors are then too wide, clustered ones are right). Maximum
    likelihood by Newton's steps. `ridge` > 0 subtracts ridge / 2 x the sum of squared strengths (a normal
    prior of variance 1 / ridge): estimates shrink to zero and exist even if an item won everything; default
    none.

    NotEstimable, naming the items, where no chain of comparisons joins them, where some won or lost every
    comparison with the others, or where ties or the order effect leave the likelihood without a maximum.
    Raises ValueError for shapes that do not fit, other outcomes, or an item against itself.
    """
    require_level(level)
    if ties not in ("davidson", "rao-kupper", "half"):
        raise ValueError(f"ties must be 'davidson', 'rao-kupper' or 'half', got {ties!r}")
    if not (math.isfinite(ridge) and ridge >= 0.0):
        raise ValueError(f"ridge must be a number of at least 0, got {ridge!r}")
    items, left, right, score, seen, groups = _checked(first, second, outcome, count, cluster)
    method = f"bradley-terry-{ties}" if (score == 0.5).any() else "bradley-terry"
    if len(items) < 2:
        return NotEstimable(method, f"{len(items)} items were compared; strengths need at least two")
    if (score == 0.5).all():
        return NotEstimable(method, f"all {seen.sum():g} comparisons are ties")
    flags: list[str] = []
    apart = _separate(items, left, right, score, one_way=False)
    if ridge == 0.0:
        reason = apart or _separate(items, left, right, score, one_way=True)
        if reason is not None:
            return NotEstimable(method, reason)
    else:
        flags.append(f"strengths are shrunk to zero by a ridge of {ridge:g}")
        flags += [] if apart is None else [f"only the ridge joins the items: {apart}"]

    k = len(items)
    model = "davidson" if method == "bradley-terry" else ties
    has_tie = method != "bradley-terry" and ties != "half"
    # Equal rows are fitted once, with their number; `kind` leads each row to its own.
    row_count = seen
    code = (left * k + right) * 3 + (2.0 * score).astype(np.int64)
    _, at, kind = np.unique(code, return_index=True, return_inverse=True)
    left, right, score, seen = left[at], right[at], score[at], np.bincount(kind, row_count).astype(np.float64)
    # Contrasts orthogonal to the mean: strengths add up to zero by construction.
    basis = np.linalg.qr(np.column_stack([np.ones(k), np.eye(k)[:, : k - 1]]))[0][:, 1:]
    slopes = basis[left] - basis[right]
    if order_effect:
        slopes = np.column_stack([slopes, np.ones(left.size)])
    # Joined items suffice where there is neither (Ford 1957).
    held = 0 if ridge == 0.0 else k - 1
    if (has_tie or order_effect) and boundless(slopes, score, has_tie, skip=held):
        what = " and ".join(["ties"] * has_tie + ["order effect"] * order_effect)
        return NotEstimable(method, f"the {what} leave the likelihood without a maximum: too few comparisons")
    width = slopes.shape[1] + has_tie
    penalty = np.zeros(width)
    penalty[: k - 1] = ridge
    fit = maximise(slopes, score, seen, penalty, model, has_tie)
    if fit is None:
        return NotEstimable(method, f"the fit did not settle in {MOST_STEPS} steps")
    point, scores, information = fit
    bread = np.linalg.inv(information)
    df, clusters, covariance = math.inf, None, bread
    if groups is not None:
        clusters = int(groups.max()) + 1
        if clusters <= width:
            needed = f"the model has {width} parameters and needs more clusters than that"
            return NotEstimable(method, f"{clusters} clusters: {needed}")
        order = np.argsort(groups, kind="stable")
        starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
        sums = np.add.reduceat(scores[kind[order]] * row_count[order, None], starts, axis=0)
        covariance = bread @ (sums.T @ sums) @ bread * (clusters / (clusters - 1))
        df = clusters - 1.0
        if (np.diag(covariance) <= 1e-20 * np.diag(bread)).any():
            return NotEstimable(method, f"the {clusters} clusters are all alike: no spread between them")
    spread = basis @ covariance[: k - 1, : k - 1] @ basis.T
    values = basis @ point[: k - 1]
    taken = np.bincount(left, seen, k) + np.bincount(right, seen, k)
    strengths = []
    for i, item in enumerate(items):
        one = _parameter(float(values[i]), float(spread[i, i]), df, level)
        strengths.append(Strength(item, one.value, one.se, one.ci_lower, one.ci_upper, float(taken[i])))
    extra = {
        name: _parameter(float(point[at]), float(covariance[at, at]), df, level)
        for name, at, there in (("order", k - 1, order_effect), ("tie", width - 1, has_tie))
        if there
    }
    return BradleyTerry(
        method=method,
        strengths=tuple(strengths),
        order_effect=extra.get("order"),
        tie_effect=extra.get("tie"),
        covariance=tuple(tuple(map(float, row)) for row in spread),
        log_likelihood=log_likelihood(point, slopes, score, seen, model, has_tie)[0],
        n_comparisons=float(seen.sum()),
        errors="model" if clusters is None else "clustered",
        clusters=clusters,
        df=df,
        level=level,
        flags=tuple(flags),
    )


def _checked(
    first: Sequence[str],
    second: Sequence[str],
    outcome: ArrayLike,
    count: ArrayLike | None,
    cluster: ArrayLike | None,
) -> tuple[list[str], IntArray, IntArray, FloatArray, FloatArray, IntArray | None]:
    score = np.asarray(outcome, dtype=np.float64)
    n = len(first)
    if len(second) != n or score.shape != (n,):
        raise ValueError(
            f"first, second and outcome must have one length, got {n}, {len(second)}, {score.shape}"
        )
    if not np.isin(score, (0.0, 0.5, 1.0)).all():
        bad = score[~np.isin(score, (0.0, 0.5, 1.0))][0]
        raise ValueError(f"outcome must be 1 (first won), 0 (second won) or 0.5 (tie), got {bad!r}")
    seen = np.ones(n) if count is None else np.asarray(count, dtype=np.float64)
    if seen.shape != (n,) or not np.isfinite(seen).all() or (seen <= 0).any():
        raise ValueError(f"count must hold {n} numbers above 0")
    items = sorted(set(first) | set(second))
    place = {item: i for i, item in enumerate(items)}
    left = np.array([place[item] for item in first], dtype=np.int64)
    right = np.array([place[item] for item in second], dtype=np.int64)
    if (left == right).any():
        raise ValueError(f"row {int(np.flatnonzero(left == right)[0])} compares an item with itself")
    if cluster is None:
        return items, left, right, score, seen, None
    named = np.asarray(cluster)
    if named.shape != (n,):
        raise ValueError(f"cluster must have shape ({n},), got {named.shape}")
    return items, left, right, score, seen, np.unique(named, return_inverse=True)[1].astype(np.int64)


def _separate(
    items: Sequence[str], left: IntArray, right: IntArray, score: FloatArray, *, one_way: bool
) -> str | None:
    """Which items cannot be placed beside the others (Ford 1957)? None if all can.

    A comparison is an edge from the loser to the winner, a tie one each way; `one_way` False looks at the
    comparisons whoever won.
    """
    k = len(items)
    beaten = np.zeros((k, k), dtype=np.bool_)
    won, lost = score >= 0.5, score <= 0.5
    beaten[right[won], left[won]] = True
    beaten[left[lost], right[lost]] = True
    if not one_way:
        beaten = beaten | beaten.T

    def reached(edges: NDArray[np.bool_]) -> NDArray[np.bool_]:
        known = np.zeros(k, dtype=np.bool_)
        known[0] = True
        front = known
        while front.any():
            front = edges[front].any(axis=0) & ~known
            known = known | front
        return known

    def named(which: NDArray[np.bool_]) -> str:
        some = [items[int(i)] for i in np.flatnonzero(which)]
        return ", ".join(some[:8]) + (f" and {len(some) - 8} more" if len(some) > 8 else "")

    if not one_way:
        together = reached(beaten)
        if together.all():
            return None
        return f"no chain of comparisons joins {named(together)} with {named(~together)}"
    above, below = reached(beaten), reached(beaten.T)
    if not above.all():
        return f"{named(above)} won every comparison with {named(~above)}: the gap has no upper bound"
    if not below.all():
        return f"{named(below)} lost every comparison with {named(~below)}: the gap has no upper bound"
    return None


def _parameter(value: float, variance: float, df: float, level: float) -> Parameter:
    se = math.sqrt(variance)
    reach = two_sided_critical(level, df) * se
    return Parameter(value, se, value - reach, value + reach, two_sided_p(value / se, df))


def _decided_share(eta: float, threshold: float) -> float:
    """Which share of decided comparisons does the first win? The threshold moves it outwards."""
    from scipy import special

    return float(special.expit(special.log_expit(eta - threshold) - special.log_expit(-eta - threshold)))
