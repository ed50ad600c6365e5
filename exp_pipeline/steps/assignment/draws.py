"""Drawing an assignment table once: from a list of units to a stored table, its record, and arms."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.draws import ArmCount, ColumnBalance, Draw, DrawDesign
from exp_pipeline.model.errors import ExpError, Problem
from exp_pipeline.model.layers import Limits
from exp_pipeline.steps.assignment.drawn import KIND, TABLE, UNIT, draw_of, log_of, partition_of, subject_of
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.chain import brief_of
from exp_pipeline.store.lake import NewFile
from exp_pipeline.store.unit_lists import UnitList
from exp_pipeline.transform.drawing import DrawnUnit, ListedUnit, draw_arms
from exp_pipeline.transform.layers import eligible

PROBLEMS_SHOWN = 20
# Joins the values of several columns to one stratum; allowed in none of them.
JOIN = "/"
_SCHEMA_VERSION = "draw-1"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A draw with what the product needs: by id as listed, the arm and stratum, or why there is none.

    rows: unit_id, arm, stratum, outside, in the order of the list (of clusters, where clusters were drawn).
    """

    draw: Draw
    rows: pl.DataFrame
    made_now: bool


def draw_table(
    bench: Workbench,
    experiment: str,
    units: UnitList,
    design: DrawDesign,
    *,
    now: datetime,
    seed: int | None = None,
) -> Drawn:
    """Draw the arms of a list of units, once for each version of an experiment, and store the table.

    The stored table holds pseudonyms; the rows given back hold the ids of the list. Asked again with the same
    list, design and shares, the draw is found again and gives the same bytes. Without a seed one is made and
    stored. Raises ExpError for a list with faults (all of them, with file, line, field and value), for
    a brief whose `assignment` is not `table` or whose strata are others, and where other inputs or another
    seed were drawn before.
    """
    brief = brief_of(bench, experiment)
    if brief.assignment != "table":
        raise ExpError(
            f"the brief of {experiment} says assignment: {brief.assignment}; write `assignment: table` "
            "in it before a table is drawn"
        )
    if brief.strata and set(design.strata) != set(brief.strata):
        raise ExpError(
            f"the brief of {experiment} has strata {', '.join(brief.strata)}, the draw has "
            f"{', '.join(design.strata) or 'none'}: give each with --strata"
        )
    listed = _listed(units, brief, design)
    limits = bench.catalog.limits_of(brief)
    inputs = _inputs_digest(brief, limits, listed, design)
    before = draw_of(bench.home, brief)
    _refuse_others(brief, before, inputs, seed)
    if bench.key is None:
        raise ExpError(
            "no identity key: set EXP_HMAC_KEY to a secret text of at least 16 characters (and keep it)"
        )
    chosen = before.seed if before else secrets.randbelow(2**53) if seed is None else seed
    ids = [unit.unit_id for unit in listed.units]
    outside = eligible(limits, brief.name, ids)
    inside = [unit for unit, why in zip(listed.units, outside, strict=True) if why is None]
    if not inside:
        raise ExpError(f"{units.file}: no unit of the list may take part: layer or holdout exclude them all")
    try:
        drawn = draw_arms(inside, brief.shares(), design, chosen)
    except ValueError as fault:
        raise ExpError(f"{units.file}: {fault}") from None
    by_id = {one.unit_id: one for one in drawn}
    rows = pl.DataFrame(
        {
            UNIT: ids,
            "arm": [by_id[one].arm if one in by_id else None for one in ids],
            "stratum": [by_id[one].stratum or None if one in by_id else None for one in ids],
            "outside": list(outside),
        },
        schema={UNIT: pl.String, "arm": pl.String, "stratum": pl.String, "outside": pl.String},
    )
    table = pl.DataFrame(
        {
            UNIT: [bench.key.pseudonym(one.unit_id) for one in drawn],
            "arm": [one.arm for one in drawn],
            "stratum": [one.stratum or None for one in drawn],
        },
        schema={UNIT: pl.String, "arm": pl.String, "stratum": pl.String},
    ).sort(UNIT)
    digest = digest_of([list(row) for row in table.iter_rows()])
    record = Draw(
        experiment=brief.name,
        version=brief.version,
        unit_type=brief.randomisation_unit,
        design=design,
        seed=chosen,
        shares=brief.shares(),
        inputs_digest=inputs,
        table_digest=digest,
        code_version=bench.code_version,
        drawn_at=now,
        units=len(drawn),
        members=len(units.rows) if design.clusters else None,
        left_out=_left_out(outside),
        counts=_counts(brief, inside, drawn),
        balance=_balance(brief, listed, by_id),
    )
    made = log_of(bench.home).append(
        KIND,
        subject_of(brief),
        key=subject_of(brief),
        at=now.isoformat(),
        content=record.model_dump(mode="json"),
    )
    kept = draw_of(bench.home, brief)
    if kept is None:
        raise ExpError(f"the record of the draw of {experiment} could not be read back")
    _refuse_others(brief, kept, inputs, chosen)
    if kept.table_digest != digest:
        raise ExpError(
            f"{experiment} was drawn on {kept.drawn_at:%Y-%m-%d} under another identity key or by other code "
            f"({kept.code_version}); what was drawn then holds"
        )
    _store(bench, brief, table)
    return Drawn(kept, rows, made)


def _store(bench: Workbench, brief: Brief, table: pl.DataFrame) -> None:
    """Write the table where none is stored; one from which a person was erased stays as it is."""
    started, partition = time.monotonic(), partition_of(brief)
    if bench.lake.manifest(TABLE, partition) is not None:
        return
    with bench.staged(TABLE, partition) as path:
        table.write_parquet(path, compression="zstd")
        bench.commit(
            TABLE, partition, [NewFile(path, "all", table.height)], started, schema_version=_SCHEMA_VERSION
        )


def _refuse_others(brief: Brief, before: Draw | None, inputs: str, seed: int | None) -> None:
    if before is None:
        return
    what = None
    if before.inputs_digest != inputs:
        what = "from another list, design, layer or shares"
    elif seed is not None and seed != before.seed:
        what = f"with seed {before.seed}, not {seed}"
    if what is not None:
        raise ExpError(
            f"{brief.name} version {brief.version} was drawn on {before.drawn_at:%Y-%m-%d} {what}; a table "
            "is drawn once: raise the brief's version to draw anew"
        )


@dataclass(frozen=True, slots=True)
class _Listed:
    units: tuple[ListedUnit, ...]
    numbers: Mapping[str, tuple[float, ...]]


def _listed(units: UnitList, brief: Brief, design: DrawDesign) -> _Listed:
    """The units to draw, checked. Raises ExpError with every fault of the list."""
    key = design.clusters or UNIT
    wanted = [key, *design.strata, *design.match]
    missing = [name for name in dict.fromkeys(wanted) if name not in units.columns]
    if missing:
        raise ExpError(
            f"{units.file}:1: has no column {', '.join(missing)}; its columns: {', '.join(units.columns)}"
        )
    if design.clusters and brief.randomisation_unit == brief.analysis_unit:
        raise ExpError(
            f"--clusters {design.clusters}: the brief of {brief.name} randomises by "
            f"{brief.randomisation_unit}; clusters are drawn where it says randomisation_unit: class"
        )
    problems: list[Problem] = []
    first: dict[str, int] = {}
    found: dict[str, ListedUnit] = {}
    for place, row in enumerate(units.rows):
        name = row[key]
        faults = _faults(units, place, key, design)
        problems += faults
        if name is None or faults:
            continue
        unit = ListedUnit(
            unit_id=name,
            stratum=JOIN.join(row[column] or "" for column in design.strata),
            match=tuple(float(row[column] or "nan") for column in design.match),
        )
        if name not in found:
            found[name], first[name] = unit, place
        elif design.clusters is None:
            problems.append(units.problem(place, key, f"stands on line {units.lines[first[name]]} already"))
        elif unit != found[name]:
            what = next(
                column for column in (*design.strata, *design.match)
                if row[column] != units.rows[first[name]][column]
            )  # fmt: skip
            problems.append(
                units.problem(
                    place, what, f"differs within {key} {name}: see line {units.lines[first[name]]}"
                )
            )
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:PROBLEMS_SHOWN])
        more = f"\n  … and {len(problems) - PROBLEMS_SHOWN} more" if len(problems) > PROBLEMS_SHOWN else ""
        raise ExpError(
            f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in the list:\n{shown}{more}"
        )
    return _Listed(tuple(found.values()), _numbers(units, key, design, first))


def _faults(units: UnitList, place: int, key: str, design: DrawDesign) -> list[Problem]:
    row, found = units.rows[place], []
    name = row[key]
    if name is None:
        found.append(units.problem(place, key, "is empty"))
    elif name != name.strip():
        found.append(units.problem(place, key, "begins or ends with white space"))
    for column in design.strata:
        if row[column] is None:
            found.append(units.problem(place, column, "is empty", allowed="a stratum, such as (none)"))
        elif len(design.strata) > 1 and JOIN in str(row[column]):
            found.append(units.problem(place, column, f"has a {JOIN}, which joins several strata columns"))
    for column in design.match:
        if _number(row[column]) is None:
            found.append(units.problem(place, column, "is not a number", allowed="a finite number"))
    return found


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _numbers(
    units: UnitList, key: str, design: DrawDesign, first: Mapping[str, int]
) -> dict[str, tuple[float, ...]]:
    """Every column of numbers, one value a unit (of clusters the mean over their rows)."""
    found: dict[str, tuple[float, ...]] = {}
    for column in units.columns:
        if column in (key, UNIT, *design.strata):
            continue
        values = [_number(row[column]) for row in units.rows]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            continue
        gathered: dict[str, list[float]] = {name: [] for name in first}
        for row, value in zip(units.rows, known, strict=True):
            gathered[str(row[key])].append(value)
        found[column] = tuple(math.fsum(gathered[name]) / len(gathered[name]) for name in first)
    return found


def _inputs_digest(brief: Brief, limits: Limits, listed: _Listed, design: DrawDesign) -> str:
    """What decides the draw but for its seed; the order of the list only where blocks follow it."""
    rows = [[unit.unit_id, unit.stratum, *unit.match] for unit in listed.units]
    ordered = rows if design.method == "blocked" else sorted(rows, key=lambda row: str(row[0]))
    return digest_of(
        {
            "experiment": brief.name,
            "version": brief.version,
            "shares": [[arm, share] for arm, share in brief.shares().items()],
            "design": design.model_dump(mode="json"),
            "layers": [limits.draws(), limits.layer_range(brief.name), limits.held_out()],
            "units": ordered,
        }
    )


def _left_out(outside: Sequence[str | None]) -> dict[str, int]:
    reasons = sorted({why for why in outside if why is not None})
    return {why: outside.count(why) for why in reasons}


def _counts(brief: Brief, units: Sequence[ListedUnit], drawn: Sequence[DrawnUnit]) -> tuple[ArmCount, ...]:
    """Units by arm over all and in each stratum, with the planned number."""
    sizes: dict[str | None, int] = {None: len(units)}
    seen: dict[tuple[str | None, str], int] = {}
    for unit, one in zip(units, drawn, strict=True):
        for stratum in {None, unit.stratum or None}:
            seen[stratum, one.arm] = seen.get((stratum, one.arm), 0) + 1
        if unit.stratum:
            sizes[unit.stratum] = sizes.get(unit.stratum, 0) + 1
    return tuple(
        ArmCount(
            stratum=stratum,
            arm=arm,
            units=seen.get((stratum, arm), 0),
            planned=round(sizes[stratum] * share, 6),
        )
        for stratum in sorted(sizes, key=lambda name: (name is not None, name or ""))
        for arm, share in brief.shares().items()
    )


def _balance(brief: Brief, listed: _Listed, drawn: Mapping[str, DrawnUnit]) -> tuple[ColumnBalance, ...]:
    found = []
    for column, every in sorted(listed.numbers.items()):
        pairs = [
            (drawn[unit.unit_id].arm, value)
            for unit, value in zip(listed.units, every, strict=True)
            if unit.unit_id in drawn
        ]
        means = {
            arm: math.fsum(value for one, value in pairs if one == arm) / count
            for arm in brief.shares()
            if (count := sum(one == arm for one, _ in pairs))
        }
        middle = math.fsum(value for _, value in pairs) / len(pairs)
        squares = math.fsum((value - middle) ** 2 for _, value in pairs)
        spread = math.sqrt(squares / (len(pairs) - 1)) if len(pairs) > 1 else 0.0
        control = means.get(brief.control)
        for arm, mean in means.items():
            apart = None if control is None or not spread else round((mean - control) / spread, 9)
            found.append(
                ColumnBalance(column=column, arm=arm, mean=round(mean, 9), standardised_difference=apart)
            )
    return tuple(found)
