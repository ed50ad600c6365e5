"""The global holdout through the real steps: from raw ids at the door to an effect, an alert and its end."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from html import unescape
from pathlib import Path
from statistics import fmean
from typing import Any

import dagster as dg
import duckdb
import polars as pl
import pytest
from typer.testing import CliRunner

from exp_pipeline.catalog import Catalog
from exp_pipeline.model.after import HoldoutReading
from exp_pipeline.model.decision_log import LoggedDecision
from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.layers import Layer
from exp_pipeline.report.holdout import holdout_line
from exp_pipeline.steps.after import holdout, weekly
from exp_pipeline.steps.again.affected import affected_days
from exp_pipeline.steps.again.catch_up import catch_up
from exp_pipeline.steps.assignment.exposure import build_exposures
from exp_pipeline.steps.behaviour.learner_days import build_learner_days
from exp_pipeline.steps.behaviour.sessions import build_sessions
from exp_pipeline.steps.context import DAY, Window, Workbench, received_day
from exp_pipeline.steps.ingest.conform import conform
from exp_pipeline.steps.ingest.holdout_units import TABLE
from exp_pipeline.steps.ingest.landing import land
from exp_pipeline.steps.opening import open_catalog, workbench
from exp_pipeline.steps.operating.incidents import open_incidents
from exp_pipeline.steps.people.erasure import erase
from exp_pipeline.store.home import Home
from exp_pipeline.store.lake import NewFile
from exp_pipeline.store.state import state_log
from exp_pipeline_tests.steps.conftest import (
    CATALOG,
    SECRET,
    Opened,
    commit_events,
    digests,
    lake_bytes,
    rows_of,
    with_catalog,
)
from exp_pipeline_tests.steps.metric_worlds import MEASURES, METRICS, brief_of

FIRST = date(2026, 3, 2)
MENDED, END = FIRST + DAY * 28, FIRST + DAY * 35
LEARNERS = 160
NOW = datetime(2026, 4, 13, 6, tzinfo=UTC)
STAR = METRICS["mean_answers"].model_copy(update={"name": "answers_given", "kind": "north-star"})
RIGHT = METRICS["accuracy"].model_copy(update={"name": "share_right"})
LAYER = Layer(
    name="everybody", kind="holdout", share=0.2, salt="s1", metrics=("answers_given", "share_right")
)  # fmt: skip
BRIEF = brief_of("shown", ["answers_given"], start=FIRST, end=FIRST + DAY * 14)


def bucket(raw: str, salt: str = "s1") -> int:
    return int(sha256(f"layer={salt}:{raw}".encode()).hexdigest()[:16], 16) % 10_000


def with_holdout(bench: Workbench, *layers: Layer) -> Workbench:
    return with_catalog(
        bench,
        measures=MEASURES,
        metrics={one.name: one for one in (STAR, RIGHT)},
        briefs={BRIEF.name: BRIEF},
        layers={one.name: one for one in layers},
    )


# --- the door ---


def event(number: int, at: datetime, raw: str, **more: Any) -> dict[str, Any]:
    return {
        "event_id": f"e-{number}", "event_name": "hint_requested", "schema_version": "1.0",
        "client_ts": f"{at.isoformat()}Z", "received_at": f"{at.isoformat()}Z", "learner_id": raw,
        "role": "student", "platform": "web", "app_version": "7", **more,
    }  # fmt: skip


def put(bench: Workbench, day: date, events: list[dict[str, Any]]) -> None:
    path = Path(bench.home.landing) / received_day(day) / "events.ndjson"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in events))


def test_the_door_keeps_the_bucket_of_everybody_who_lands_and_no_raw_id(bench: Workbench) -> None:
    classes = Layer(name="rooms", kind="holdout", share=0.1, unit="class", salt="s2")
    own = with_holdout(bench, LAYER, classes)
    raws = [f"pupil-{place:03d}" for place in range(40)]
    for step in range(2):
        at = datetime(2026, 3, 2 + step, 9)
        rows = [
            event(100 * step + place, at, raw, class_id=f"room-{place % 4}") for place, raw in enumerate(raws)
        ]
        # Met twice on a day, and a row that cannot be used: the unit was there all the same.
        rows += [event(100 * step + 50, at, raws[0]), event(100 * step + 51, at, "pupil-999", score="much")]
        put(own, at.date(), rows)
        land(own, at.date())
    assert own.key is not None
    wanted = [
        ("everybody", "sha256-v1:s1", "learner", own.key.pseudonym(raw), bucket(raw), FIRST + DAY * step)
        for step in range(2)
        for raw in (*raws, "pupil-999")
    ] + [
        ("rooms", "sha256-v1:s2", "class", own.key.pseudonym(raw), bucket(raw, "s2"), FIRST + DAY * step)
        for step in range(2)
        for raw in ("room-0", "room-1", "room-2", "room-3")
    ]
    assert sorted(rows_of(own, TABLE)) == sorted(wanted)
    texts = [
        pl.read_parquet(one).select(pl.col(pl.String)).write_csv() for one in own.home.lake.rglob("*.parquet")
    ]
    assert not any("pupil-" in text or "room-" in text for text in texts)

    # Landing again changes no byte, another salt draws anew, and without a holdout nothing is written.
    before = {name: content for name, content in lake_bytes(own.home).items() if name.endswith(".parquet")}
    land(own, FIRST)
    after = {name: content for name, content in lake_bytes(own.home).items() if name.endswith(".parquet")}
    assert after == before
    land(with_holdout(own, LAYER.model_copy(update={"salt": "s9"})), FIRST)
    assert {row[0] for row in rows_of(own, TABLE, "draw")} == {"sha256-v1:s9", "sha256-v1:s1", "sha256-v1:s2"}
    land(with_holdout(own), FIRST + DAY)
    assert own.lake.partitions(TABLE) == (received_day(FIRST), received_day(FIRST + DAY))


def test_an_erased_learner_leaves_the_buckets_too(bench: Workbench) -> None:
    own = with_holdout(bench, LAYER)
    put(own, FIRST, [event(place, datetime(2026, 3, 2, 9), f"pupil-{place}") for place in range(3)])
    land(own, FIRST)
    conform(own, Window.of(FIRST, FIRST))
    assert own.key is not None
    gone = own.key.pseudonym("pupil-1")
    erase(own, ["pupil-1"], "privacy", at=NOW, connect=duckdb.connect)
    kept = [own.key.pseudonym(f"pupil-{place}") for place in (0, 2)]
    assert {row[0] for row in rows_of(own, TABLE, "unit_id")} == set(kept)
    land(own, FIRST)
    assert gone not in {row[0] for row in rows_of(own, TABLE, "unit_id")}


# --- the measurement ---


def is_held(learner: int) -> bool:
    return bucket(f"pupil-{learner:03d}") < 2_000


def enters(learner: int) -> date:
    return FIRST + DAY * (learner % 10)


def answers(learner: int, day: date) -> int:
    """How many answers a learner gives on a day: served learners about 1.5 more, until the lift is over."""
    if day <= enters(learner):
        return int(day == enters(learner))
    told = random.Random(f"{learner}:{day}")
    if told.random() < 0.7:
        return 0
    return 1 + told.randrange(4) + (0 if is_held(learner) or day >= MENDED else told.randrange(4))


def rows_of_day(day: date) -> list[dict[str, object]]:
    at = datetime(day.year, day.month, day.day, 9)
    found = []
    for learner in range(LEARNERS):
        unit = f"{learner + 1:032x}"
        shared: Mapping[str, object] = {
            "learner_key": learner + 1, "learner_id": unit, "event_date": day, "role": "student",
            "platform": "web", "app_version": "1.0", "class_id": f"{learner % 16:032x}",
            "objective_changed": False, "device_handover": False,
        }  # fmt: skip
        rows: list[dict[str, object]] = [
            {
                "event_name": "answer_attempted",
                "correct": random.Random(f"{learner}:{day}:{number}").random() < 0.6,
            }
            for number in range(answers(learner, day))
        ]
        if learner < 20 and day == enters(learner):
            rows.append({
                "event_name": "experiment_exposed", "experiment": "shown", "experiment_version": 1,
                "unit_type": "learner", "unit_id": unit, "arm": "new", "surface": "tutor",
            })  # fmt: skip
        for number, row in enumerate(rows):
            moment = {"occurred_at": at + timedelta(seconds=number), "event_id": f"{day}-{learner}-{number}"}
            found.append({**shared, **row, **moment})
    return found


def commit_units(bench: Workbench, layer: Layer, units: Mapping[str, int], received: date = FIRST) -> None:
    """Buckets of units by pseudonym, as the door keeps them."""
    rows = [(layer.name, layer.draw(), layer.unit, unit, at, received) for unit, at in sorted(units.items())]
    kinds = [pl.String(), pl.String(), pl.String(), pl.String(), pl.Int64(), pl.Date()]
    names = ("layer", "draw", "unit_type", "unit_id", "bucket", "received_date")
    frame = pl.DataFrame(rows, schema=dict(zip(names, kinds, strict=True)), orient="row")
    partition = received_day(received)
    path = bench.lake.staging(TABLE, partition)
    frame.write_parquet(path)
    facts = {"draws": {layer.name: layer.draw()}}
    bench.commit(TABLE, partition, [NewFile(path, "all", frame.height)], time.monotonic(), facts=facts)


def commit_drawn(bench: Workbench, layer: Layer, learners: int = LEARNERS) -> None:
    """The buckets that the layer's own hash gives."""
    commit_units(bench, layer, {f"{one + 1:032x}": bucket(f"pupil-{one:03d}") for one in range(learners)})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> Path:
    """A home with five weeks of learners of whom the served did more for four; to be copied."""
    home = Home(tmp_path_factory.mktemp("held"))
    with (
        duckdb.connect() as connection,
        workbench(
            home, connection, run_id="test", environment={"EXP_HMAC_KEY": SECRET}, catalog=catalog, threads=1
        ) as bench,
    ):
        own, window = with_holdout(bench, LAYER), Window(FIRST, END)
        commit_events(own, {day: rows_of_day(day) for day in window.days()})
        for step in (build_learner_days, build_sessions, build_exposures):
            step(own, window)
        commit_drawn(own, LAYER)
    return home.root


@pytest.fixture
def world(opened: Opened, made: Path, tmp_path: Path) -> Workbench:
    shutil.copytree(made, tmp_path / "home")
    return with_holdout(opened("home"), LAYER)


def mean_of(learners: Iterable[int], first: date, end: date) -> float:
    """Answers of a learner from a day on until before another, by counting."""
    return fmean(sum(answers(one, day) for day in Window(first, end).days()) for one in learners)


def test_what_was_shipped_is_measured_from_the_lake(world: Workbench) -> None:
    (found,) = holdout.measure(world, NOW).measured
    assert (found.week, found.since, found.since_declared, found.end) == ("2026-W14", FIRST, False, END)
    held = [one for one in range(LEARNERS) if is_held(one)]
    served = [one for one in range(LEARNERS) if not is_held(one)]
    assert found.share is not None
    assert (found.share.held_out, found.share.served) == (len(held), len(served))
    assert (found.share.verdict, found.share.unplaced) == ("pass", 0)
    assert [(one.metric, one.window) for one in found.readings] == [
        ("answers_given", "four_weeks"), ("answers_given", "since_start"),
        ("share_right", "four_weeks"), ("share_right", "since_start"),
    ]  # fmt: skip
    for row, first in zip(found.readings[:2], (END - DAY * 28, FIRST), strict=True):
        by_hand = mean_of(served, first, END) - mean_of(held, first, END)
        assert row.effect == pytest.approx(by_hand, abs=1e-9)
        assert (row.n_held_out, row.n_served) == (len(held), len(served))
        assert (row.says, row.alarm) == ("better", False)
        assert row.ci_lower is not None
        assert row.ci_upper is not None
        # On three of ten days 1.5 answers more, while the lift lasts.
        days = fmean((MENDED - max(first, enters(one) + DAY)).days for one in range(LEARNERS))
        assert row.ci_lower < 0.45 * days < row.ci_upper
    # Whether an answer is right has nothing to do with it.
    assert all(not row.alarm for row in found.readings)
    assert found.contaminated == sum(is_held(one) for one in range(20)) > 0
    assert [(one.experiment, one.learners) for one in found.met] == [("shown", found.contaminated)]
    assert open_incidents(state_log(world.home), rule="holdout") == ()

    # Kept by week, and measured again to the same.
    assert holdout.holdout_weeks(world.home, "everybody") == (found,)
    earlier = holdout.measure(world, NOW, week="2026-W13").measured
    assert holdout.holdout_weeks(world.home, "everybody") == (*earlier, found)
    assert holdout.holdouts_of_week(world.home, ["everybody"], "2026-W13") == earlier
    with pytest.raises(ExpError, match="2026-W15 is not over"):
        holdout.measure(world, NOW, week="2026-W15")
    with pytest.raises(ExpError, match="no holdout is called nobody; there are: everybody"):
        holdout.measure(world, NOW, layer="nobody")


def test_harm_opens_an_incident_once_and_recovery_closes_it(world: Workbench) -> None:
    # What is to fall rose: the same data are harm. Measured at the end of the weeks that the lift lasted.
    fewer = STAR.model_copy(update={"direction": "decrease"})
    metrics = {"answers_given": fewer, "share_right": RIGHT}
    before = LAYER.model_copy(update={"until": MENDED})
    own = with_catalog(world, metrics=metrics, layers={"everybody": before})
    (found,) = holdout.measure(own, NOW).measured
    assert {(one.metric, one.window) for one in found.alarms()} == {
        ("answers_given", "four_weeks"),
        ("answers_given", "since_start"),
    }
    log = state_log(own.home)
    opened = open_incidents(log, rule="holdout")
    assert {one.subject for one in opened} == {
        "everybody:answers_given:four_weeks",
        "everybody:answers_given:since_start",
    }
    assert all("to the worse" in one.evidence and one.severity == "warn" for one in opened)
    assert holdout.measure(own, NOW).changed == 0
    # An earlier week is past: it opens nothing and closes nothing.
    assert holdout.measure(own, NOW, week="2026-W11").changed == 0

    after = LAYER.model_copy(update={"since": MENDED})
    mended = holdout.measure(with_catalog(own, layers={"everybody": after}), NOW)
    assert mended.measured[0].since_declared
    assert {row.says for row in mended.measured[0].readings} == {"no_clear_difference"}
    assert mended.changed == 2
    assert open_incidents(log, rule="holdout") == ()


def test_what_is_not_measured_any_more_leaves_no_incident_open(world: Workbench) -> None:
    metrics = {"answers_given": STAR.model_copy(update={"direction": "decrease"}), "share_right": RIGHT}
    own, log = with_catalog(world, metrics=metrics), state_log(world.home)
    holdout.measure(own, NOW)
    assert len(open_incidents(log, rule="holdout")) == 2
    fewer = LAYER.model_copy(update={"metrics": ("share_right",)})
    # A week that is past closes nothing.
    assert holdout.measure(with_catalog(own, layers={"everybody": fewer}), NOW, week="2026-W12").changed == 0
    assert holdout.measure(with_catalog(own, layers={"everybody": fewer}), NOW).changed == 2
    assert open_incidents(log, rule="holdout") == ()


def test_what_cannot_be_measured_says_why(world: Workbench) -> None:
    with pytest.raises(ExpError, match="has no holdout"):
        holdout.measure(with_holdout(world), NOW)
    young = with_holdout(world, LAYER.model_copy(update={"since": END - DAY * 4}))
    (found,) = holdout.measure(young, NOW).measured
    assert found.readings == ()
    assert "no whole week" in found.reason
    redrawn = with_holdout(world, LAYER.model_copy(update={"salt": "s2"}))
    assert "no landed day holds buckets" in holdout.measure(redrawn, NOW).measured[0].reason
    # A measure that the days were not summed up with is not nought.
    changed = MEASURES["answers"].model_copy(update={"where": "correct"})
    other = with_catalog(world, measures={**MEASURES, "answers": changed})
    (row, *_) = holdout.measure(other, NOW).measured[0].readings
    assert row.effect is None
    assert "2026-03-09 was not summed up" in row.reason

    # Nobody held out: what was drawn has no low bucket, and the share says so first.
    commit_units(world, LAYER, {f"{one + 1:032x}": 5_000 for one in range(LEARNERS)})
    (found,) = holdout.measure(world, NOW).measured
    assert found.share is not None
    assert (found.share.held_out, found.share.verdict) == (0, "fail")
    assert {row.reason for row in found.readings} == {holdout.WRONG_SHARE}
    (incident,) = open_incidents(state_log(world.home), rule="holdout")
    assert incident.subject == "everybody:share"
    # Units whose files landed before the holdout was declared have no bucket, and are counted.
    commit_drawn(world, LAYER, learners=120)
    (found,) = holdout.measure(world, NOW).measured
    assert found.share is not None
    assert (found.share.unplaced, found.share.verdict) == (LEARNERS - 120, "pass")
    assert found.share.held_out + found.share.served == 120
    assert open_incidents(state_log(world.home), rule="holdout") == ()


def test_a_holdout_begins_where_its_buckets_do(world: Workbench) -> None:
    for step in range(10):
        day = received_day(FIRST + DAY * step)
        world.lake.commit("landed", day, [], schema_version="1", run_id="test")
    commit_units(world, LAYER, {}, FIRST + DAY * 9)
    (found,) = holdout.measure(world, NOW).measured
    # Days one to eight landed without buckets.
    assert (found.since, found.since_declared) == (FIRST + DAY * 9, False)


def test_classes_are_held_out_with_all_their_learners(world: Workbench) -> None:
    rooms = LAYER.model_copy(update={"unit": "class", "metrics": ()})
    own = with_holdout(world, rooms)
    # Three of sixteen classes; a class is a cluster of ten learners.
    commit_units(own, rooms, {f"{one:032x}": 100 if one < 3 else 3_000 for one in range(16)})
    (found,) = holdout.measure(own, NOW).measured
    assert found.share is not None
    assert (found.share.held_out, found.share.served, found.without_class) == (3, 13, 0)
    assert [one.metric for one in found.readings] == ["answers_given", "answers_given"]
    row = found.readings[1]
    assert (row.clusters_held_out, row.clusters_served) == (3, 13)
    assert (row.n_held_out, row.n_served) == (30, 130)
    held = [one for one in range(LEARNERS) if one % 16 < 3]
    served = [one for one in range(LEARNERS) if one % 16 >= 3]
    by_hand = mean_of(served, FIRST, END) - mean_of(held, FIRST, END)
    assert row.effect == pytest.approx(by_hand, abs=1e-9)


# Dagster's own: it asks itself for the run by a name that it has given up.
@pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run:DeprecationWarning")
def test_page_terminal_and_run_say_the_same(world: Workbench) -> None:
    from exp_pipeline.cli.app import app
    from exp_pipeline.defs.after import holdout_measured
    from exp_pipeline.defs.resources import resources

    # Over sessions: the shipped catalog's measures, which the days of this world were not summed up with.
    root = world.home.root
    class_pacing = CATALOG / "experiments" / "class-pacing.yaml"
    shutil.copytree(CATALOG, root / "catalog")
    exempt = f"{class_pacing.read_text()}\nholdout: exempt\n"
    (root / "catalog" / "experiments" / "class-pacing.yaml").write_text(exempt)
    (root / "catalog" / "layers").mkdir()
    (root / "catalog" / "layers" / "everybody.yaml").write_text(
        "name: everybody\nkind: holdout\nshare: 0.2\nsalt: s1\ntitle: Everybody\nowner: tutors\n"
        "metrics: [minutes_on_task, mastery_loop_completion]\n"
    )
    log = decision("hints", datetime(2026, 3, 20, 9, tzinfo=UTC))
    state_log(world.home).append(
        "decision", "hints", key="1", at=log.at.isoformat(), content=log.model_dump(mode="json")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXP_HOME", str(root))
        patch.setenv("EXP_HMAC_KEY", SECRET)
        told = CliRunner().invoke(app, ["holdout", "--home", str(root)])
        assert told.exit_code == 0, told.output
        asked = CliRunner().invoke(app, ["holdout", "everybody", "--json", "--home", str(root)])
        (found,) = json.loads(asked.stdout)
        with dg.instance_for_test() as instance:
            run = dg.materialize([holdout_measured], instance=instance, resources=resources())
            (made,) = run.asset_materializations_for_node("measure_holdout")
        refused = CliRunner().invoke(app, ["holdout", "nobody", "--home", str(root)])
    assert (refused.exit_code, "there are: everybody" in refused.stderr) == (2, True)
    minutes = found["readings"][0]
    assert minutes["says"] == "better"
    assert made.metadata["effect"].value == minutes["effect"]
    assert made.metadata["ci_lower"].value == minutes["ci_lower"]
    table = str(made.metadata["readings"].value)
    page = weekly.write_weekly(replace(world, catalog=open_catalog(root / "catalog", strict=True)), NOW).html
    held = sum(map(is_held, range(LEARNERS)))
    facts = [
        f"{held} of {LEARNERS} learners are held out ({100 * held / LEARNERS:.2f} %, declared 20.00 %).",
        f"{found['contaminated']} learners who are held out met an experiment all the same",
        "Decided to ship from 2026-03-02 to 2026-04-05: hints (2026-03-20).",
        holdout_line(HoldoutReading.model_validate(minutes)).effect,
        "was not summed up with the metric",
    ]
    for text in (" ".join(told.stdout.split()), table, unescape(page.read_text())):
        for fact in facts:
            assert fact in text
    assert "Everything shipped, together" in page.read_text()


def decision(experiment: str, at: datetime) -> LoggedDecision:
    return LoggedDecision(
        kind="decided", experiment=experiment, snapshot="s", as_of=at.date(), at=at, outcome="ship",
        arm="new", by="owners", because="it helps", planned=True, effects_hidden=False, brief_digest="b",
        code_version="1", memo="m",
    )  # fmt: skip


def test_a_holdout_declared_late_has_its_days_landed_again_and_nothing_else(bench: Workbench) -> None:
    before = with_holdout(bench)
    put(before, FIRST, [event(place, datetime(2026, 3, 2, 9), f"pupil-{place}") for place in range(3)])
    catch_up(before)
    assert not affected_days(before)
    declared = with_holdout(before, LAYER)
    found = affected_days(declared).found
    assert [(one.table, one.why) for one in found] == [("landed", "definition")]
    events = digests(before, "events")
    catch_up(declared)
    assert len(rows_of(declared, TABLE)) == 3
    assert digests(declared, "events") == events
    assert not affected_days(declared)
    # How it is measured is no reason to land anything.
    measured = LAYER.model_copy(update={"metrics": (), "since": FIRST, "share": 0.3})
    assert not affected_days(with_holdout(declared, measured))
