"""Assignment without exposure, exposure without assignment, and doses: kept, counted, and not lost by day."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from exp_pipeline.analysis.integrity.balance import exposure_check
from exp_pipeline.analysis.units import frame_of_units
from exp_pipeline.model.brief import Brief
from exp_pipeline.steps.assignment.exposure import build_assignments, build_exposures, build_units
from exp_pipeline.steps.context import Window, Workbench
from exp_pipeline.steps.experiments.evidence import DOSE, EXPOSED, Evidence, read_evidence, write_evidence
from exp_pipeline.transform.hashing import buckets_of
from exp_pipeline_tests.analysis.builders import brief_of
from exp_pipeline_tests.steps.benches import assigned, bench_in, commit_rows, later
from exp_pipeline_tests.steps.conftest import commit_events, lake_bytes, rows_of

START = date(2026, 3, 2)


def brief(**changes: Any) -> Brief:
    return brief_of(primary="mastery_loop_completion", **changes)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    with bench_in(tmp_path, [brief()]) as found:
        yield found


def learner(name: str, **changes: Any) -> dict[str, Any]:
    known = {"unit_key": sum(name.encode()) * 7919, "role": "student", "platform": "web", "app_version": "1"}
    return assigned(brief(), name, **known) | changes


def exposed(row: dict[str, Any], days: int, count: int = 1, **changes: Any) -> dict[str, Any]:
    at = row["assigned_at"] + timedelta(days=days, hours=1)
    kept = {name: row[name] for name in ("experiment", "version", "unit_id", "unit_key", "arm")}
    more = {"surface": "chat", "first_exposed_at": at, "event_date": at.date(), "exposures": count}
    return kept | more | changes


def other(arm: str) -> str:
    return "treatment" if arm == "control" else "control"


def evidence_of(bench: Workbench, newest: date, folder: Path) -> tuple[Evidence, pl.DataFrame, pl.DataFrame]:
    folder.mkdir()
    write_evidence(bench, brief(), newest, folder)
    frames = [pl.read_parquet(folder / f"{name}.parquet") for name in (EXPOSED, DOSE)]
    return read_evidence(brief(), folder), frames[0], frames[1]


def test_what_does_not_fit_is_kept_and_counted(bench: Workbench, tmp_path: Path) -> None:
    fine, never, crossed, early = (learner(f"unit-{number}") for number in range(4))
    stray, foreign = learner("stray"), learner("foreign")
    before = exposed(early, 0) | {"first_exposed_at": early["assigned_at"] - timedelta(hours=2)}
    commit_rows(bench, "assignments", [fine, never, crossed, early])
    commit_rows(
        bench,
        "exposures",
        [
            exposed(fine, 0, 3), exposed(fine, 0, 2, surface="hint"), exposed(fine, 4, 5),
            exposed(crossed, 1, 4), exposed(crossed, 2, 2, arm=other(crossed["arm"])),
            before, exposed(stray, 2), exposed(stray, 3, 6),
            exposed(foreign, 0, experiment="hint-ladder"), exposed(foreign, 0, version=2),
        ],
    )  # fmt: skip
    found, units, dose = evidence_of(bench, START + timedelta(days=9), tmp_path / "snapshot")
    rows = {row["unit_id"]: row for row in units.iter_rows(named=True)}
    assert {name: row["status"] for name, row in rows.items()} == {
        "unit-0": "exposed", "unit-1": "never_exposed", "unit-2": "exposed", "unit-3": "before_assignment",
        "stray": "not_assigned",
    }  # fmt: skip
    assert (rows["unit-0"]["exposures"], rows["unit-0"]["surfaces"], rows["unit-0"]["exposed_days"]) == (
        10,
        2,
        2,
    )
    assert rows["unit-0"]["first_exposed_at"] == fine["assigned_at"] + timedelta(hours=1)
    assert (rows["unit-2"]["exposures_to_other_arm"], rows["unit-2"]["other_arm"]) == (
        2,
        other(crossed["arm"]),
    )
    assert (rows["unit-1"]["exposures"], rows["unit-1"]["first_exposed_at"]) == (0, None)
    assert (rows["stray"]["arm"], rows["stray"]["exposures"]) == (None, 7)
    told = found.exposures
    assert told is not None
    assert (told.assigned, told.exposed, told.not_assigned) == (4, 3, 1)
    assert (told.other_arm, told.before_assignment, told.exposures) == (1, 1, 24)
    assert told.never_exposed == {"control": 0, "treatment": 0} | {never["arm"]: 1}
    assert told.surfaces == {"chat": 22, "hint": 2}
    assert [(day.event_date.day, day.surface, day.units) for day in told.stray_days] == [
        (4, "chat", 1), (5, "chat", 1),
    ]  # fmt: skip
    days = (
        dose.filter(pl.col("arm") == fine["arm"])
        .group_by("day_since_assignment")
        .agg(pl.col("exposures").sum())
    )
    assert dict(days.iter_rows())[4] == 5
    assert dose.filter(pl.col("arm").is_null())["day_since_assignment"].is_null().all()
    assert dose["exposures"].sum() == 24
    assert found.fidelity is not None
    assert (found.fidelity.checked, found.fidelity.mismatched) == (4, 0)


def test_the_check_says_what_the_dataset_of_units_cannot(bench: Workbench, tmp_path: Path) -> None:
    rows = [learner(f"unit-{number}") for number in range(100)]
    stray = [learner(f"stray-{number}") for number in range(3)]
    commit_rows(bench, "assignments", rows)
    commit_rows(bench, "exposures", [exposed(row, 1) for row in (*rows, *stray)])
    found, units, _ = evidence_of(bench, START + timedelta(days=3), tmp_path / "snapshot")
    mad = units.filter(pl.col("arm").is_not_null()).with_columns(
        (pl.col("exposures") > 0).alias("exposed"), pl.lit(False).alias("contaminated")
    )
    strict = brief(contamination_limit=0.01)
    check = exposure_check(frame_of_units(mad, strict), strict, found.exposures)
    assert (check.verdict, check.numbers["exposed_not_assigned"]) == ("fail", 3)
    assert "3 units were exposed without an assignment" in check.evidence
    assert "came on 2026-03-03 on chat (3)" in check.evidence
    assert exposure_check(frame_of_units(mad, strict), strict).verdict == "pass"
    patient = brief(contamination_limit=0.05)
    assert exposure_check(frame_of_units(mad, patient), patient, found.exposures).verdict == "warn"


def test_a_snapshot_knows_nothing_of_later_days(bench: Workbench, tmp_path: Path) -> None:
    first = learner("unit-0")
    second, late = later(first, 5, arm=other(first["arm"])), later(learner("unit-1"), 6)
    commit_rows(bench, "assignments", [first])
    commit_rows(bench, "exposures", [exposed(first, 1)])
    then = START + timedelta(days=3)
    alone = evidence_of(bench, then, tmp_path / "alone")
    commit_rows(bench, "assignments", [second, late])
    commit_rows(bench, "exposures", [exposed(first, 6), exposed(late, 0)])
    again = evidence_of(bench, then, tmp_path / "again")
    for name in ("assigned", EXPOSED, DOSE):
        files = [(tmp_path / folder / f"{name}.parquet").read_bytes() for folder in ("alone", "again")]
        assert files[0] == files[1]
    assert alone[0] == again[0]
    build_units(bench, ["worked-example"], until=then + timedelta(days=1))
    assert bench.engine.frame("select unit_id, contaminated from units").rows() == [("unit-0", False)]
    build_units(bench, ["worked-example"])
    assert bench.engine.frame("select unit_id, contaminated from units order by unit_id").rows() == [
        ("unit-0", True), ("unit-1", False),
    ]  # fmt: skip


def test_a_folder_without_evidence_tells_nothing(tmp_path: Path) -> None:
    assert read_evidence(brief(), tmp_path) == Evidence()


def event(name: str, at: datetime, number: int, unit: str, arm: str, **more: Any) -> dict[str, object]:
    buckets = buckets_of("sha256-v1", "worked-example", 1, unit)
    return {
        "event_id": f"event-{number:03d}", "event_name": name, "occurred_at": at, "event_date": at.date(),
        "learner_id": unit, "learner_key": sum(unit.encode()), "experiment": "worked-example",
        "experiment_version": 1, "unit_type": "learner", "unit_id": unit, "arm": arm, "role": "student",
        "platform": "web", "app_version": "1.0", "arm_bucket": buckets.arm, "traffic_bucket": buckets.traffic,
        "bucket_scheme": "sha256-v1", **more,
    }  # fmt: skip


def days_of_events() -> dict[date, list[dict[str, object]]]:
    """Four days: assignments logged again and in both arms, two surfaces, two versions side by side."""
    days: dict[date, list[dict[str, object]]] = {}
    number = 0
    for offset in range(4):
        day = START + timedelta(days=offset)
        rows = days.setdefault(day, [])
        for unit in range(12):
            number += 1
            at = datetime(day.year, day.month, day.day, 8, unit % 3, 0)
            arm = "control" if (unit + (offset if unit < 4 else 0)) % 2 else "treatment"
            named = {"experiment_version": 2} if unit == 11 else {}
            logged = {"assignment_source": "logged", "stratum": f"s{unit % 2}", "ramp_stage": "10pct"}
            rows.append(event("experiment_assigned", at, number, f"u{unit}", arm, **logged, **named))
            number += 1
            surface = {"surface": "hint" if unit % 3 else "chat"}
            rows.append(event("experiment_exposed", at, number, f"u{unit}", arm, **surface, **named))
    return days


def test_days_in_any_order_and_all_at_once_give_the_same_bytes(
    emptied: Callable[[], Workbench],
) -> None:
    events = days_of_events()
    whole = Window.of(START, START + timedelta(days=3))
    written: list[dict[str, bytes]] = []
    orders: list[tuple[Window, ...]] = [
        (whole,),
        *(tuple(Window.of(day, day) for day in order) for order in list(permutations(events))[::7]),
    ]
    for order in orders:
        bench = emptied()
        commit_events(bench, events)
        for window in order:
            build_assignments(bench, window)
            build_exposures(bench, window)
        files = lake_bytes(bench.home)
        written.append(
            {
                name: content
                for name, content in files.items()
                if name.endswith(".parquet") and "events" not in name
            }
        )
    assert len(written[0]) == 8
    assert all(one == written[0] for one in written)


def test_assignments_keep_every_arm_version_and_count(bench: Workbench) -> None:
    events = days_of_events()
    commit_events(bench, events)
    build_assignments(bench, Window.of(START, START + timedelta(days=3)))
    logged = [row for rows in events.values() for row in rows if row["event_name"] == "experiment_assigned"]
    found = rows_of(
        bench, "assignments", "unit_id, version, arm, cast(event_date as varchar), assigned_at, n_logged, "
        "stratum, ramp_stage, source, arm_bucket, bucket_scheme",
    )  # fmt: skip
    wanted = sorted(
        (
            row["unit_id"], row["experiment_version"], row["arm"], str(row["event_date"]), row["occurred_at"],
            1, row["stratum"], "10pct", "logged", row["arm_bucket"], "sha256-v1",
        )
        for row in logged
    )  # fmt: skip
    assert sorted(found) == wanted
    build_units(bench, ["worked-example"])
    units = bench.engine.frame("select unit_id, arm, contaminated from units order by unit_id")
    assert units["unit_id"].to_list() == sorted(f"u{unit}" for unit in range(11))
    assert units.filter("contaminated")["unit_id"].to_list() == [f"u{unit}" for unit in range(4)]
    first = {
        row["unit_id"]: row["arm"] for row in events[START] if row["event_name"] == "experiment_assigned"
    }
    assert all(first[unit] == arm for unit, arm, _ in units.iter_rows())
