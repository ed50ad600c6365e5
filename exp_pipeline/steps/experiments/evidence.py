"""What a snapshot keeps of assignment and exposure, so that its readout needs nothing else to judge them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date
from pathlib import Path

import polars as pl

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.evidence import Exposures, Fidelity, StrayDay
from exp_pipeline.model.ramps import RampEntry
from exp_pipeline.steps.assignment.exposure import build_units
from exp_pipeline.steps.assignment.fidelity import assigned_units, fidelity_of
from exp_pipeline.steps.context import DAY, Window, Workbench
from exp_pipeline.steps.operating.ramp_log import entries_of
from exp_pipeline.store.state import state_log
from exp_pipeline.transform import queries

# In a snapshot's folder, beside its dataset; snapshots of earlier versions lack them.
ASSIGNED, EXPOSED, DOSE = "assigned", "exposure_units", "exposure_dose"
STRAY_DAYS_KEPT = 10


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a snapshot tells of assignment and exposure; None for what it does not hold.

    assigned: one row per randomised unit, with how it stands to the brief's rules. doses: exposures by arm,
    surface and day.
    """

    fidelity: Fidelity | None = None
    exposures: Exposures | None = None
    assigned: pl.DataFrame | None = field(default=None, compare=False)
    doses: pl.DataFrame | None = field(default=None, compare=False)


def inputs_of_assignment(bench: Workbench, brief: Brief, newest: date) -> dict[str, object]:
    """What decides who belongs where and stands in no brief: layer, holdout and ramp, where there are any.

    Of the ramp the transitions up to the end of the day `newest`.
    """
    limits = bench.catalog.limits_of(brief)
    found: dict[str, object] = {
        name: one.digest()
        for name, one in (("layer", limits.layer), ("holdout", limits.holdout))
        if one is not None
    }
    ramp = [entry.digest() for entry in transitions_until(bench, brief, newest)]
    return found | ({"ramp": digest_of(ramp)} if ramp else {})


def transitions_until(bench: Workbench, brief: Brief, newest: date) -> tuple[RampEntry, ...]:
    """The ramp's transitions up to the end of a day, in their order."""
    entries = entries_of(state_log(bench.home), brief)
    return tuple(entry for entry in entries if entry.at.astimezone(UTC).date() <= newest)


def write_evidence(bench: Workbench, brief: Brief, newest: date, folder: Path) -> None:
    """Write `assigned`, `exposure_units` and `exposure_dose` (Parquet) of one experiment into a folder.

    newest: the last day that is known. Takes the place of the engine's tables `units` and `exposures`.
    """
    until = max(newest, brief.start) + DAY
    assigned_units(bench, brief, until=until).write_parquet(folder / f"{ASSIGNED}.parquet")
    engine = bench.engine
    build_units(bench, [brief.name], until=until)
    bench.read_days(
        "all_exposures", "exposures", Window(brief.start, max(min(until, brief.end), brief.start + DAY))
    )
    engine.build(
        "exposures",
        "select * from all_exposures where experiment = $experiment and version = $version",
        {"experiment": brief.name, "version": brief.version},
    )
    for name in (EXPOSED, DOSE):
        engine.write(queries.text_of(name), folder / f"{name}.parquet")
    for name in ("units", "exposures"):
        engine.drop(name)


def read_evidence(brief: Brief, folder: Path) -> Evidence:
    """What a snapshot's folder tells of assignment and exposure."""
    files = {name: folder / f"{name}.parquet" for name in (ASSIGNED, EXPOSED, DOSE)}
    assigned = pl.read_parquet(files[ASSIGNED]) if files[ASSIGNED].is_file() else None
    fidelity = None if assigned is None else fidelity_of(brief, assigned)
    if not (files[EXPOSED].is_file() and files[DOSE].is_file()):
        return Evidence(fidelity, assigned=assigned)
    units, dose = pl.read_parquet(files[EXPOSED]), pl.read_parquet(files[DOSE])
    return Evidence(fidelity, exposures_of(brief, units, dose), assigned, dose)


def exposures_of(brief: Brief, units: pl.DataFrame, dose: pl.DataFrame) -> Exposures:
    """How exposure stands against assignment.

    units: one row per learner assigned or exposed (`exposure_units.sql`). dose: one row per arm, surface and
    day (`exposure_dose.sql`).
    """
    never = units.filter(pl.col("status") == "never_exposed")
    by_arm = dict(never.group_by("arm").len().iter_rows())
    stray = (
        dose.filter(pl.col("arm").is_null())
        .group_by("event_date", "surface")
        .agg(pl.col("units").sum())
        .sort(["units", "event_date", "surface"], descending=[True, False, False])
        .head(STRAY_DAYS_KEPT)
    )
    surfaces = dose.group_by("surface").agg(pl.col("exposures").sum()).sort("surface")
    return Exposures(
        assigned=units["arm"].drop_nulls().len(),
        exposed=units.filter(pl.col("arm").is_not_null() & (pl.col("exposures") > 0)).height,
        never_exposed={arm: int(by_arm.get(arm, 0)) for arm in brief.shares()},
        not_assigned=units.filter(pl.col("status") == "not_assigned").height,
        other_arm=units.filter(pl.col("exposures_to_other_arm") > 0).height,
        before_assignment=units.filter(pl.col("status") == "before_assignment").height,
        exposures=int(units["exposures"].sum()),
        surfaces={surface: int(exposures) for surface, exposures in surfaces.iter_rows()},
        stray_days=tuple(
            StrayDay(event_date=day, surface=surface, units=count)
            for day, surface, count in stray.iter_rows()
        ),
    )
