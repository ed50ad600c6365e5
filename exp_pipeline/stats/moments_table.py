"""The moments of many groups at once: arrays with one row a group, from one pass over the units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.stats.effects.skew import ThirdMoments
from exp_pipeline.stats.moments import Moments

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """Which rows belong to which group, sorted once and used for every column?

    order: (n,) rows by group, within a group as they came. counts: (groups,) rows. present: groups that have
    rows. starts: where each of those begins in `order`.
    """

    order: IntArray
    counts: IntArray
    present: IntArray
    starts: IntArray

    @classmethod
    def of(cls, codes: NDArray[np.integer], groups: int) -> Grouping:
        """Which grouping do these codes make? codes: (n,), from 0 to groups - 1."""
        if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < groups:
            raise ValueError(f"codes must lie from 0 to {groups - 1}, got {codes.min()} to {codes.max()}")
        # Sorting by counting, which numpy does for small integers, is ten times faster.
        small = codes.astype(np.uint8 if groups <= 256 else np.uint16) if groups <= 65_536 else codes
        order = np.argsort(small, kind="stable").astype(np.int64, copy=False)
        return cls._counted(order, np.bincount(codes, minlength=groups).astype(np.int64))

    @classmethod
    def _counted(cls, order: IntArray, counts: IntArray) -> Grouping:
        present = np.flatnonzero(counts)
        return cls(order, counts, present, (np.cumsum(counts) - counts)[present])

    def only(self, rows: NDArray[np.bool_]) -> Grouping:
        """Which grouping have those rows that are true in `rows`, (n,)?"""
        kept = np.take(rows, self.order)
        counts = np.zeros_like(self.counts)
        if self.present.size:
            counts[self.present] = np.add.reduceat(kept, self.starts, dtype=np.int64)
        return self._counted(self.order[kept], counts)


@dataclass(frozen=True, slots=True, eq=False)
class MomentsTable:
    """What must be known of the rows of each of many groups? `Moments`, stacked.

    n: (groups,). centres, rests: (groups, k); their sum is the mean. Two numbers, so that tables of values
    far from zero merge without loss: the rest holds the digits for which the centre has no room.
    products: (groups, k, k) sums of products of deviations from the group's own means. names: the k
    variables. A group without rows has n = 0 and zeros. cubes: (groups,) sums of cubed deviations of the
    first variable, None where nobody asked for them.
    """

    n: IntArray
    centres: FloatArray
    rests: FloatArray
    products: FloatArray
    names: tuple[str, ...]
    cubes: FloatArray | None = None

    def __post_init__(self) -> None:
        groups, k = self.n.shape[0], len(self.names)
        shapes = self.centres.shape, self.rests.shape, self.products.shape
        if shapes != ((groups, k), (groups, k), (groups, k, k)):
            raise ValueError(
                f"centres, rests and products must have shapes ({groups}, {k}), ({groups}, {k}) and "
                f"({groups}, {k}, {k}), got {shapes}"
            )
        if self.cubes is not None and (not k or self.cubes.shape != (groups,)):
            raise ValueError(f"cubes must have shape ({groups},) and a variable, got {self.cubes.shape}")
        if len(set(self.names)) != k:
            raise ValueError(f"names must differ from one another, got {self.names!r}")

    @property
    def means(self) -> FloatArray:
        """The means, (groups, k)."""
        return self.centres + self.rests

    @classmethod
    def empty(cls, groups: int, names: Sequence[str], *, third: bool = False) -> MomentsTable:
        """Which table has no rows yet? third: whether it has cubes."""
        k = len(names)
        return cls(
            np.zeros(groups, dtype=np.int64),
            np.zeros((groups, k)),
            np.zeros((groups, k)),
            np.zeros((groups, k, k)),
            tuple(names),
            np.zeros(groups) if third else None,
        )

    @classmethod
    def of_sums(
        cls, n: IntArray, means: FloatArray, products: FloatArray, names: Sequence[str]
    ) -> MomentsTable:
        """Which table holds these numbers, counted elsewhere? Shapes as in the class."""
        return cls(n, means, np.zeros_like(means), products, tuple(names))

    @classmethod
    def of_columns(
        cls, columns: Sequence[FloatArray], grouping: Grouping, names: Sequence[str], *, third: bool = False
    ) -> MomentsTable:
        """Which moments has each group? columns: k arrays (n,), finite, rows as in `grouping`.

        third: whether the first column's cubes are wanted too. Two passes by group with the remainder of the
        mean taken out (Chan, Golub and LeVeque 1983), as `Moments.from_array` does for one group. Raises
        ValueError for a value that is not finite.
        """
        k = len(columns)
        if k != len(names):
            raise ValueError(f"names must name {k} columns, got {tuple(names)!r}")
        table = cls.empty(grouping.counts.shape[0], names, third=third)
        here, starts = grouping.present, grouping.starts
        if not here.size:
            return table
        repeats = grouping.counts[here]
        n = repeats.astype(np.float64)
        table.n[:] = grouping.counts
        deviations: list[FloatArray] = []
        rests = np.empty((here.size, k))
        for position, column in enumerate(columns):
            sorted_values = np.take(column, grouping.order)
            means = np.add.reduceat(sorted_values, starts) / n
            sorted_values -= np.repeat(means, repeats)
            rests[:, position] = np.add.reduceat(sorted_values, starts) / n
            table.centres[here, position] = means
            deviations.append(sorted_values)
        table.rests[here] = rests
        if not np.isfinite(table.means).all():
            raise ValueError(f"values of {tuple(names)!r} must be finite; handle missing values first")
        product = np.empty(grouping.order.shape)
        for a in range(k):
            for b in range(a + 1):
                np.multiply(deviations[a], deviations[b], out=product)
                raw = np.add.reduceat(product, starts)
                sums = raw - n * rests[:, a] * rests[:, b]
                table.products[here, a, b] = sums
                table.products[here, b, a] = sums
                if table.cubes is not None and a == 0:
                    product *= deviations[0]
                    rest = rests[:, 0]
                    cubes = np.add.reduceat(product, starts) - 3.0 * rest * raw + 2.0 * n * rest**3
                    table.cubes[here] = cubes
        _clip(table.products)
        return table

    @classmethod
    def stacked(cls, moments: Sequence[Moments]) -> MomentsTable:
        """Which table holds these moments, one a group? All of the same variables in the same order."""
        names = moments[0].names if moments else ()
        for found in moments:
            if found.names != names:
                raise ValueError(f"all moments must have the names {names!r}, got {found.names!r}")
        groups, k = len(moments), len(names)
        return cls.of_sums(
            np.array([found.n for found in moments], dtype=np.int64),
            np.array([found.means for found in moments]).reshape(groups, k),
            np.array([found.products for found in moments]).reshape(groups, k, k),
            names,
        )

    def __len__(self) -> int:
        return int(self.n.shape[0])

    def __add__(self, other: MomentsTable) -> MomentsTable:
        """Which moments has each group with the other table's group of the same place added?"""
        self._like(other)
        n = self.n + other.n
        share = np.divide(other.n, n, out=np.zeros(len(self)), where=n > 0)
        gap = (other.centres - self.centres) + (other.rests - self.rests)
        first = (self.n == 0)[:, None]
        between = gap[:, :, None] * gap[:, None, :] * (self.n * share)[:, None, None]
        return MomentsTable(
            n,
            np.where(first, other.centres, self.centres),
            np.where(first, other.rests, self.rests + share[:, None] * gap),
            self.products + other.products + between,
            self.names,
            None
            if self.cubes is None or other.cubes is None
            else self._cubes_about(share * gap[:, 0]) + other._cubes_about((share - 1.0) * gap[:, 0]),
        )

    def _cubes_about(self, away: FloatArray) -> FloatArray:
        """Sums of cubes of the first variable's deviations from points that lie `away` above the means."""
        cubes = 0.0 if self.cubes is None else self.cubes
        return np.asarray(cubes - away * (3.0 * self.products[:, 0, 0] + self.n * away**2))

    def __sub__(self, other: MomentsTable) -> MomentsTable:
        """Which moments remain when the other table's groups, parts of these, are taken out?"""
        self._like(other)
        n = self.n - other.n
        if (n < 0).any():
            group = int(np.flatnonzero(n < 0)[0])
            raise ValueError(f"cannot take {other.n[group]} units out of {self.n[group]} in group {group}")
        ratio = np.divide(other.n, n, out=np.zeros(len(self)), where=n > 0)
        gap = (self.centres - other.centres) + (self.rests - other.rests)
        left, touched = (n > 0)[:, None], (other.n > 0)[:, None]
        # The part taken out lies this far from what remains.
        apart = gap * (1.0 + ratio)[:, None]
        weight = np.divide(n * other.n, self.n, out=np.zeros(len(self)), where=self.n > 0)
        products = self.products - other.products
        products -= apart[:, :, None] * apart[:, None, :] * weight[:, None, None]
        products = np.where(touched[:, :, None], products, self.products)
        products = np.where((n > 1)[:, None, None], products, 0.0)
        _clip(products)
        cubes = None
        if self.cubes is not None and other.cubes is not None:
            # All about the mean of what remains: the whole less the part.
            shift = np.where(touched[:, 0], gap[:, 0] * ratio, 0.0)
            cubes = self._cubes_about(shift) - other._cubes_about(apart[:, 0])
            cubes = np.where(touched[:, 0], np.where(n > 2, cubes, 0.0), self.cubes)
        return MomentsTable(
            n,
            np.where(left, self.centres, 0.0),
            np.where(left, self.rests + np.where(touched, gap * ratio[:, None], 0.0), 0.0),
            products,
            self.names,
            cubes,
        )

    def merged(self, into: NDArray[np.integer], groups: int) -> MomentsTable:
        """Which moments have these groups put together? into: (groups before,), the new group of each."""
        n = np.bincount(into, weights=self.n, minlength=groups)
        weights = self.n / np.maximum(n, 1.0)[into]
        k = len(self.names)
        centres, rests, products = np.zeros((groups, k)), np.zeros((groups, k)), np.zeros((groups, k, k))
        np.add.at(centres, into, self.centres * weights[:, None])
        np.add.at(rests, into, ((self.centres - centres[into]) + self.rests) * weights[:, None])
        gap = (self.centres - centres[into]) + (self.rests - rests[into])
        between = gap[:, :, None] * gap[:, None, :] * self.n[:, None, None]
        np.add.at(products, into, self.products + between)
        cubes: FloatArray | None = None
        if self.cubes is not None:
            cubes = np.zeros(groups)
            np.add.at(cubes, into, self._cubes_about(-gap[:, 0]))
        return MomentsTable(n.astype(np.int64), centres, rests, products, self.names, cubes)

    def take(self, groups: NDArray[np.integer] | slice) -> MomentsTable:
        """Which table has these groups, in this order?"""
        return MomentsTable(
            self.n[groups],
            self.centres[groups],
            self.rests[groups],
            self.products[groups],
            self.names,
            None if self.cubes is None else self.cubes[groups],
        )

    def select(self, names: Sequence[str]) -> MomentsTable:
        """Which moments have only these variables, in this order? Cubes stay while the first one does."""
        where = [self.position(name) for name in names]
        return MomentsTable(
            self.n,
            self.centres[:, where],
            self.rests[:, where],
            self.products[:, where][:, :, where],
            tuple(names),
            self.cubes if where[:1] == [0] else None,
        )

    def linear(self, weights: FloatArray, names: Sequence[str]) -> MomentsTable:
        """Which moments have these sums of variables? weights: (m, k), or (groups, m, k) by group.

        Cubes stay where the first sum is a multiple of the first variable.
        """
        centres = np.einsum("...mk,...k->...m", weights, self.centres)
        rests = np.einsum("...mk,...k->...m", weights, self.rests)
        products = weights @ self.products @ np.swapaxes(weights, -1, -2)
        cubes = None
        if self.cubes is not None and not weights[..., 0, 1:].any():
            cubes = self.cubes * weights[..., 0, 0] ** 3
        return MomentsTable(self.n, centres, rests, products, tuple(names), cubes)

    def group(self, place: int) -> Moments:
        """Which moments has one group?"""
        return Moments(int(self.n[place]), self.means[place], self.products[place], self.names)

    def third(self, place: int) -> ThirdMoments | None:
        """Which third moments has the first variable in one group? None where nobody summed cubes."""
        if self.cubes is None:
            return None
        found = int(self.n[place]), float(self.means[place, 0]), float(self.products[place, 0, 0])
        return ThirdMoments(*found, float(self.cubes[place]))

    def position(self, name: str) -> int:
        """Which place has a variable? Raises ValueError for one that is not there."""
        try:
            return self.names.index(name)
        except ValueError:
            raise ValueError(f"name must be one of {self.names!r}, got {name!r}") from None

    def _like(self, other: MomentsTable) -> None:
        if self.names != other.names or len(self) != len(other):
            raise ValueError(
                f"tables must have the same variables and groups, got {self.names!r} of {len(self)} and "
                f"{other.names!r} of {len(other)}"
            )


def _clip(products: FloatArray) -> None:
    """Sums of squares that rounding made negative become zero."""
    diagonal = np.arange(products.shape[-1])
    products[:, diagonal, diagonal] = np.maximum(products[:, diagonal, diagonal], 0.0)
