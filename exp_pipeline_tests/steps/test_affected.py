"""Late data: exactly the days that it touches are made again, and the lake is that of one pass over all."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from exp_pipeline.catalog import Catalog
from exp_pipeline.steps.again.affected import affected_days
from exp_pipeline.steps.again.catch_up import catch_up, pieces_of, runner
from exp_pipeline.steps.context import DAY, Window, Workbench, event_day
from exp_pipeline_tests.steps import late_worlds as late
from exp_pipeline_tests.steps.conftest import Opened, rows_of, with_catalog
from exp_pipeline_tests.steps.late_worlds import START, contents, moved, put, written


@pytest.fixture
def world(opened: Opened, catalog: Catalog) -> Callable[[str], Workbench]:
    """An empty home with the catalog of late data."""
    mine = late.late_catalog(catalog)
    return lambda name: replace(opened(name), catalog=mine)


@pytest.fixture
def settled(read_out: Workbench) -> Workbench:
    """A home in which the log's plain files have landed and everything has been made."""
    return read_out


def changed_between(before: Mapping[str, tuple[str, object]], bench: Workbench) -> set[str]:
    after = contents(bench)
    return {name for name in after if name not in before or after[name][0] != before[name][0]}


@pytest.mark.parametrize("seed", [2])
def test_any_order_of_landing_with_catch_ups_gives_the_bytes_of_one_pass(
    world: Callable[[str], Workbench], late_files: late.Files, seed: int
) -> None:
    order = random.Random(seed)
    names = order.sample(sorted(late_files), len(late_files))
    bench = world("by-and-by")
    cuts = sorted(order.sample(range(1, len(names)), 2))
    for first, last in zip((0, *cuts), (*cuts, len(names)), strict=True):
        put(bench, {name: late_files[name] for name in names[first:last]})
        done = catch_up(bench)
        assert done.left == ()
        assert done.held_back == ()
    assert not affected_days(bench)
    assert catch_up(bench).made == ()
    whole = world("whole")
    put(whole, late_files)
    late.run_over_everything(whole)
    once, by_and_by = contents(whole), contents(bench)
    assert sorted(name for name in once if by_and_by.get(name) != once[name]) == []
    assert sorted(by_and_by) == sorted(once)
    assert not affected_days(whole)
    reasons = {row[0] for row in rows_of(whole, "quarantine", "reason")}
    assert {"too_late", "corrected", "conflicting_duplicate"} <= reasons


def test_a_file_of_one_day_touches_that_day_and_what_follows(
    settled: Workbench, late_files: late.Files
) -> None:
    before = contents(settled)
    hint = next(
        one for one in late.events_of(late_files) if one["event_name"] == "hint_requested"
        and one["client_ts"][:10] == f"{START + DAY}"
    )  # fmt: skip
    new = moved(hint, event_id="new-1", client_ts=late.at(hint["client_ts"]) + timedelta(seconds=1))
    put(settled, {f"received_date={START + DAY * 2}/new.ndjson": written([new])})
    assert [(one.table, one.partition, one.why) for one in affected_days(settled).found] == [
        ("landed", f"received_date={START + DAY * 2}", "new files")
    ]
    runner(settled)(("landed",), Window.of(START + DAY * 2, START + DAY * 2))
    found = affected_days(settled)
    assert {(one.table, one.day, one.why) for one in found.found} == {
        (table, START + DAY, "late events") for table in ("events", "quarantine", "exclusions")
    }
    (piece,) = pieces_of(found)
    assert piece.window == Window.of(START + DAY, START + DAY)
    done = catch_up(settled)
    assert {f"{one.table}/{one.partition}" for one in done.made if one.changed} == {
        name for name in changed_between(before, settled) if not name.startswith("landed/")
    }
    assert done.changed("events") == (event_day(START + DAY),)
    days = {
        table: {one.partition for one in done.made if one.table == table} for table in before_tables(before)
    }
    around = {event_day(START + DAY * step) for step in (0, 1, 2)}
    assert days["learner_days"] == days["assignments"] == days["exposures"] == {event_day(START + DAY)}
    assert days["sessions"] <= around
    # A neighbour whose sessions came out as they were is followed by nothing.
    assert days["unit_days"] == {event_day(START + DAY), *done.changed("sessions")}
    # Verdicts look at all days so far, so those of later days follow, and no earlier one.
    assert event_day(START) not in days["guardrails_daily"]
    assert not affected_days(settled)


def before_tables(before: Mapping[str, object]) -> set[str]:
    return {name.split("/")[0] for name in before}


def test_a_file_that_comes_again_is_followed_by_nothing(settled: Workbench, late_files: late.Files) -> None:
    before = contents(settled)
    put(
        settled,
        {f"received_date={START + DAY}/copy.ndjson": late_files[f"received_date={START}/part-1.ndjson"]},
    )
    assert not affected_days(settled)
    put(settled, {f"received_date={START}/copy.ndjson": late_files[f"received_date={START}/part-1.ndjson"]})
    assert catch_up(settled).made == ()
    assert contents(settled) == before


def test_a_copy_under_another_day_touches_both(settled: Workbench, late_files: late.Files) -> None:
    copies = f"received_date={START + DAY * 2}/copies.ndjson"
    put(settled, {copies: late_files[copies]})
    runner(settled)(("landed",), Window.of(START + DAY * 2, START + DAY * 2))
    found = affected_days(settled)
    held = {one["event_id"] for one in late.parsed(late_files[copies])}
    own = {row[0] for row in rows_of(settled, "landed", "event_date, event_id") if row[1] in held}
    whys = {one.day: one.why for one in found.found if one.table == "events"}
    assert set(whys) == own
    assert "copies" in whys.values()
    # Where too much changed to look into, every day around counts as touched.
    unseen = affected_days(settled, tables=("events",), judge_rows=0)
    assert len(unseen.found) > len(whys) or set(whys) == {START + DAY * n for n in range(3)}
    catch_up(settled)
    assert not affected_days(settled)


def test_corrections_are_named_as_such(settled: Workbench, late_files: late.Files) -> None:
    name = f"received_date={START + DAY * 2}/correction-1.ndjson"
    put(settled, {name: late_files[name]})
    runner(settled)(("landed",), Window.of(START + DAY * 2, START + DAY * 2))
    found = affected_days(settled)
    assert {one.why for one in found.found if one.table == "events"} == {"correction"}
    assert any("a correction" in line for line in found.sentences())


def test_a_setting_touches_the_tables_that_depend_on_it(settled: Workbench) -> None:
    policies = settled.catalog.policies
    session = policies.session.model_copy(update={"gap_minutes": 20})
    other = with_catalog(settled, policies=policies.model_copy(update={"session": session}))
    found = affected_days(other)
    assert {one.table for one in found.found} == {"sessions"}
    assert {one.why for one in found.found} == {"definition"}
    assert found.partitions("sessions") == other.lake.partitions("events")


def test_nothing_is_read_again_where_files_that_were_read_have_gone(settled: Workbench) -> None:
    folder = settled.home.landing / f"received_date={START}"
    (folder / "part-0.ndjson").unlink()
    assert not affected_days(settled)
    (folder / "new.ndjson").write_bytes(b"{}\n")
    before = contents(settled)
    done = catch_up(settled)
    assert done.made == ()
    assert "part-0.ndjson" in done.held_back[0]
    assert contents(settled) == before


def test_a_lake_of_an_earlier_version_is_made_again_once(settled: Workbench) -> None:
    manifest = settled.lake.manifest("turns", event_day(START))
    assert manifest is not None
    assert settled.lake.confirm(manifest, {})
    (one,) = affected_days(settled).found
    assert (one.table, one.why) == ("turns", "not recorded")
    (made,) = catch_up(settled).made
    assert not made.changed
    assert not affected_days(settled)


def test_a_missing_partition_is_made(settled: Workbench) -> None:
    before = contents(settled)
    shutil.rmtree(settled.home.lake / "learner_days" / event_day(START + DAY))
    found = affected_days(settled)
    assert [(one.table, one.why) for one in found.found] == [
        ("learner_days", "not made yet"), ("unit_days", "inputs"),
    ]  # fmt: skip
    assert {one.table for one in catch_up(settled).made} == {"learner_days"}
    assert contents(settled) == before


def test_a_file_that_is_written_again_in_place_is_noticed(settled: Workbench) -> None:
    assert not affected_days(settled)
    path = settled.home.landing / f"received_date={START}" / "part-0.ndjson"
    path.write_bytes(path.read_bytes().replace(b"hint_requested", b"hint_requesteD"))
    found = affected_days(settled)
    assert not found
    assert "part-0.ndjson" in found.held_back[0]
