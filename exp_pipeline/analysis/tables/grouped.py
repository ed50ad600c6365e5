"""Moments of every outcome by arm, segment and stratum, from one pass over a unit table."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.analysis.tables.covariate_sums import CovariateSums
from exp_pipeline.analysis.tables.source import CHUNK_ROWS, MISSING_LABELS, TableSource
from exp_pipeline.stats.moments_table import Grouping, MomentsTable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Estimand = Literal["auto", "mean", "proportion", "ratio"]

NUMERATOR, DENOMINATOR = "numerator", "denominator"
UNKNOWN = "unknown"
# Arms times segments times strata; beyond this the table is one of rows, not of groups.
MOST_CELLS = 200_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """Which columns make one outcome of a unit table?

    A "ratio" needs a denominator; a "proportion" counts a unit whose numerator is above zero; "auto" is a
    proportion where every number is 0 or 1, else a mean, or a ratio where there is a denominator. covariates:
    columns measured before assignment. counted: columns of true and false that must all hold for a unit to
    count (included, mature). A unit without a number in numerator or denominator does not count either.
    """

    name: str
    numerator: str
    estimand: Estimand = "mean"
    denominator: str | None = None
    covariates: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.estimand not in ("auto", "mean", "proportion", "ratio"):
            raise ValueError(
                f"estimand must be 'auto', 'mean', 'proportion' or 'ratio', got {self.estimand!r}"
            )
        if self.estimand == "auto" and self.denominator is not None:
            object.__setattr__(self, "estimand", "ratio")
        if (self.estimand == "ratio") != (self.denominator is not None):
            raise ValueError(
                f"outcome {self.name!r}: a ratio needs a denominator, and nothing else has one; "
                f"got {self.estimand} with {self.denominator!r}"
            )
        own = {self.numerator, self.denominator}
        doubled = [name for name in self.covariates if name in own or self.covariates.count(name) > 1]
        if doubled:
            raise ValueError(
                f"outcome {self.name!r}: covariate {doubled[0]!r} is there twice or its own outcome"
            )

    def columns(self) -> tuple[str, ...]:
        """Every column that the outcome reads."""
        base = () if self.denominator is None else (self.denominator,)
        return (self.numerator, *base, *self.covariates, *self.counted)


@dataclass(frozen=True, slots=True)
class Segments:
    """Which value has each cell? labels: the values in order. of: (cells,) the place of each cell's."""

    column: str
    labels: tuple[str, ...]
    of: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class OutcomeCells:
    """The moments of one outcome by cell, rows with a value only.

    covariates: the names in `moments` of the covariates, filled, with "<name>_missing" for those with gaps.
    """

    outcome: Outcome
    moments: MomentsTable
    covariates: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """What one pass found. A cell is an arm in a combination of segment values in a stratum.

    arms: in order. arm, stratum: (cells,) the place of each. rows: (cells,) rows of the table, with or
    without a value. segments: see `Segments`. without_arm: rows whose arm is missing.
    """

    arms: tuple[str, ...]
    arm: IntArray
    strata: tuple[str, ...]
    stratum: IntArray
    segments: tuple[Segments, ...]
    rows: IntArray
    without_arm: int
    outcomes: tuple[OutcomeCells, ...] = field(default=())


def cells_of(
    source: TableSource,
    outcomes: Sequence[Outcome],
    *,
    arm: str,
    segments: Sequence[str] = (),
    strata: Sequence[str] = (),
    threads: int = 2,
) -> Cells:
    """Which moments has each outcome in each arm, combination of segments, and stratum?

    Keys are read once; then every outcome's columns are read and summed part by part, `threads` outcomes at a
    time, so memory holds some columns of some parts only. Sums are merged in the order of the file: the same
    file gives the same bytes. A missing segment or stratum is "unknown". Raises ValueError for a column that
    is not there or does not hold numbers, or for more than 200,000 cells.
    """
    _require(source, [arm, *segments, *strata, *(name for one in outcomes for name in one.columns())])
    keys = _keys(source, arm, segments, strata)
    cells = len(keys.arm)
    groupings: list[list[tuple[int, int, Grouping]]] = []
    rows = np.zeros(cells, dtype=np.int64)
    for codes in keys.codes:
        cut = []
        for begin in range(0, codes.size, CHUNK_ROWS):
            part = codes[begin : begin + CHUNK_ROWS]
            grouping = Grouping.of(part, cells + 1)
            cut.append((begin, begin + part.size, grouping))
            rows += grouping.counts[:cells]
        groupings.append(cut)
    keys.codes.clear()

    def summed(outcome: Outcome) -> OutcomeCells:
        return _outcome_cells(source, outcome, groupings, cells)

    if threads > 1 and len(outcomes) > 1:
        with ThreadPoolExecutor(threads) as pool:
            found = tuple(pool.map(summed, outcomes))
    else:
        found = tuple(summed(outcome) for outcome in outcomes)
    return Cells(
        keys.arms,
        keys.arm,
        keys.strata,
        keys.stratum,
        keys.segments,
        rows,
        source.rows - int(rows.sum()),
        found,
    )


def _require(source: TableSource, names: Sequence[str]) -> None:
    missing = [name for name in dict.fromkeys(names) if name not in source.columns]
    if missing:
        raise ValueError(
            f"{source.name} has no column {', '.join(map(repr, missing))}; "
            f"it has: {', '.join(source.columns)}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Keys:
    """codes: by part, the cell of each row, `cells` itself where the arm is missing."""

    arms: tuple[str, ...]
    arm: IntArray
    strata: tuple[str, ...]
    stratum: IntArray
    segments: tuple[Segments, ...]
    codes: list[IntArray]


def _keys(source: TableSource, arm: str, segments: Sequence[str], strata: Sequence[str]) -> _Keys:
    """The combinations of keys that occur, numbered in the order of their labels."""
    columns = [arm, *segments, *strata]
    labels: list[dict[str, int]] = [{} for _ in columns]
    parts: list[list[IntArray]] = []
    for part in range(source.parts):
        coded = []
        for place, column in enumerate(columns):
            key = source.key(part, column)
            known = labels[place]
            empty = [label.strip().lower() in MISSING_LABELS for label in key.labels]
            missing = -1
            if place and (any(empty) or (key.codes < 0).any()):
                missing = known.setdefault(UNKNOWN, len(known))
            here = [
                missing if none else known.setdefault(label, len(known))
                for label, none in zip(key.labels, empty, strict=True)
            ]
            # The last entry answers for -1.
            lookup = np.array([*here, missing], dtype=np.int64)
            coded.append(lookup[key.codes])
        parts.append(coded)
    ordered = [_natural(known) for known in labels]
    places = [
        np.argsort([known[label] for label in names]) if names else np.zeros(0, dtype=np.int64)
        for known, names in zip(labels, ordered, strict=True)
    ]
    sizes = [max(len(known), 1) for known in labels]
    if float(np.prod(np.array(sizes, dtype=np.float64))) > 2.0**62:
        raise ValueError(f"{source.name}: too many combinations of {', '.join(columns)}")
    whole: list[IntArray] = []
    for coded in parts:
        mixed = np.zeros(coded[0].shape, dtype=np.int64)
        for place, codes in enumerate(coded):
            mixed = mixed * sizes[place] + (places[place][codes] if places[place].size else 0)
        whole.append(np.where(coded[0] < 0, -1, mixed))
    parts.clear()
    nothing = np.zeros(0, dtype=np.int64)
    distinct: IntArray = np.unique(np.concatenate([nothing, *(_distinct(codes) for codes in whole)]))
    distinct = distinct[distinct >= 0]
    if distinct.size > MOST_CELLS:
        raise ValueError(
            f"{source.name}: {distinct.size:,} combinations of {', '.join(columns)}; "
            f"at most {MOST_CELLS:,} are summed by group"
        )
    by_part = [_cell(found, distinct) for found in whole]
    split: list[IntArray] = []
    rest = distinct.copy()
    for size in reversed(sizes):
        split.append(rest % size)
        rest //= size
    split.reverse()
    found_segments = tuple(
        Segments(column, ordered[1 + place], split[1 + place]) for place, column in enumerate(segments)
    )
    strata_labels: tuple[str, ...] = ("",)
    stratum = np.zeros(distinct.size, dtype=np.int64)
    if strata:
        first = 1 + len(segments)
        rows = np.stack(split[first:], axis=1)
        used, stratum = np.unique(rows, axis=0, return_inverse=True)
        stratum = stratum.reshape(-1).astype(np.int64)
        strata_labels = tuple(
            " / ".join(ordered[first + place][code] for place, code in enumerate(row))
            for row in used.tolist()
        )
    return _Keys(ordered[0], split[0], strata_labels, stratum, found_segments, by_part)


def _natural(labels: dict[str, int]) -> tuple[str, ...]:
    """Labels by number where all are numbers, else by text."""
    try:
        return tuple(sorted(labels, key=lambda label: (float(label), label)))
    except ValueError:
        return tuple(sorted(labels))


def _distinct(codes: IntArray) -> IntArray:
    if codes.size and int(codes.max()) < 4 * codes.size:
        present = np.bincount(codes + 1) > 0
        return np.flatnonzero(present) - 1
    return np.unique(codes)


def _cell(codes: IntArray, distinct: IntArray) -> IntArray:
    cells = distinct.size
    if cells and int(distinct[-1]) < 16 * MOST_CELLS:
        lookup = np.full(int(distinct[-1]) + 2, cells, dtype=np.int64)
        lookup[distinct] = np.arange(cells)
        return np.asarray(lookup[codes])
    return np.where(codes < 0, cells, np.searchsorted(distinct, codes))


def _outcome_cells(
    source: TableSource, outcome: Outcome, groupings: list[list[tuple[int, int, Grouping]]], cells: int
) -> OutcomeCells:
    """One outcome, part by part. The group past the last cell is of rows without an arm, and is dropped."""
    own = [NUMERATOR] + [DENOMINATOR] * (outcome.denominator is not None)
    third = outcome.estimand in ("auto", "mean")
    sums = CovariateSums(own, outcome.covariates, cells + 1, third=third)
    columns = [outcome.numerator] + ([outcome.denominator] if outcome.denominator is not None else [])
    yes_or_no = outcome.estimand == "auto"
    for part, cut in enumerate(groupings):
        numbers = source.numbers(part, [*columns, *outcome.covariates, *outcome.counted])
        values, rest = numbers[: len(own)], numbers[len(own) :]
        covariates, flags = rest[: len(outcome.covariates)], rest[len(outcome.covariates) :]
        for begin, end, grouping in cut:
            here = [column[begin:end] for column in values]
            counts = np.ones(end - begin, dtype=bool)
            for column in here:
                if not np.isfinite(column.sum()):
                    counts &= np.isfinite(column)
            for column in flags:
                counts &= column[begin:end] > 0.0
            if outcome.estimand == "proportion":
                here[0] = (here[0] > 0.0).astype(np.float64)
            kept = grouping if counts.all() else grouping.only(counts)
            yes_or_no = yes_or_no and bool(((here[0] == 0.0) | (here[0] == 1.0) | ~counts).all())
            if not counts.all():
                here = [np.where(counts, column, 0.0) for column in here]
            sums.add(here, [column[begin:end] for column in covariates], kept)
    if outcome.estimand == "auto":
        outcome = replace(outcome, estimand="proportion" if yes_or_no else "mean")
    return OutcomeCells(outcome, *sums.finished())
