"""The benchmark's own parts: its pinned catalog still loads, its promises are judged the right way round."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bench import limits, report
from bench.peers import by_duckdb
from bench.peers.inputs import COLUMNS, Inputs, inputs
from bench.peers.results import compare
from bench.stages import opened, pinned_catalog
from bench.statistics_speed import agree, data, ours, page, run, tasks
from bench.timing import Result, run_apart
from exp_pipeline.analysis.tables.batches import BatchQuestion, answer_of_batch
from exp_pipeline.cli.tables import read_table
from exp_pipeline.transform.measures import in_order

ROOT = Path(__file__).resolve().parents[1]


def _stage(name: str, cpu: float, **more: object) -> Result:
    return {"stage": name, "seconds": cpu, "cpu_seconds": cpu, "peak_mb": 500.0, "rows": 1_000, **more}


def test_the_pinned_catalog_loads_and_makes_a_limit_of_22_aggregates() -> None:
    """A change of the catalog's language must not stop the benchmark unnoticed."""
    catalog = pinned_catalog(28)
    over_events = in_order(catalog.measures.values(), "events")
    assert (len(over_events), len(catalog.measures)) == (19, 22)
    assert str(catalog.briefs["hint-ladder"].start) == "2026-03-03"
    assert "group by learner_key" in limits.limit_query(over_events, [Path("x.parquet")])


def test_a_promise_is_met_missed_or_not_measured() -> None:
    """Ratios go the right way: 30 x LIMIT misses, 0.5 of DuckDB's speed misses, what failed is not judged."""
    run: list[Result] = [
        _stage("limit", 1.0),
        _stage("events", 30.0),
        *(_stage(name, 0.4) for name in report.UNIT_DAYS_STAGES),
        _stage("ndjson", 2.0, duckdb_seconds=2.0, duckdb_cpu_seconds=1.0),
        {"stage": "verdicts", "failed": "stopped after 1 s"},
    ]
    found = {one.name: one for one in report.targets(report.Stages(run), None)}
    assert found["landed to events: CPU"].met is False
    assert found["events to unit-days: CPU"].value == pytest.approx(2.0)
    assert found["events to unit-days: CPU"].met is True
    assert found["NDJSON.gz parsing: CPU"].value == pytest.approx(0.5)
    assert found["NDJSON.gz parsing: CPU"].met is False
    assert found["NDJSON.gz parsing: wall"].met is True
    assert found["contract verdicts: CPU"].met is None
    slower = [{**one, "rows": 100} if one["stage"] == "events" else one for one in run]
    linear = report.targets(report.Stages(slower), report.Stages(run))[-2:]
    assert [one.value for one in linear] == pytest.approx([10.0, 10.0])
    assert not any(one.met for one in linear)


def test_a_stage_that_fails_or_takes_too_long_says_so() -> None:
    """A peer that is stopped is a row of the table, not the end of the run."""
    failed = run_apart(ROOT, ["--events", "10000", "--base", "10000"], "no-such-stage", 60)
    assert "there is no stage 'no-such-stage'" in str(failed["failed"])
    slow = run_apart(ROOT, ["--events", "10000", "--base", "10000"], "no-such-stage", 0.01)
    assert str(slow["failed"]).startswith("stopped after")


@pytest.fixture
def given(tmp_path: Path) -> Inputs:
    """A peer's inputs over one learner: three sessions of two, one and one events."""
    with opened(tmp_path, 28) as bench:
        made = inputs(bench, tmp_path / "peer")
    path = tmp_path / "events.parquet"
    rows = {
        "learner_key": "7::ubigint",
        "event_date": "moment::date",
        "occurred_at": "moment",
        "event_id": "moment::varchar",
    }
    rows |= {"objective_changed": "false", "device_handover": "false", "event_name": "'hint_requested'"}
    texts = {"learning_objective_id", "experiment", "unit_type", "severity"}
    flags = {"correct", "mastery", "answer_revealed", "grounded", "helpful"}
    for name in COLUMNS:
        kind = "varchar" if name in texts else "boolean" if name in flags else "bigint"
        rows.setdefault(name, f"null::{kind}")
    columns = ", ".join(f"{value} as {name}" for name, value in rows.items())
    moments = ("2026-03-05 23:50", "2026-03-06 00:20", "2026-03-06 00:51", "2026-03-07 12:00")
    listed = ", ".join(f"(timestamp '{moment}')" for moment in moments)
    duckdb.sql(f"copy (select {columns} from (values {listed}) as t(moment)) to '{path}'")
    by_duckdb.run(Inputs(**{**{name: getattr(made, name) for name in Inputs.__slots__}, "files": [path]}))
    return made


def test_a_peer_cuts_at_more_than_thirty_minutes_and_glues_over_midnight(given: Inputs) -> None:
    """Thirty minutes over midnight belong together, thirty-one do not."""
    with duckdb.connect() as connection:
        found = connection.execute(f"select n_events from '{given.sessions}' order by started_at").fetchall()
    assert found == [(2,), (1,), (1,)]


def test_a_comparison_sees_one_changed_session_and_one_missing_unit_day(
    given: Inputs, tmp_path: Path
) -> None:
    """Equal results compare as equal; one count more, or one row less, is found."""
    ours, units = tmp_path / "ours.parquet", tmp_path / "units.parquet"
    zeros = ", ".join(
        f"{'[]' if one.aggregate in ('distinct', 'values') else 0} as {one.name}"
        for one in (*given.measures, *given.session_measures)
    )
    duckdb.sql(f"copy (select * from '{given.sessions}') to '{ours}'")
    duckdb.sql(f"copy (select 7::ubigint as unit_key, date '2026-03-05' as event_date, {zeros}) to '{units}'")
    fields = {name: getattr(given, name) for name in Inputs.__slots__}
    same = Inputs(**{**fields, "our_sessions": [ours], "our_unit_days": [given.unit_days]})
    assert [compare(same)[f"{kind}_differ"] for kind in ("sessions", "unit_days")] == [0, 0]
    changed = f"select * replace (n_events + (n_events = 2)::int as n_events) from '{given.sessions}'"
    duckdb.sql(f"copy ({changed}) to '{ours}'")
    other = Inputs(**{**fields, "our_sessions": [ours], "our_unit_days": [units]})
    assert [compare(other)[f"{kind}_differ"] for kind in ("sessions", "unit_days")] == [1, 1]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of the statistics' benchmark, a five-hundredth of their rows."""
    folder = tmp_path_factory.mktemp("statistics")
    data.make(folder, 0.002)
    return folder


def test_the_readout_of_the_benchmark_and_its_arithmetic_say_the_same(small: Path) -> None:
    """One reads the rows, the other raw sums that were made apart: 440 plain and 418 adjusted estimates."""
    rows = agree.keyed(ours.readout(small)["rows"])
    from_sums = agree.keyed(ours.arithmetic(small)["rows"])
    assert (len(rows), len(from_sums)) == (880, 858)
    checks = agree.compared("tea-tasting", rows, from_sums)
    assert [one.what for one in checks if not one.agrees] == []
    assert max(one.largest for one in checks) < 1e-6


def test_a_comparison_sees_an_effect_that_moved_and_an_estimate_that_ours_lack(small: Path) -> None:
    """A hundredth of a standard error is seen in a plain effect; a missing estimate, and NaN, always."""
    rows = agree.keyed(ours.arithmetic(small)["rows"])
    key = ("m7", "hints", "grade 3", False)

    def apart(place: int, value: float) -> list[str]:
        changed = list(rows[key])
        changed[place] = value
        found = agree.compared("gbstats", rows, {**rows, key: changed})
        return [one.what for one in found if not one.agrees]

    moved = rows[key][agree.ABSOLUTE] + 0.01 * rows[key][agree.SE]
    assert apart(agree.ABSOLUTE, moved) == ["plain: effects, in standard errors"]
    assert apart(agree.SE, float("nan")) == ["plain: standard errors, relative"]
    lacking = {name: row for name, row in rows.items() if name != key}
    found = agree.compared("gbstats", lacking, rows)
    assert [one.what for one in found if not one.agrees] == ["plain: estimates that ours lack"]
    with pytest.raises(ValueError, match="2 rows are of 1 estimates"):
        agree.keyed([rows[key], rows[key]])


def test_clusters_percentiles_and_many_tests_are_held_to_other_means(small: Path) -> None:
    """The checks pass on what is computed, and fail once a number is changed."""
    (row,) = ours.quantile(small)["rows"]
    whole = agree.of_quantile(small, row)
    assert whole[0].agrees
    assert not agree.of_quantile(small, [*row[:4], row[4] * 1.001, *row[5:]])[0].agrees
    assert len(ours.clusters(small)["rows"]) == 20

    question = BatchQuestion(arm="arm", test="test", trials="impressions", successes="clicks")
    answer: dict[str, Any] = answer_of_batch(
        read_table(small / "tests.parquet"), question, "tests.parquet"
    ).as_json()
    assert all(one.agrees for one in agree.of_tests(small, answer))
    wrong = copy.deepcopy(answer)
    wrong["tests"][0]["p_holm"] = 0.5
    wrong["estimates"][0]["ci_lower"] -= 1e-6
    assert sum(not one.agrees for one in agree.of_tests(small, wrong)) == 2


def test_a_process_that_fails_or_takes_too_long_is_told_not_timed() -> None:
    """What ends well has seconds, CPU seconds and a peak."""
    assert run.spent([sys.executable, "-c", "raise ValueError('no such thing')"], 30.0)["failed"] == (
        "ValueError: no such thing"
    )
    slow = run.spent([sys.executable, "-c", "import time; time.sleep(30)"], 0.2)
    assert str(slow["failed"]).startswith("stopped after")
    good = run.spent([sys.executable, "-c", "x = bytearray(50_000_000)"], 30.0)
    assert min(good["seconds"], good["cpu_seconds"]) > 0.0
    assert good["peak_mb"] > 50.0


def test_a_package_that_is_not_installed_is_named_and_ours_still_measured(
    monkeypatch: pytest.MonkeyPatch, small: Path, tmp_path: Path
) -> None:
    """Without the peers' environments their rows say how to get them."""
    monkeypatch.setenv("EXP_BENCH_PEERS", str(tmp_path))
    (arithmetic,) = (one for one in tasks.TASKS if one.name == "arithmetic")
    found = run.measure(arithmetic, small, tmp_path, 1)
    mine, _, peer = found["sides"]
    assert mine["inner_seconds"] > 0.0
    assert "make bench-peers" in peer["failed"]
    facts = {**run.machine(0.002), "date": "2026-11-22", "load": [0.1, 0.1, 0.1]}
    text = page.page(facts, [found])
    assert "| gbstats | not installed: gbstats (make bench-peers) |" in text
    assert "| times faster than gbstats after the sums | at least 20 |  |  | not measured |" in text


def _task_of(name: str, **sides: dict[str, Any]) -> dict[str, Any]:
    base = {"peer": "", "did": "", "peak_mb": 100.0, "cpu_seconds": 1.0, "load_before": 0.0, "runs": 1}
    listed = [
        {**base, "side": side.replace("_", "-"), "checks": [], **given} for side, given in sides.items()
    ]
    return {"task": name, "title": name, "sides": listed}


def test_a_promise_of_the_statistics_counts_only_where_results_agree(tmp_path: Path) -> None:
    """2 s against ten times as long: met; the same with another result: not measured, and told."""
    (promise,) = (one for one in tasks.PROMISES if one.against == ("mozanalysis",))
    fast: dict[str, Any] = {"seconds": 2.0}
    run_ = [_task_of("readout", ours=fast, mozanalysis={"seconds": 20.0, "peer": "mozanalysis"})]
    assert page.value_of(promise, run_) == pytest.approx(10.0)
    assert page.met(promise, page.value_of(promise, run_)) is True
    slower = [_task_of("readout", ours=fast, mozanalysis={"seconds": 19.0, "peer": "mozanalysis"})]
    assert page.met(promise, page.value_of(promise, slower)) is False
    (seconds,) = (one for one in tasks.PROMISES if one.bound == 1.2)
    assert page.met(seconds, page.value_of(seconds, run_)) is False
    check = {"what": "effects", "count": 9, "largest": 1.0, "allowed": 0.1, "why": "", "agrees": False}
    apart = [
        _task_of(
            "readout", ours=fast, mozanalysis={"seconds": 99.0, "peer": "mozanalysis", "checks": [check]}
        )
    ]
    assert page.value_of(promise, apart) is None
    facts = {**run.machine(1.0), "load": [3.0, 3.0, 3.0]}
    text = page.write(tmp_path, facts, apart)
    assert "**different**" in text
    assert "**The machine was busy**" in text
    stored = json.loads((tmp_path / "statistics.json").read_text(encoding="utf-8"))
    assert [one["met"] for one in stored["targets"] if one["target"] == promise.text] == [None]
