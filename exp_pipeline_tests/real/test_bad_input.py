"""Bad input ends in a clear message or a quarantine row, and the other experiments still get their memos."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from exp_pipeline.cli.app import app
from exp_pipeline.model.errors import ExpError, SourceError
from exp_pipeline.model.readout import Readout
from exp_pipeline.simulate.landing import write_landing
from exp_pipeline.simulate.plan import ArmTruth, Faults, SimulatedExperiment, SimulationPlan
from exp_pipeline.steps.assignment import exposure
from exp_pipeline.steps.behaviour import facts, sessions
from exp_pipeline.steps.behaviour import learner_days as behaviour
from exp_pipeline.steps.context import Window, Workbench, event_day
from exp_pipeline.steps.experiments.chain import take_snapshot
from exp_pipeline.steps.ingest import conform as ingest
from exp_pipeline.steps.ingest import landing
from exp_pipeline.store.home import Home
from exp_pipeline.store.landing import received_days
from exp_pipeline_tests.real.places import KEY, SHIPPED, bench_over, exp, memo_of

START = date(2026, 3, 2)
DAYS = 6
SILENT = START + timedelta(days=3)
BAD = START + timedelta(days=1)
EMPTY = START + timedelta(days=DAYS)


def plan() -> SimulationPlan:
    """160 learners, six days, two experiments; in one of them no learner is drawn into the second arm."""
    first, end = START, START + timedelta(days=DAYS)
    return SimulationPlan(
        seed=11,
        start=START,
        days=DAYS,
        schools=2,
        classes_per_school=2,
        learners=160,
        sessions_per_learner_day=0.8,
        midnight_share=0.0,
        faults=Faults(clock_year_ahead=3),
        experiments=(
            SimulatedExperiment(
                name="sound",
                start=first,
                end=end,
                arms=(ArmTruth(name="control", share=0.5), ArmTruth(name="treatment", share=0.5)),
            ),
            SimulatedExperiment(
                name="one-arm-empty",
                start=first,
                end=end,
                arms=(ArmTruth(name="control", share=0.9999), ArmTruth(name="treatment", share=0.0001)),
            ),
        ),
    )


def brief(name: str, **changes: object) -> dict[str, object]:
    """A brief as people write it; `sound` but for its name and the changes."""
    text = "nothing"
    return {
        "name": name,
        "title": name,
        "hypothesis": dict.fromkeys(
            ("change", "population", "context", "moves", "because", "without_harming"), text
        ),
        "owner": "tests",
        "on_call": "tests",
        "arms": [{"name": "control", "share": 0.5}, {"name": "treatment", "share": 0.5}],
        "control": "control",
        "start": START,
        "end": START + timedelta(days=DAYS),
        "primary": "answer_accuracy",
        "mde": {"absolute": 0.1},
        "variance_reduction": {"method": "none"},
        # The silent day took assignments with it whose exposures came on other days.
        "contamination_limit": 0.05,
    } | changes


def write_catalog(root: Path) -> None:
    """The shipped metrics, sources and policies, with briefs of our own (two are broken) and a bad metric."""
    shutil.copytree(SHIPPED, root, ignore=shutil.ignore_patterns("experiments"))
    (root / "experiments").mkdir()
    lopsided = [{"name": "control", "share": 0.9999}, {"name": "treatment", "share": 0.0001}]
    for one in (
        brief("sound"),
        brief("one-arm-empty", arms=lopsided),
        brief("nobody-came"),
        brief("unknown-metric", primary="answer_accurracy"),
        brief("bad-metric", primary="colour_share"),
    ):
        (root / "experiments" / f"{one['name']}.yaml").write_text(yaml.safe_dump(one, sort_keys=False))
    bad = {
        "measures": [
            {"name": "colours", "description": "No such column.", "where": "colour = 'red'"},
        ],
        "metrics": [
            {
                "name": "colour_share",
                "title": "Colour",
                "owner": "tests",
                "definition": "Of a column that no event has.",
                "type": "proportion",
                "numerator": "colours",
                "direction": "increase",
                "kind": "input",
            }
        ],
    }
    (root / "metrics" / "colour.yaml").write_text(yaml.safe_dump(bad, sort_keys=False))


def spoil(folder: Path) -> None:
    """Files beside a day's good one that cannot be used, wholly or in part."""
    lines = "".join(
        json.dumps({"event_id": f"x{place}", "event_name": "hint_requested"}) + "\n" for place in range(400)
    )
    whole = gzip.compress(lines.encode(), mtime=0)
    (folder / "cut.ndjson.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "letter.ndjson").write_text("Dear team,\nthe export is attached.\n")
    (folder / "notes.txt").write_text("for nobody\n")
    (folder / "torn.parquet").write_bytes(b"PAR1 and then nothing")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("bad"))
    home.landing.mkdir()
    write_catalog(home.catalog)
    write_landing(plan(), home.landing)
    spoil(home.landing / f"received_date={BAD}")
    shutil.rmtree(home.landing / f"received_date={SILENT}")
    (home.landing / f"received_date={SILENT}").mkdir()
    return home


@pytest.fixture(scope="module")
def bench(home: Home) -> Iterator[Workbench]:
    with bench_over(home, strict=False) as bench:
        days = received_days(home.landing)
        landing.land_days(bench, days)
        window = Window.of(days[0], days[-1])
        ingest.conform(bench, window)
        behaviour.build_learner_days(bench, window)
        sessions.build_sessions(bench, window)
        exposure.build_assignments(bench, window)
        exposure.build_exposures(bench, window)
        exposure.build_enrollments(bench)
        facts.build_unit_days(bench, window)
        yield bench


def quarantined(bench: Workbench, day: date) -> dict[str, list[tuple[int, int | None]]]:
    """Places (row number, byte offset) of a day's quarantine rows by reason."""
    manifest = bench.lake.manifest("quarantine", event_day(day))
    assert manifest is not None
    found: dict[str, list[tuple[int, int | None]]] = {}
    for path in bench.lake.paths([manifest]):
        frame = pl.read_parquet(path).sort("row_number")
        for reason, row, offset in frame.select("reason", "row_number", "byte_offset").iter_rows():
            found.setdefault(reason, []).append((row, offset))
    return found


def readout(bench: Workbench, experiment: str) -> Readout:
    memo = memo_of(bench, experiment)
    assert experiment in memo.html.read_text()
    return memo.readout


def test_a_truncated_archive_gives_what_it_holds_and_one_row_for_the_rest(bench: Workbench) -> None:
    found = quarantined(bench, BAD)
    ((row, offset),) = found["truncated_gzip"]
    assert offset is not None
    assert 0 < row <= 400
    # Lines before the cut were read; they lack what an event needs, and are refused for that.
    assert len(found["missing:schema_version"]) == row - 1


def test_a_file_that_is_not_json_is_quarantined_line_by_line(bench: Workbench) -> None:
    assert quarantined(bench, BAD)["not_json"] == [(1, 0), (2, 11)]


def test_a_file_that_no_source_claims_is_one_row(bench: Workbench) -> None:
    assert quarantined(bench, BAD)["no_source"] == [(1, None)]
    manifest = bench.lake.manifest("landed", f"received_date={BAD}")
    assert manifest is not None
    assert manifest.facts["files_without_source"] == [f"received_date={BAD}/notes.txt"]


def test_a_file_that_is_not_what_its_source_says_is_one_row_with_the_cause(bench: Workbench) -> None:
    assert quarantined(bench, BAD)["unreadable_file"] == [(1, None)]
    manifest = bench.lake.manifest("landed", f"received_date={BAD}")
    assert manifest is not None
    unreadable = manifest.facts["files_unreadable"]
    assert isinstance(unreadable, dict)
    assert list(unreadable) == [f"received_date={BAD}/torn.parquet"]
    cause = unreadable[f"received_date={BAD}/torn.parquet"]
    assert "No magic bytes" in cause
    assert str(bench.home.root) not in cause


def test_the_good_file_of_that_day_is_read_all_the_same(bench: Workbench) -> None:
    events = bench.lake.manifest("events", event_day(BAD))
    assert events is not None
    assert events.rows > 100


def test_a_silent_day_in_the_middle_is_empty_and_stops_nothing(bench: Workbench) -> None:
    for table in ("events", "quarantine", "exclusions", "learner_days", "sessions", "unit_days"):
        manifest = bench.lake.manifest(table, event_day(SILENT))
        assert manifest is not None
        assert manifest.rows == 0
    after = bench.lake.manifest("unit_days", event_day(SILENT + timedelta(days=1)))
    assert after is not None
    assert after.rows > 0


def test_a_clock_a_year_ahead_is_not_believed(bench: Workbench, home: Home) -> None:
    """The event keeps its place in time by the server's clock, and no day of next year is made."""
    manifests = bench.lake.manifests("events", bench.lake.partitions("events"))
    events = pl.concat([pl.read_parquet(path) for path in bench.lake.paths(manifests)])
    skewed = events.filter(pl.col("client_ts") > pl.col("received_at") + pl.duration(days=300))
    lost = [row for row in landed_ahead(home) if row == SILENT]
    assert skewed.height == len(landed_ahead(home)) - len(lost) > 0
    assert skewed["clock_skewed"].all()
    assert (skewed["occurred_at"] == skewed["received_at"]).all()
    assert max(bench.lake.partitions("events")) < event_day(START + timedelta(days=30))


def landed_ahead(home: Home) -> list[date]:
    """Received days of the raw lines whose client is more than 300 days ahead, read without the pipeline."""
    found = []
    for path in home.landing.rglob("events-*.ndjson.gz"):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            row = json.loads(line)
            client, server = (date.fromisoformat(row[name][:10]) for name in ("client_ts", "received_at"))
            if (client - server).days > 300:
                found.append(server)
    return found


def refused(home: Home, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """What a command says on stderr that stops before it runs anything."""
    for name, value in KEY.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, [*arguments, "--home", str(home.root)])
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def test_an_empty_landing_folder_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Home(tmp_path)
    empty.landing.mkdir()
    write_catalog(empty.catalog)
    assert "nothing has landed" in refused(empty, monkeypatch, "run")
    with bench_over(empty, strict=False) as bench:
        assert landing.land(bench, START).rows == 0
        with pytest.raises(ExpError, match="no unit_days yet"):
            take_snapshot(bench, "sound")


def test_a_metric_that_nobody_declared_is_named_with_its_line_and_the_nearest(bench: Workbench) -> None:
    (problem,) = [one for one in bench.catalog.problems if "unknown-metric" in one.file]
    assert (problem.field, problem.value) == ("primary", "answer_accurracy")
    assert problem.line is not None
    assert "answer_accuracy" in str(problem)
    with pytest.raises(ExpError, match="answer_accurracy"):
        memo_of(bench, "unknown-metric")


def test_a_metric_over_an_unknown_column_takes_its_own_brief_along_and_no_other(bench: Workbench) -> None:
    said = [str(one) for one in bench.catalog.problems if "colour" in one.file]
    assert any("unknown column colour" in text for text in said)
    assert set(bench.catalog.briefs) == {"sound", "one-arm-empty", "nobody-came"}
    with pytest.raises(ExpError, match="bad-metric"):
        memo_of(bench, "bad-metric")


def test_an_experiment_that_nobody_met_gets_a_memo_that_says_so(bench: Workbench) -> None:
    found = readout(bench, "nobody-came")
    assert all(count.assigned == 0 for count in found.counts)
    assert found.decision.outcome == "investigate"
    assert not any(row.estimable for row in found.estimates)


def test_an_empty_arm_gets_a_memo_without_an_effect(bench: Workbench) -> None:
    found = readout(bench, "one-arm-empty")
    counts = {count.arm: count.assigned for count in found.counts}
    assert counts["control"] > 100
    assert counts["treatment"] == 0
    assert not any(row.estimable for row in found.estimates)
    assert found.decision.outcome not in ("ship", "ship_scoped")


def test_the_sound_experiment_still_gets_its_memo(bench: Workbench) -> None:
    found = readout(bench, "sound")
    (row,) = found.estimates
    assert row.estimable
    assert row.n_control + row.n_treatment > 100


def test_a_mapping_that_names_a_missing_column_stops_with_file_source_and_column(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_catalog(home.catalog)
    for path in (home.catalog / "sources").iterdir():
        path.unlink()
    mapped = {
        "name": "quiz",
        "files": "received_date=*/*.csv",
        "format": "csv",
        "columns": {"pupil": "VARCHAR", "mark": "BIGINT"},
        "constants": {"role": "student", "platform": "web", "app_version": "1", "schema_version": "1.0"},
        "fields": {
            "event_id": "pupil || mark",
            "learner_id": "pupil",
            "client_ts": "'2026-03-02T09:00:00Z'",
            "received_at": "'2026-03-02T09:00:00Z'",
        },
        "events": [{"event_name": "hint_requested"}],
    }
    (home.catalog / "sources" / "quiz.yaml").write_text(yaml.safe_dump(mapped))
    folder = home.landing / f"received_date={START}"
    folder.mkdir(parents=True)
    (folder / "quiz.csv").write_text("pupil,points\np1,3\n")
    with bench_over(home, strict=False) as bench, pytest.raises(SourceError) as caught:
        landing.land(bench, START)
    assert all(word in str(caught.value) for word in ("quiz.csv", "source quiz", "mark", "points"))


def test_through_dagster_every_usable_experiment_gets_its_memo(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Home(tmp_path / "whole")
    shutil.copytree(home.catalog, own.catalog)
    shutil.copytree(home.landing, own.landing)
    done = exp(own, "run", "--all")
    pages = {path.stem for path in own.readouts.glob("*.html")}
    memos = {name for name in pages if f"{name}.teachers" in pages}
    assert memos == {"sound", "one-arm-empty", "nobody-came"}, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    said = refused(own, monkeypatch, "run", "--experiment", "unknown-metric")
    assert "answer_accurracy" in said
    assert "did you mean `answer_accuracy`?" in said
