"""Readouts whose inputs changed are marked, and a readout made again says what moved and why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from exp_pipeline.analysis.deciding.movement import changed_inputs, movements
from exp_pipeline.cli.app import app
from exp_pipeline.model.readout import InputChange, SinceLast
from exp_pipeline.report import render_memo
from exp_pipeline.steps.again.catch_up import catch_up
from exp_pipeline.steps.again.staleness import stale_readouts, staleness
from exp_pipeline.steps.context import DAY, Workbench
from exp_pipeline.steps.experiments.chain import take_snapshot
from exp_pipeline.steps.experiments.readouts import StaleReadouts, mark_stale, readout_of, write_memo
from exp_pipeline_tests.report.sample_two_arms import two_arms
from exp_pipeline_tests.report.samples import blinded
from exp_pipeline_tests.steps import late_worlds as late
from exp_pipeline_tests.steps.conftest import CATALOG, with_catalog
from exp_pipeline_tests.steps.late_worlds import START, moved, put, written

NAME = "hint-ladder"


@pytest.fixture
def files(late_files: late.Files) -> late.Files:
    return late_files


def late_answers(bench: Workbench, files: late.Files) -> dict[str, bytes]:
    """A file with further answers of every learner on the experiment's second day."""
    day = START + DAY * 2
    answers = [
        one for one in late.events_of(files)
        if one["event_name"] == "answer_attempted" and one["client_ts"][:10] == f"{day}"
    ]  # fmt: skip
    assert answers
    more = [
        moved(
            one,
            event_id=f"late-{one['event_id']}",
            client_ts=late.at(one["client_ts"]) + timedelta(seconds=1),
        )
        for one in answers
    ]
    return {f"received_date={day}/late.ndjson": written(more)}


def test_a_fresh_readout_is_not_stale(read_out: Workbench) -> None:
    found = staleness(read_out, NAME)
    assert found is not None
    assert found.changes == ()
    assert found.newer_days == 0
    assert stale_readouts(read_out) == mark_stale(read_out).found == ()
    assert readout_of(read_out, NAME).since_last is None
    assert "tale" not in (read_out.home.readouts / "index.html").read_text()


def test_late_data_mark_it_until_it_is_made_again(read_out: Workbench, files: late.Files) -> None:
    day = START + DAY * 2
    first = readout_of(read_out, NAME)
    put(read_out, late_answers(read_out, files))
    assert stale_readouts(read_out) == ()
    catch_up(read_out)
    (found,) = stale_readouts(read_out)
    (change,) = found.changes
    assert (change.why, change.days) == ("late data", (day,))
    assert {"events", "unit_days", "learner_days"} <= set(change.tables)
    marked = mark_stale(read_out)
    assert marked.found == marked.new == (found,)
    assert mark_stale(read_out) == StaleReadouts((found,), ())
    for name in (f"{NAME}.html", f"{NAME}.md"):
        page = (read_out.home.readouts / name).read_text()
        assert page.index("This readout is stale") < page.index("Decision asked")
    for name in (f"{NAME}.html", f"{NAME}.md", "index.html"):
        assert "stale" in (read_out.home.readouts / name).read_text().lower()
    shutil.copytree(CATALOG, read_out.home.catalog)
    told = CliRunner().invoke(app, ["readout", NAME, "--home", str(read_out.home.root)])
    assert (told.exit_code, "This readout is stale" in told.stderr) == (0, True)
    assert "This readout is stale" not in told.stdout
    before = pl.read_parquet(Path(take_folder(read_out, first.provenance.snapshot)) / "mad.parquet")
    snapshot = take_snapshot(read_out, NAME)
    assert snapshot.made_now
    assert not before.equals(pl.read_parquet(snapshot.folder / "mad.parquet"))
    memo = write_memo(read_out, NAME)
    assert memo.stale == ""
    again = memo.readout
    assert stale_readouts(read_out) == ()
    assert again.since_last is not None
    assert again.since_last.snapshot == first.provenance.snapshot
    assert again.since_last.inputs == (change,)
    shown = {(one.metric, one.arm): one for one in again.since_last.movements}
    old = {(one.metric, one.arm): one for one in first.estimates if one.segment is None}
    new = {(one.metric, one.arm): one for one in again.estimates if one.segment is None}
    assert shown
    for key, movement in shown.items():
        a, b = old[key].absolute, new[key].absolute
        assert movement.moved == (None if a is None or b is None else b - a)
    roles = {one.role for one in shown.values()}
    assert roles == ({"guardrail"} if first.blinded or again.blinded else {"guardrail", "primary"})
    tables = {table["key"]: table for table in json.loads(memo.json.read_text())["appendix"]}
    assert next(row["of"]["text"].split(";")[0] for row in tables["since_last"]["rows"]) == f"{day}"
    # The same again: nothing moves, and no byte changes.
    once = memo.json.read_bytes()
    take_snapshot(read_out, NAME)
    assert write_memo(read_out, NAME).json.read_bytes() == once


def take_folder(bench: Workbench, snapshot: str) -> Path:
    from exp_pipeline.store.marts import Marts

    return Marts(bench.home.marts).folder(NAME, snapshot)


def test_a_correction_is_named(read_out: Workbench, files: late.Files) -> None:
    hint = next(
        one for one in late.events_of(files)
        if one["event_name"] == "hint_requested" and one["client_ts"][:10] >= f"{START + DAY}"
    )  # fmt: skip
    day = date.fromisoformat(hint["client_ts"][:10])
    other = 1 + int(hint["hint_level"]) % 3
    fixed = moved(hint, hint_level=other, received_at=late.at(hint["received_at"]) + timedelta(hours=1))
    put(read_out, {f"received_date={START + DAY * 2}/correction-1.ndjson": written([fixed])})
    catch_up(read_out)
    (found,) = stale_readouts(read_out)
    assert [(one.why, one.days) for one in found.changes] == [("correction", (day,))]


def test_a_changed_brief_makes_stale_and_later_days_do_not(read_out: Workbench) -> None:
    brief = read_out.catalog.briefs[NAME]
    other = with_catalog(read_out, briefs={NAME: brief.model_copy(update={"srm_alpha": 0.002})})
    (found,) = stale_readouts(other)
    assert [one.why for one in found.changes] == ["brief"]
    assert "brief" in found.sentence()


def inputs(**tables: dict[str, str]) -> dict[str, object]:
    return {
        "as_of": "2026-03-04", "brief": "b", "metrics": "m", "code": "c",
        "tables": {
            name: {f"event_date={day}": digest for day, digest in days.items()}
            for name, days in tables.items()
        },
    }  # fmt: skip


def test_why_inputs_differ() -> None:
    old = inputs(
        events={"2026-03-03": "1", "2026-03-04": "1"}, sessions={"2026-03-03": "1", "2026-03-04": "1"},
        learner_days={"2026-03-01": "1"},
    )  # fmt: skip
    new = inputs(
        events={"2026-03-03": "2", "2026-03-04": "1", "2026-03-05": "1"},
        sessions={"2026-03-03": "1", "2026-03-04": "2"},
        learner_days={"2026-03-01": "2"},
    )
    third, fourth, fifth, first = (date(2026, 3, day) for day in (3, 4, 5, 1))
    assert changed_inputs(old, new) == (
        InputChange(why="late data", tables=("events", "learner_days"), days=(first, third)),
        InputChange(why="made anew", tables=("sessions",), days=(fourth,)),
        InputChange(why="new days", tables=("events",), days=(fifth,)),
    )
    assert changed_inputs(old, new, corrected={third})[1].why == "correction"
    assert changed_inputs(old, {**old, "code": "d"}) == (InputChange(why="code"),)


def test_movements_count_in_old_standard_errors_and_keep_to_what_may_be_seen() -> None:
    sample = two_arms()
    guarded = tuple(
        one.model_copy(update={"role": "guardrail"}) if one.role == "secondary" else one
        for one in sample.estimates
    )
    before = sample.model_copy(update={"estimates": guarded})
    rows = tuple(
        one.model_copy(update={"absolute": one.absolute + 1.5 * one.se, "se": 3 * one.se})
        if one.absolute is not None and one.se is not None
        else one
        for one in before.estimates
    )
    now = before.model_copy(update={"estimates": rows})
    found = movements(before, now)
    assert {one.role for one in found} == {"primary", "guardrail"}
    assert all(one.in_old_errors == pytest.approx(1.5) for one in found if one.moved is not None)
    assert {one.role for one in movements(before, now.model_copy(update={"blinded": True}))} == {"guardrail"}
    assert {one.role for one in movements(before.model_copy(update={"blinded": True}), now)} == {"guardrail"}


@pytest.mark.parametrize("make", [two_arms, blinded])
def test_the_memo_shows_them_in_one_table(make: Callable[[], object]) -> None:
    readout = two_arms()
    since = SinceLast(
        snapshot="0123456789abcdef", as_of=date(2026, 3, 4),
        inputs=(InputChange(why="late data", tables=("events",), days=(date(2026, 3, 3), date(2026, 3, 4))),),
        movements=movements(readout, readout),
    )  # fmt: skip
    shown = make()
    memo = render_memo(shown.model_copy(update={"since_last": since}))  # type: ignore[attr-defined]
    tables = {table["key"]: table for table in json.loads(memo.json)["appendix"]}
    (table,) = [tables["since_last"]]
    assert "2026-03-03 to 2026-03-04" in json.dumps(table)
    told = json.dumps(table)
    assert ('"primary"' in told) == (make is two_arms)
    assert "Since the last readout" in memo.html
    assert "Since the last readout" in memo.markdown
