"""A metric added later asks for the days it needs, and for no others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from exp_pipeline.catalog import Catalog
from exp_pipeline.model.brief import Guardrail, VarianceReduction
from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.metrics import Measure, Metric
from exp_pipeline.steps.again.backfill_needs import backfill_needs, backfill_windows, windows_of
from exp_pipeline.steps.behaviour.facts import build_unit_days
from exp_pipeline.steps.behaviour.learner_days import build_learner_days
from exp_pipeline.steps.context import DAY, Window, Workbench
from exp_pipeline.steps.experiments.chain import take_snapshot
from exp_pipeline.steps.opening import workbench
from exp_pipeline.steps.operating.daily import judge_guardrails
from exp_pipeline.store.home import Home
from exp_pipeline_tests.steps import metric_worlds as world
from exp_pipeline_tests.steps.conftest import SECRET, rows_of

BRIEF = world.BRIEFS["all-kinds"]
PRE = BRIEF.variance_reduction.pre_days
IN_IT = [BRIEF.start + DAY * offset for offset in range((BRIEF.end - BRIEF.start).days)]
BEFORE_IT = [BRIEF.start - DAY * offset for offset in range(PRE, 0, -1)]
HINTS = Measure(name="hints", description="Hints.", events=("hint_requested",))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> Iterator[Workbench]:
    home = Home(tmp_path_factory.mktemp("needs"))
    with (
        duckdb.connect() as connection,
        workbench(
            home, connection, run_id="test", environment={"EXP_HMAC_KEY": SECRET}, catalog=catalog, threads=1
        ) as bench,
    ):
        yield world.run(bench, world.draw(seed=5, learners=12))


def asking(
    made: Workbench,
    *,
    measures: dict[str, Measure] | None = None,
    metrics: list[Metric] | None = None,
    **brief: Any,
) -> Workbench:
    """The workbench with measures and metrics added, and an experiment that asks for those metrics."""
    added = {one.name: one for one in metrics or ()}
    asked = BRIEF.model_copy(update={"secondary": (*BRIEF.secondary, *added), **brief})
    return replace(
        made,
        catalog=replace(
            made.catalog,
            measures={**world.MEASURES, **(measures or {})},
            metrics={**world.METRICS, **added},
            briefs={BRIEF.name: asked},
        ),
    )


def hint_metric(name: str = "hints_each") -> Metric:
    return world.METRICS["mean_answers"].model_copy(update={"name": name, "numerator": "hints"})


def days_by_table(bench: Workbench) -> dict[tuple[str, str, str], list[date]]:
    return {(need.table, need.measure, need.why): list(need.days) for need in backfill_needs(bench)}


def test_a_metric_over_measures_that_are_there_needs_nothing(made: Workbench) -> None:
    later = world.METRICS["accuracy"].model_copy(update={"name": "accuracy_of_two_days", "window_days": 2})
    bench = asking(made, metrics=[later])
    assert backfill_needs(bench) == ()
    first, second = take_snapshot(made, BRIEF.name), take_snapshot(bench, BRIEF.name)
    assert first.snapshot != second.snapshot
    assert "accuracy_of_two_days__num" in pl.read_parquet(second.folder / "mad.parquet").columns


def test_another_description_needs_nothing(made: Workbench) -> None:
    told = world.MEASURES["answers"].model_copy(update={"description": "Answers, told better."})
    assert backfill_needs(asking(made, measures={"answers": told})) == ()


def test_a_measure_that_nobody_uses_needs_nothing(made: Workbench) -> None:
    assert backfill_needs(asking(made, measures={"hints": HINTS})) == ()


def test_a_new_measure_needs_the_days_of_the_experiment(made: Workbench) -> None:
    bench = asking(made, measures={"hints": HINTS}, metrics=[hint_metric()])
    assert days_by_table(bench) == {
        ("learner_days", "hints", "missing"): IN_IT,
        ("unit_days", "hints", "missing"): IN_IT,
    }
    assert backfill_windows(backfill_needs(bench)) == {
        table: (Window.of(IN_IT[0], IN_IT[-1]),) for table in ("learner_days", "unit_days")
    }
    with pytest.raises(ExpError, match=r"unit_days: 17 days \(2026-03-09 to 2026-03-25\) lack hints"):
        take_snapshot(bench, BRIEF.name)


def test_a_new_covariate_needs_the_days_before_too_and_no_unit_days(made: Workbench) -> None:
    bench = asking(
        made,
        measures={"hints": HINTS},
        variance_reduction=VarianceReduction(covariates=("answers", "hints"), pre_days=PRE),
    )
    assert days_by_table(bench) == {("learner_days", "hints", "missing"): [*BEFORE_IT, *IN_IT]}


def test_a_measure_over_sessions_needs_unit_days_only(made: Workbench) -> None:
    longest = Measure(name="longest", description="Longest.", over="sessions", aggregate="max", of="minutes")
    metric = world.METRICS["mean_slowest"].model_copy(update={"name": "longest_each", "numerator": "longest"})
    bench = asking(made, measures={"longest": longest}, metrics=[metric])
    assert days_by_table(bench) == {("unit_days", "longest", "missing"): IN_IT}


def test_another_definition_is_told_from_a_missing_one(made: Workbench) -> None:
    changed = world.MEASURES["first_hint"].model_copy(update={"where": "hint_level > 1"})
    bench = asking(made, measures={"first_hint": changed})
    assert days_by_table(bench) == {
        ("learner_days", "first_hint", "another definition"): IN_IT,
        ("unit_days", "first_hint", "another definition"): IN_IT,
    }


def test_the_days_asked_for_are_enough(made: Workbench) -> None:
    bench = asking(made, measures={"hints": HINTS}, metrics=[hint_metric()])
    # Unit-days made of learner-days without the measure do not pass for having it.
    build_unit_days(bench, Window.of(IN_IT[0], IN_IT[2]))
    assert days_by_table(bench)["unit_days", "hints", "missing"] == IN_IT
    steps = {"learner_days": build_learner_days, "unit_days": build_unit_days}
    for table, windows in backfill_windows(backfill_needs(bench)).items():
        for window in windows:
            steps[table](bench, window)
    assert backfill_needs(bench) == ()
    mad = pl.read_parquet(take_snapshot(bench, BRIEF.name).folder / "mad.parquet")
    rows = world.draw(seed=5, learners=12)
    units = world.units_of(rows, BRIEF)
    counted = {
        f"{unit.learner:032x}": sum(
            row.name == "hint_requested" for row in world.after(rows, unit, 0, 7, BRIEF.end - DAY)
        )
        for unit in units.values()
    }
    assert dict(mad.select("unit_id", "hints_each__num").iter_rows()) == counted
    assert sum(counted.values()) > 0


def test_a_guardrail_over_days_without_its_measure_cannot_be_told(made: Workbench) -> None:
    late = Measure(name="late", description="Late.", events=("answer_attempted",), where="score is null")
    metric = world.METRICS["mean_answers"].model_copy(update={"name": "late_each", "numerator": "late"})
    bench = asking(
        made, measures={"late": late}, metrics=[metric], secondary=(),
        guardrails=(Guardrail(metric="late_each", margin=5), Guardrail(metric="accuracy", margin=5)),
    )  # fmt: skip
    judge_guardrails(bench, Window.of(IN_IT[-1], IN_IT[-1]))
    found = {str(row[0]): row[1:] for row in rows_of(bench, "guardrails_daily", "metric, status, harm")}
    assert found["late_each"] == ("cannot_tell", None)
    assert found["accuracy"][1] is not None


def test_days_become_ranges() -> None:
    days = [IN_IT[3], IN_IT[0], IN_IT[1], IN_IT[3]]
    assert windows_of(days) == (Window.of(IN_IT[0], IN_IT[1]), Window.of(IN_IT[3], IN_IT[3]))
    assert windows_of([]) == ()


def test_partitions_that_recorded_nothing_are_asked_for(made: Workbench, tmp_path: Path) -> None:
    """A lake from before definitions were recorded: every measure in use is missing."""
    import json

    for path in (made.home.lake / "unit_days").glob("*/manifest.json"):
        manifest = json.loads(path.read_text())
        del manifest["facts"]["measures"]
        path.write_text(json.dumps(manifest))
    needs = backfill_needs(made, [BRIEF.name])
    assert {need.measure for need in needs if need.table == "unit_days"} >= {"answers", "latency"}
    assert {need.why for need in needs} == {"missing"}
    build_unit_days(made, world_window())
    assert backfill_needs(made, [BRIEF.name]) == ()


def world_window() -> Window:
    return Window.of(world.FIRST, world.LAST)
