"""The assignment table: one row a randomised unit, first arm kept, hash and log compared."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from exp_pipeline.model.brief import Arm, Brief
from exp_pipeline.model.errors import ExpError
from exp_pipeline.steps.assignment.assignment_table import (
    COLUMNS,
    assignment_table,
    path_of,
    write_assignment_table,
)
from exp_pipeline.steps.assignment.fidelity import fidelity_of, with_hash
from exp_pipeline.steps.context import Workbench
from exp_pipeline.transform.assignment import arm_of
from exp_pipeline.transform.hashing import SCHEMES, bucket_columns, hash_of_scheme
from exp_pipeline_tests.analysis.builders import brief_of
from exp_pipeline_tests.steps.benches import assigned, bench_in, commit_rows, later

THREE = (Arm(name="control", share=0.34), Arm(name="ladder", share=0.33), Arm(name="fast", share=0.33))


def brief(**changes: Any) -> Brief:
    return brief_of(primary="mastery_loop_completion", **changes)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    with bench_in(tmp_path, [brief()]) as found:
        yield found


def rows_of(frame: pl.DataFrame) -> dict[str, dict[str, Any]]:
    return {row["unit_id"]: row for row in frame.iter_rows(named=True)}


def other(arm: str) -> str:
    return "treatment" if arm == "control" else "control"


def test_logged_units_are_compared_with_the_hash(bench: Workbench) -> None:
    rows = [assigned(brief(), f"unit-{number}") for number in range(60)]
    wrong = rows[3] | {"arm": other(rows[3]["arm"])}
    computed = rows[4] | {"arm": other(rows[4]["arm"]), "source": "computed"}
    unknown = rows[5] | {"arm_bucket": None, "traffic_bucket": None}
    commit_rows(bench, "assignments", [*rows[:3], wrong, computed, unknown, *rows[6:]])
    table = assignment_table(bench, "worked-example")
    assert table.schema == pl.Schema(COLUMNS)
    assert table["unit_id"].to_list() == sorted(row["unit_id"] for row in rows)
    found = rows_of(table)
    assert (found["unit-3"]["agrees"], found["unit-3"]["hash_arm"]) == (False, rows[3]["arm"])
    assert (found["unit-4"]["agrees"], found["unit-4"]["hash_arm"]) == (None, rows[4]["arm"])
    assert (found["unit-5"]["agrees"], found["unit-5"]["hash_arm"]) == (None, None)
    assert all(found[row["unit_id"]]["agrees"] for row in rows[6:])


def test_the_table_and_fidelity_say_the_same(bench: Workbench) -> None:
    rows = [assigned(brief(), f"unit-{number}") for number in range(40)]
    rows[7] |= {"arm": other(rows[7]["arm"])}
    commit_rows(bench, "assignments", rows)
    table = assignment_table(bench, "worked-example")
    compared = table["agrees"].drop_nulls()
    found = fidelity_of(brief(), table)
    assert found is not None
    assert (compared.len(), int((~compared).sum())) == (found.checked, found.mismatched) == (40, 1)


def test_the_first_arm_stays_and_a_second_contaminates(bench: Workbench) -> None:
    first = assigned(brief(), "unit-1")
    second = later(first, 3, arm=other(first["arm"]))
    again = later(assigned(brief(), "unit-2"), 2)
    commit_rows(bench, "assignments", [first, second, assigned(brief(), "unit-2"), again])
    found = rows_of(assignment_table(bench, "worked-example"))
    assert len(found) == 2
    assert (found["unit-1"]["arm"], found["unit-1"]["contaminated"]) == (first["arm"], True)
    assert found["unit-1"]["assigned_at"] == first["assigned_at"]
    assert not found["unit-2"]["contaminated"]


def test_other_experiments_versions_kinds_and_days_stay_out(bench: Workbench) -> None:
    own = assigned(brief(), "own")
    commit_rows(
        bench,
        "assignments",
        [
            own,
            own | {"unit_id": "elsewhere", "experiment": "hint-ladder"},
            own | {"unit_id": "earlier", "version": 7},
            own | {"unit_id": "class-9", "unit_type": "class"},
            later(own, 27, unit_id="last-day"),
            later(own, 28, unit_id="after"),
            later(own, -1, unit_id="before"),
        ],
    )
    assert set(assignment_table(bench, "worked-example")["unit_id"]) == {"own", "last-day"}


def test_classes_are_the_rows_where_classes_are_randomised(tmp_path: Path) -> None:
    by_class = brief(randomisation_unit="class", icc=0.05)
    with bench_in(tmp_path, [by_class]) as bench:
        commit_rows(bench, "assignments", [assigned(by_class, f"class-{number}") for number in range(8)])
        table = assignment_table(bench, "worked-example")
    assert table["unit_type"].unique().to_list() == ["class"]
    assert table.height == 8
    assert table["agrees"].all()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("traffic", [1.0, 0.25])
def test_every_scheme_gives_the_arm_that_producers_compute(scheme: str, traffic: float) -> None:
    shaped = brief(arms=THREE, hash_scheme=scheme, traffic=traffic)
    names = [f"learner-{number}" for number in range(3000)]
    buckets = bucket_columns(scheme, shaped.name, 1, names)
    units = pl.DataFrame(
        {
            "experiment": shaped.name,
            "version": 1,
            "unit_type": "learner",
            "unit_id": names,
            "arm": "control",
            "assigned_at": datetime(2026, 3, 2, 9),
            "stratum": None,
            "source": "logged",
            "ramp_stage": None,
            "arm_bucket": buckets.arm,
            "traffic_bucket": buckets.traffic,
            "bucket_scheme": hash_of_scheme(scheme),
            "layer_bucket": None,
            "holdout_bucket": None,
            "layer_draws": None,
            "contaminated": False,
        }
    )
    table = with_hash(shaped, units)
    wanted = [arm_of(shaped.name, 1, name, shaped.shares(), scheme=scheme, traffic=traffic) for name in names]
    assert table["hash_arm"].to_list() == wanted
    assert table["agrees"].to_list() == [arm == "control" for arm in wanted]
    assert set(wanted) == {"control", "ladder", "fast"} | ({None} if traffic < 1 else set())


def test_the_published_example_holds() -> None:
    published = brief(name="refund-query-rewrite", hash_scheme="percent-v1")
    names = ["customer-014", "customer-231", "customer-844"]
    rows = [assigned(published, name) for name in names]
    empty = pl.lit(None, pl.String)
    units = pl.DataFrame(rows).with_columns(ramp_stage=empty, layer_draws=empty)
    assert with_hash(published, units)["hash_arm"].to_list() == ["treatment", "control", "control"]


def test_without_a_scheme_nothing_is_compared(tmp_path: Path) -> None:
    unhashed = brief(hash_scheme="none")
    with bench_in(tmp_path, [unhashed]) as bench:
        commit_rows(bench, "assignments", [assigned(unhashed, f"unit-{number}") for number in range(5)])
        table = assignment_table(bench, "worked-example")
    assert table.height == 5
    assert table["agrees"].null_count() == table["hash_arm"].null_count() == 5


def test_the_same_assignments_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [assigned(brief(), f"unit-{number}") for number in range(200)]
    contents = []
    for name, order in (("one", rows), ("two", rows[::-1])):
        with bench_in(tmp_path / name, [brief()]) as bench:
            commit_rows(bench, "assignments", order)
            written = write_assignment_table(bench, "worked-example")
            path = path_of(bench, "worked-example")
            before = path.stat().st_ino
            assert write_assignment_table(bench, "worked-example").digest == written.digest
            assert path.stat().st_ino == before
            contents.append((path.read_bytes(), written.digest, written.rows, dict(written.facts)))
            assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert contents[0] == contents[1]
    assert contents[0][2:] == (200, {"compared_with_hash": 200, "not_as_hashed": 0, "contaminated": 0})


def test_before_the_first_assignment_the_table_is_empty(bench: Workbench) -> None:
    written = write_assignment_table(bench, "worked-example")
    assert written.rows == 0
    table = pl.read_parquet(path_of(bench, "worked-example"))
    assert table.schema == pl.Schema(COLUMNS)


def test_an_unknown_experiment_is_refused(bench: Workbench) -> None:
    with pytest.raises(ExpError, match="no usable brief for experiment 'nobody'"):
        assignment_table(bench, "nobody")
