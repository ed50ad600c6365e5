"""Effects of every outcome, arm and segment of a unit table, from sums made in one pass."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from exp_pipeline.analysis.tables.effect_rows import EffectRows, RowLabels
from exp_pipeline.analysis.tables.grouped import (
    DENOMINATOR,
    NUMERATOR,
    Cells,
    Outcome,
    OutcomeCells,
    cells_of,
)
from exp_pipeline.analysis.tables.methods import UNITS_PER_COVARIATE, TableMethod, table_method
from exp_pipeline.analysis.tables.source import ParquetSource, TableSource
from exp_pipeline.stats.effects.strata import StratumArms, stratified_difference
from exp_pipeline.stats.many.effects import Answer, ManyEffects, many_adjusted, many_means, many_ratios
from exp_pipeline.stats.many.proportions import many_proportions
from exp_pipeline.stats.moments_table import IntArray, MomentsTable

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class TableDesign:
    """How was a table of independent units randomised, and what is asked of it?

    arm, segments, strata: columns. arms: the arm values that count, all where empty. Strata enter as fixed
    effects. all_pairs: also treatments against one another, not only against control.
    """

    arm: str
    control: str
    outcomes: tuple[Outcome, ...]
    arms: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    strata: tuple[str, ...] = ()
    level: float = 0.95
    all_pairs: bool = False

    def __post_init__(self) -> None:
        names = [outcome.name for outcome in self.outcomes]
        if len(set(names)) != len(names):
            raise ValueError(f"outcomes must have names that differ, got {names!r}")
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"level must be a confidence between 0 and 1, got {self.level!r}")
        if self.arms and self.control not in self.arms:
            raise ValueError(f"control {self.control!r} is not one of the arms {', '.join(self.arms)}")


def effects_of_table(path: Path, design: TableDesign, *, threads: int = 2) -> pl.DataFrame:
    """What are the effects in a Parquet file of units, overall and by segment?

    path: one row a unit. One row of the answer is one outcome, arm against control, segment value (null:
    all units) and analysis (adjusted for covariates, where the outcome has some, or not); columns as in
    `effect_rows.SCHEMA`. Raises ValueError for columns or arms that are not there.
    """
    with ThreadPoolExecutor(1) as aside:
        # Importing takes as long as reading some columns; neither needs the other.
        if "polars" not in sys.modules:
            aside.submit(import_module, "polars")
        cells = cells_of(
            ParquetSource(path),
            design.outcomes,
            arm=design.arm,
            segments=design.segments,
            strata=design.strata,
            threads=threads,
        )
    return effect_rows_of(cells, design).frame()


def effects_of_source(source: TableSource, design: TableDesign) -> EffectRows:
    """As `effects_of_table`, for a table that is read some other way."""
    cells = cells_of(source, design.outcomes, arm=design.arm, segments=design.segments, strata=design.strata)
    return effect_rows_of(cells, design)


def effect_rows_of(cells: Cells, design: TableDesign) -> EffectRows:
    """What are the effects, given the sums? Raises ValueError for an arm that the table does not have."""
    arms = design.arms or cells.arms
    for name in (design.control, *arms):
        if name not in cells.arms:
            raise ValueError(
                f"column {design.arm!r} has no arm {name!r}; it has: {', '.join(cells.arms) or 'no rows'}"
            )
    rows = EffectRows(design.level)
    compared = list(_pairs(arms, design))
    slots = _slots(cells)
    for found in cells.outcomes:
        for adjusted in (False, True) if found.covariates else (False,):
            method = table_method(
                found.outcome.estimand, clustered=False, stratified=bool(design.strata), adjusted=adjusted
            )
            if design.strata:
                answers = _stratified(cells, found, slots, compared, adjusted=adjusted, level=design.level)
            else:
                tables = _by_slot(cells, found.moments, slots)
                answers = _grouped(tables, cells, found, slots, compared, adjusted, design.level)
            for (control, arm), many, kept in answers:
                _write(rows, many, kept, found, slots, control, arm, method)
    return rows


@dataclass(frozen=True, slots=True, eq=False)
class _Slot:
    """One segment value (or all units): into (cells,) is true for its cells."""

    segment: str | None
    value: str | None
    cells: IntArray


def _slots(cells: Cells) -> list[_Slot]:
    found = [_Slot(None, None, np.arange(len(cells.arm)))]
    for segment in cells.segments:
        for place, label in enumerate(segment.labels):
            found.append(_Slot(segment.column, label, np.flatnonzero(segment.of == place)))
    return found


def _pairs(arms: Sequence[str], design: TableDesign) -> Iterator[tuple[str, str]]:
    yield from ((design.control, name) for name in arms if name != design.control)
    if design.all_pairs:
        yield from combinations([name for name in arms if name != design.control], 2)


def _by_slot(cells: Cells, moments: MomentsTable, slots: Sequence[_Slot]) -> MomentsTable:
    """Moments by slot and arm: group slot x arms + arm."""
    arms = len(cells.arms)
    source = np.concatenate([slot.cells for slot in slots])
    place = np.repeat(np.arange(len(slots)), [slot.cells.size for slot in slots])
    return moments.take(source).merged(place * arms + cells.arm[source], len(slots) * arms)


_Answers = Iterator[tuple[tuple[str, str], ManyEffects | list[Answer], IntArray]]


def _grouped(
    tables: MomentsTable,
    cells: Cells,
    found: OutcomeCells,
    slots: Sequence[_Slot],
    compared: Sequence[tuple[str, str]],
    adjusted: bool,
    level: float,
) -> _Answers:
    arms = len(cells.arms)
    at = np.arange(len(slots)) * arms
    for pair in compared:
        control, treatment = (tables.take(at + cells.arms.index(name)) for name in pair)
        kept = np.arange(len(slots))
        if adjusted:
            needed = UNITS_PER_COVARIATE * (len(found.covariates) + 1)
            kept = np.flatnonzero(control.n + treatment.n >= needed)
            control, treatment = control.take(kept), treatment.take(kept)
        yield pair, _many(control, treatment, found, adjusted, level), kept


def _many(
    control: MomentsTable, treatment: MomentsTable, found: OutcomeCells, adjusted: bool, level: float
) -> ManyEffects:
    covariates = found.covariates if adjusted else ()
    if found.outcome.estimand == "ratio":
        return many_ratios(
            control,
            treatment,
            numerator=NUMERATOR,
            denominator=DENOMINATOR,
            covariates=covariates,
            level=level,
        )
    if adjusted:
        return many_adjusted(control, treatment, outcome=NUMERATOR, covariates=covariates, level=level)
    if found.outcome.estimand == "proportion":
        counts = (np.rint(table.means[:, 0] * table.n).astype(np.int64) for table in (control, treatment))
        x_c, x_t = counts
        return many_proportions(x_c, control.n, x_t, treatment.n, level=level)
    return many_means(control, treatment, outcome=NUMERATOR, level=level)


def _stratified(
    cells: Cells,
    found: OutcomeCells,
    slots: Sequence[_Slot],
    compared: Sequence[tuple[str, str]],
    *,
    adjusted: bool,
    level: float,
) -> _Answers:
    """Within strata, cell by cell of the answer; a ratio linearised by arm first."""
    covariates = found.covariates if adjusted else ()
    for pair in compared:
        answers: list[Answer] = []
        places = []
        for place, slot in enumerate(slots):
            sides = []
            for name in pair:
                own = slot.cells[cells.arm[slot.cells] == cells.arms.index(name)]
                table = found.moments.take(own)
                if found.outcome.estimand == "ratio":
                    table = linearised(table, NUMERATOR, DENOMINATOR, found.covariates)
                by_stratum = table.merged(cells.stratum[own], len(cells.strata))
                sides.append(by_stratum)
            n = int(sides[0].n.sum() + sides[1].n.sum())
            if adjusted and n < UNITS_PER_COVARIATE * (len(covariates) + 1):
                continue
            strata = {
                f"{code:09d}": StratumArms(sides[0].group(code), sides[1].group(code))
                for code in range(len(cells.strata))
                if sides[0].n[code] or sides[1].n[code]
            }
            answers.append(
                stratified_difference(strata, outcome=NUMERATOR, covariates=covariates, level=level)
            )
            places.append(place)
        yield pair, answers, np.array(places, dtype=np.int64)


def linearised(
    table: MomentsTable, numerator: str, denominator: str, covariates: Sequence[str]
) -> MomentsTable:
    """Numerator over denominator of one arm as one number a unit, whose mean is the arm's ratio.

    Answers with the variables numerator and the covariates; where the denominator is zero throughout, the
    numerator as it is.
    """
    table = table.select((numerator, denominator, *covariates))
    whole = table.merged(np.zeros(len(table), dtype=np.int64), 1)
    base = float(whole.means[0, 1])
    if whole.n[0] == 0 or base == 0.0:
        return table.select((numerator, *covariates))
    ratio = float(whole.means[0, 0]) / base
    k = len(table.names)
    weights = np.zeros((k - 1, k))
    weights[0, :2] = 1.0 / base, -ratio / base
    weights[np.arange(1, k - 1), np.arange(2, k)] = 1.0
    found = table.linear(weights, (numerator, *covariates))
    rests = found.rests.copy()
    rests[:, 0] += np.where(found.n > 0, ratio, 0.0)
    return MomentsTable(found.n, found.centres, rests, found.products, found.names)


def _write(
    rows: EffectRows,
    many: ManyEffects | list[Answer],
    kept: IntArray,
    found: OutcomeCells,
    slots: Sequence[_Slot],
    control: str,
    arm: str,
    method: TableMethod,
) -> None:
    labels = RowLabels(
        outcome=found.outcome.name,
        segment=[slots[place].segment for place in kept],
        segment_value=[slots[place].value for place in kept],
        arm=arm,
        control=control,
        estimand=found.outcome.estimand,
        adjusted=method.adjusted,
        why=method.why,
        notes=found.notes if method.adjusted else (),
    )
    rows.add(many, labels)
