"""Where does a fault of counts sit: in which value of which column, since when, or everywhere alike?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
Kind = Literal["is", "since", "until"]
# Groups of fewer rows are no place to look at: chance alone makes them lopsided.
SMALLEST_GROUP = 20
# A place is named where it differs from all others at this level, after Holm over all places compared.
NAMED_BELOW = 0.01
MOST_CONDITIONS = 3
# Pairs of columns are compared where each has at most so many values.
MOST_PAIRED = 40


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the rows: the place of each row's value in `labels`, which are sorted.

    ordered: labels are days in order, so that "since" and "until" are places as well.
    """

    name: str
    codes: NDArray[np.int64]
    labels: tuple[str, ...]
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """One column's value, or all values from it on, or all up to it."""

    column: str
    kind: Kind
    value: str


@dataclass(frozen=True, slots=True)
class Place:
    """One place that carries (a part of) the fault.

    conditions: hold together. same_as: other conditions that hold for exactly the same rows. counts and
    others: sums of the rows inside, and of those outside of this and every earlier place. gain: statistic of
    the place's likelihood ratio; p_adjusted: that it does not fit, after Holm over all places compared.
    others_p_value: that the rows outside fit; None where that is no question. share: part of the fault.
    """

    conditions: tuple[Condition, ...]
    same_as: tuple[Condition, ...]
    counts: tuple[int, ...]
    others: tuple[int, ...]
    gain: float
    p_adjusted: float
    others_p_value: float | None
    share: float


class Fit(Protocol):
    """What it means that counts fit: groups are rows, each the sums of its rows' counts."""

    @property
    def df(self) -> int: ...

    def gains(self, groups: Counts, total: Counts) -> Counts:
        """By how much does each group not fit? Chi-square with `df` where it fits."""
        ...

    def differ(self, groups: Counts, total: Counts) -> Counts:
        """p-value that each group is like all rows outside it."""
        ...

    def others_p_value(self, others: Counts) -> float | None:
        """p-value that the rows outside fit; None where any of their values would do."""
        ...


@dataclass(frozen=True, slots=True)
class RatioFit:
    """Counts by arm fit planned shares. Counts: one column an arm."""

    shares: tuple[float, ...]

    @property
    def df(self) -> int:
        return len(self.shares) - 1

    def gains(self, groups: Counts, total: Counts) -> Counts:
        planned = np.asarray(self.shares) / sum(self.shares)
        return _likelihood_ratio(groups, groups.sum(axis=1, keepdims=True) * planned)

    def differ(self, groups: Counts, total: Counts) -> Counts:
        rest = total - groups
        both = np.stack([groups, rest], axis=1)
        return _tails(self.df, _independence(both))

    def others_p_value(self, others: Counts) -> float | None:
        return float(_tails(self.df, self.gains(others[None, :], others))[0])


@dataclass(frozen=True, slots=True)
class GapFit:
    """A share is the same in every arm. Counts: two columns an arm (with, without), control first."""

    arms: int

    @property
    def df(self) -> int:
        return self.arms - 1

    def gains(self, groups: Counts, total: Counts) -> Counts:
        return _independence(groups.reshape(len(groups), self.arms, 2))

    def differ(self, groups: Counts, total: Counts) -> Counts:
        """The largest difference of gaps to control between group and rest, Bonferroni over the arms."""
        gap, variance = self._gaps(groups)
        rest, rest_variance = self._gaps(total - groups)
        spread = np.sqrt(variance + rest_variance)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(spread > 0.0, np.abs(gap - rest) / spread, 0.0)
        # A squared normal is a chi-square of one degree of freedom: both tails at once.
        return np.minimum(_tails(1, z.max(axis=1) ** 2) * (self.arms - 1), 1.0)

    def others_p_value(self, others: Counts) -> float | None:
        return float(_tails(self.df, self.gains(others[None, :], others))[0])

    def _gaps(self, groups: Counts) -> tuple[Counts, Counts]:
        table = groups.reshape(len(groups), self.arms, 2)
        n = table.sum(axis=2)
        # Half a row is added to each cell, so that an arm with none still has an error.
        rate = (table[:, :, 0] + 0.5) / (n + 1.0)
        variance = rate * (1.0 - rate) / np.maximum(n, 1.0)
        return rate[:, 1:] - rate[:, :1], variance[:, 1:] + variance[:, :1]


@dataclass(frozen=True, slots=True)
class RateFit:
    """A fault is as frequent inside as outside. Counts: with, without. Only where it is more frequent."""

    @property
    def df(self) -> int:
        return 1

    def gains(self, groups: Counts, total: Counts) -> Counts:
        rest = total - groups
        n, others = groups.sum(axis=1), rest.sum(axis=1)
        more = groups[:, 0] * np.maximum(others, 1.0) > rest[:, 0] * n
        return np.where(more, _independence(np.stack([groups, rest], axis=1)), 0.0)

    def differ(self, groups: Counts, total: Counts) -> Counts:
        return _tails(1, self.gains(groups, total))

    def others_p_value(self, others: Counts) -> float | None:
        return None


def locate(
    counts: Counts, columns: Sequence[Column], fit: Fit, *, fits_above: float = 0.001, most: int = 3
) -> tuple[Place, ...]:
    """Which places carry the fault, the one that explains most first? Empty where none differs from the rest.

    counts: one row a unit (or a group of them), as `fit` reads them. Each value of each column is a candidate
    (and, of ordered ones, all from a value on and all up to it). The candidate with the largest likelihood
    ratio among those that differ from all other rows is taken; then conditions of other columns are added
    while they make it larger and what they shut out is different and fits. Then the rows outside are treated
    in the same way, while they do not fit (p below `fits_above`). Raises ValueError where lengths differ.
    """
    for column in columns:
        if len(column.codes) != len(counts):
            raise ValueError(f"column {column.name} has {len(column.codes)} rows, counts have {len(counts)}")
    outside = np.ones(len(counts), dtype=bool)
    found: list[Place] = []
    for _ in range(most):
        place, inside = _next_place(counts, columns, fit, outside, fits_above)
        if place is None:
            break
        outside &= ~inside
        found.append(place)
        if place.others_p_value is not None and place.others_p_value >= fits_above:
            break
    if isinstance(fit, RateFit):
        whole = float(counts[:, 0].sum()) or 1.0
        return tuple(_with_share(place, place.counts[0] / whole) for place in found)
    left = counts[outside].sum(axis=0)
    unexplained = float(fit.gains(left[None, :], left)[0])
    everything = sum(place.gain for place in found) + unexplained
    return tuple(_with_share(place, place.gain / everything if everything else 0.0) for place in found)


def _with_share(place: Place, share: float) -> Place:
    return Place(
        place.conditions,
        place.same_as,
        place.counts,
        place.others,
        place.gain,
        place.p_adjusted,
        place.others_p_value,
        min(max(share, 0.0), 1.0),
    )


@dataclass(frozen=True, slots=True)
class _Candidates:
    conditions: list[Condition]
    sums: Counts
    columns: list[Column]

    def rows(self, at: int) -> NDArray[np.bool_]:
        column, condition = self.columns[at], self.conditions[at]
        code = column.labels.index(condition.value)
        if condition.kind == "is":
            return np.equal(column.codes, code)
        since = condition.kind == "since"
        return np.greater_equal(column.codes, code) if since else np.less_equal(column.codes, code)


def _candidates(counts: Counts, columns: Sequence[Column], within: NDArray[np.bool_]) -> _Candidates:
    conditions: list[Condition] = []
    owners: list[Column] = []
    sums: list[Counts] = []
    inside = counts[within]
    for column in columns:
        codes, size = column.codes[within], len(column.labels)
        by_value = np.zeros((size, counts.shape[1]))
        np.add.at(by_value, codes, inside)
        kinds: list[tuple[Kind, Counts]] = [("is", by_value)]
        if column.ordered:
            upto = np.cumsum(by_value, axis=0)
            kinds += [("since", upto[-1] - upto + by_value), ("until", upto)]
        for kind, table in kinds:
            for label in column.labels:
                conditions.append(Condition(column.name, kind, label))
                owners.append(column)
            sums.append(table)
    if not sums:
        return _Candidates([], np.zeros((0, counts.shape[1])), [])
    return _Candidates(conditions, np.concatenate(sums), owners)


def _next_place(
    counts: Counts, columns: Sequence[Column], fit: Fit, outside: NDArray[np.bool_], fits_above: float
) -> tuple[Place | None, NDArray[np.bool_]]:
    total = counts[outside].sum(axis=0)
    candidates = _candidates(counts, columns, outside)
    taken = _best(candidates, fit, total)
    same: tuple[Condition, ...] = ()
    if taken is not None:
        at, p_adjusted, gain = taken
        inside = outside & candidates.rows(at)
        conditions = [candidates.conditions[at]]
        same = _same(candidates, at, outside)
    else:
        pair = _best_pair(counts, columns, fit, outside)
        if pair is None:
            return None, outside
        conditions, inside, p_adjusted, gain = pair
    while len(conditions) < MOST_CONDITIONS:
        within = counts[inside].sum(axis=0)
        used = {condition.column for condition in conditions}
        narrower = _candidates(counts, [column for column in columns if column.name not in used], inside)
        further = _narrowed(narrower, fit, within, total, gain, fits_above)
        if further is None:
            break
        at, gain = further
        inside = inside & narrower.rows(at)
        conditions.append(narrower.conditions[at])
        same = ()
    held = counts[inside].sum(axis=0)
    others = total - held
    place = Place(
        tuple(conditions),
        same,
        tuple(int(count) for count in held),
        tuple(int(count) for count in others),
        gain,
        p_adjusted,
        fit.others_p_value(others),
        0.0,
    )
    return place, inside


def _tails(df: int, statistics: Counts) -> Counts:
    """How likely is a chi-square above each of these?"""
    from scipy import special

    found: Counts = special.chdtrc(df, statistics)
    return found


def _best(candidates: _Candidates, fit: Fit, total: Counts) -> tuple[int, float, float] | None:
    """The candidate that explains most among those that do not fit and differ from all others."""
    sizes = candidates.sums.sum(axis=1)
    usable = np.flatnonzero((sizes >= SMALLEST_GROUP) & (total.sum() - sizes > 0))
    if not len(usable):
        return None
    sums = candidates.sums[usable]
    gains = fit.gains(sums, total)
    unfit, different = _holm(_tails(fit.df, gains)), _holm(fit.differ(sums, total))
    named = (unfit < NAMED_BELOW) & (different < NAMED_BELOW)
    if not named.any():
        return None
    chosen = int(np.argmax(np.where(named, gains, -np.inf)))
    return int(usable[chosen]), float(unfit[chosen]), float(gains[chosen])


def _best_pair(
    counts: Counts, columns: Sequence[Column], fit: Fit, outside: NDArray[np.bool_]
) -> tuple[list[Condition], NDArray[np.bool_], float, float] | None:
    """The same over pairs of columns with few values, for a fault that no single column tells."""
    few = [column for column in columns if len(column.labels) <= MOST_PAIRED]
    total = counts[outside].sum(axis=0)
    firsts: list[tuple[Condition, NDArray[np.bool_]]] = []
    tables: list[_Candidates] = []
    for place, column in enumerate(few):
        if column.ordered:
            continue
        others = [other for other in few[place + 1 :]] + [other for other in few[:place] if other.ordered]
        for code, label in enumerate(column.labels):
            rows = outside & (column.codes == code)
            if others and rows.any():
                firsts.append((Condition(column.name, "is", label), rows))
                tables.append(_candidates(counts, others, rows))
    if not tables:
        return None
    owners = np.repeat(np.arange(len(tables)), [len(table.conditions) for table in tables])
    whole = _Candidates(
        [condition for table in tables for condition in table.conditions],
        np.concatenate([table.sums for table in tables]),
        [column for table in tables for column in table.columns],
    )
    taken = _best(whole, fit, total)
    if taken is None:
        return None
    at, p_adjusted, gain = taken
    first, rows = firsts[int(owners[at])]
    return [first, whole.conditions[at]], rows & whole.rows(at), p_adjusted, gain


def _narrowed(
    candidates: _Candidates, fit: Fit, within: Counts, total: Counts, gain: float, fits_above: float
) -> tuple[int, float] | None:
    """A condition that leaves out what fits, and so explains more than without it."""
    sizes = candidates.sums.sum(axis=1)
    usable = np.flatnonzero((sizes >= SMALLEST_GROUP) & (within.sum() - sizes > 0))
    if not len(usable):
        return None
    sums = candidates.sums[usable]
    gains = fit.gains(sums, total)
    different = _holm(fit.differ(sums, within))
    for chosen in np.argsort(-gains, kind="stable"):
        # What is shut out and fits adds about its degrees of freedom to the wider place.
        if gains[chosen] < gain - 2.0 * fit.df:
            return None
        left_p = fit.others_p_value(within - sums[chosen])
        if different[chosen] < NAMED_BELOW and (left_p is None or left_p >= fits_above):
            return int(usable[chosen]), float(gains[chosen])
    return None


def _same(candidates: _Candidates, at: int, outside: NDArray[np.bool_]) -> tuple[Condition, ...]:
    """Other conditions that hold for the very same rows."""
    sums, rows = candidates.sums[at], candidates.rows(at) & outside
    alike = np.flatnonzero((candidates.sums == sums).all(axis=1))
    own = candidates.conditions[at].column
    return tuple(
        candidates.conditions[other]
        for other in alike
        if candidates.conditions[other].column != own
        and np.array_equal(candidates.rows(int(other)) & outside, rows)
    )


def _likelihood_ratio(observed: Counts, expected: Counts) -> Counts:
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(observed > 0.0, observed * np.log(observed / expected), 0.0)
    return np.asarray(np.maximum(2.0 * terms.sum(axis=tuple(range(1, observed.ndim))), 0.0))


def _independence(tables: Counts) -> Counts:
    """Likelihood-ratio statistic of independence of each table (rows x columns)."""
    whole = tables.sum(axis=(1, 2), keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = tables.sum(axis=2, keepdims=True) * tables.sum(axis=1, keepdims=True) / whole
    return _likelihood_ratio(tables, expected)


def _holm(p_values: Counts) -> Counts:
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(scaled)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted
