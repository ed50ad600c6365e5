"""Ramps over a home: stages by themselves, kill rules, people, incidents, locks, what fidelity knows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exp_pipeline.analysis.ramps.flagd import flagd_flag
from exp_pipeline.analysis.ramps.flags import flag_of
from exp_pipeline.analysis.ramps.growthbook import growthbook_feature
from exp_pipeline.catalog import Catalog
from exp_pipeline.model.brief import Brief, RampStage
from exp_pipeline.model.decision_log import LoggedDecision
from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.incidents import Finding
from exp_pipeline.model.layers import Limits
from exp_pipeline.model.ramps import SCHEDULE, folded
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.locking import locked_of
from exp_pipeline.steps.experiments.planning import check_readiness
from exp_pipeline.steps.operating import flags, ramps
from exp_pipeline.steps.operating.incidents import open_incidents, record_findings
from exp_pipeline.steps.operating.life import life
from exp_pipeline.steps.operating.ramp_log import entries_of
from exp_pipeline.store.state import state_log
from exp_pipeline_tests.analysis.builders import START
from exp_pipeline_tests.steps.ramp_worlds import DAY, bench_over, judge_days, make_ready, moment, ramped

BRIEF = ramped()
TEAM: dict[str, Any] = {"by": "tutor-platform", "reason": "seen on the board"}


@pytest.fixture(scope="module")
def good_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that is ready to start, with good days from the day before the start to the fourth after it."""
    root = tmp_path_factory.mktemp("good")
    with bench_over(root, [BRIEF]) as found:
        judge_days(found, [BRIEF], START - DAY, START + 4 * DAY)
        make_ready(found, BRIEF, START - DAY)
    return root


@pytest.fixture
def bench(good_days: Path, tmp_path: Path) -> Iterator[Workbench]:
    shutil.copytree(good_days, tmp_path, dirs_exist_ok=True)
    with bench_over(tmp_path, [BRIEF]) as found:
        yield found


def states(bench: Workbench) -> list[tuple[str, int, float]]:
    return [(one.action, one.stage, one.traffic) for one in entries_of(state_log(bench.home), BRIEF)]


def run(bench: Workbench, first: int, last: int) -> None:
    """Ticks every six hours of these days."""
    for day in range(first, last + 1):
        for hour in (0, 6, 12, 18):
            ramps.tick(bench, moment(day, hour))


def test_stages_come_by_themselves_and_the_brief_is_locked_at_the_start(bench: Workbench) -> None:
    assert locked_of(bench.home, BRIEF) is None
    run(bench, -1, 4)
    assert states(bench) == [
        ("advance", 1, 0.01),
        ("advance", 2, 0.05),
        ("advance", 3, 0.25),
        ("advance", 4, 0.5),
    ]
    entries = entries_of(state_log(bench.home), BRIEF)
    # The first day of a stage has to be judged, which is known on the day after.
    assert [entry.at for entry in entries] == [moment(day, 0) for day in (0, 1, 2, 3)]
    locked = locked_of(bench.home, BRIEF)
    assert locked is not None
    assert locked.locked_at == moment(0, 0)
    assert locked.data_through == START - DAY
    found = life(bench, BRIEF, moment(4))
    assert [(step.state, step.stage) for step in found.steps[-4:]] == [
        ("ramping", 1),
        ("ramping", 2),
        ("ramping", 3),
        ("running", None),
    ]
    assert found.next is not None
    assert found.next.kind == "horizon"


@pytest.mark.parametrize(("metric", "action"), [("waiting", "roll_back"), ("giveaway", "pause")])
def test_a_kill_rule_stops_the_ramp_at_the_next_tick_and_wakes_somebody(
    bench: Workbench, metric: str, action: str
) -> None:
    run(bench, 0, 1)
    judge_days(bench, [BRIEF], START + DAY, START + DAY, killed={(START + DAY, metric): BRIEF.name})
    run(bench, 2, 2)
    assert states(bench)[-1] == (action, 2, 0.0)
    assert entries_of(state_log(bench.home), BRIEF)[-1].by == SCHEDULE
    (incident,) = [one for one in open_incidents(state_log(bench.home)) if one.rule == "ramp"]
    assert (incident.subject, incident.severity, incident.owner) == (BRIEF.name, "page", BRIEF.on_call)
    assert metric in incident.evidence
    before = len(state_log(bench.home).entries("findings"))
    run(bench, 3, 4)
    assert states(bench)[-1] == (action, 2, 0.0)
    assert len(state_log(bench.home).entries("findings")) == before
    if action == "pause":
        # The third day is good again, but the people's word counts from what was known when they gave it.
        ramps.resume(bench, BRIEF.name, **TEAM, now=moment(4, 20))
        assert states(bench)[-1] == ("resume", 2, 0.05)
        assert not [one for one in open_incidents(state_log(bench.home)) if one.rule == "ramp"]
    else:
        with pytest.raises(ExpError, match="cannot be resumed: it is rolled back"):
            ramps.resume(bench, BRIEF.name, **TEAM, now=moment(4, 20))
        ramps.close(bench, BRIEF.name, **TEAM, now=moment(4, 20))
        assert not [one for one in open_incidents(state_log(bench.home)) if one.rule == "ramp"]
        assert life(bench, BRIEF, moment(5)).now.state == "closed"


def test_a_resume_is_not_undone_by_days_that_were_known(bench: Workbench) -> None:
    run(bench, 0, 1)
    harm = {(START + day * DAY, "giveaway"): BRIEF.name for day in (1, 2, 3)}
    judge_days(bench, [BRIEF], START + DAY, START + DAY, killed=harm)
    run(bench, 2, 2)
    ramps.resume(bench, BRIEF.name, **TEAM, now=moment(2, 20))
    ramps.tick(bench, moment(2, 23))
    assert states(bench)[-1] == ("resume", 2, 0.05)
    judge_days(bench, [BRIEF], START + 2 * DAY, START + 2 * DAY, killed=harm)
    ramps.tick(bench, moment(3, 0))
    assert states(bench)[-1] == ("pause", 2, 0.0)


def test_people_pause_resume_and_roll_back_and_say_why(bench: Workbench) -> None:
    with pytest.raises(ExpError, match="cannot be paused: it is not started"):
        ramps.pause(bench, BRIEF.name, **TEAM, now=moment(0))
    run(bench, 0, 0)
    ramps.pause(bench, BRIEF.name, **TEAM, now=moment(0, 19))
    assert life(bench, BRIEF, moment(0, 20)).now.state == "paused"
    run(bench, 1, 2)
    assert states(bench)[-1] == ("pause", 1, 0.0)
    ramps.resume(bench, BRIEF.name, **TEAM, now=moment(2, 19))
    ramps.tick(bench, moment(3, 0))
    assert states(bench)[-1] == ("resume", 1, 0.01)
    run(bench, 3, 3)
    # The stay is counted anew from the resume.
    assert entries_of(state_log(bench.home), BRIEF)[-1].at == moment(2, 19)
    run(bench, 4, 4)
    assert states(bench)[-1] == ("advance", 2, 0.05)
    for empty in ({"by": " ", "reason": "x"}, {"by": "x", "reason": ""}):
        with pytest.raises(ValueError, match="is empty"):
            ramps.roll_back(bench, BRIEF.name, **empty, now=moment(4, 20))
    entry = ramps.roll_back(bench, BRIEF.name, **TEAM, now=moment(4, 20))
    assert (entry.by, entry.reasons) == ("tutor-platform", ("seen on the board",))
    # What people stop themselves wakes nobody.
    assert not open_incidents(state_log(bench.home))


@pytest.mark.parametrize("rule", ["data_quality", "conservation", "contract", "freshness", "srm"])
def test_open_incidents_of_the_data_hold_the_ramp(bench: Workbench, rule: str) -> None:
    run(bench, 0, 0)
    finding = Finding.model_validate(
        {
            "rule": rule,
            "subject": "volume:web",
            "day": START,
            "verdict": "fail",
            "evidence": "down",
            "owner": "us",
        }
    )
    record_findings(state_log(bench.home), [finding], moment(0, 20))
    run(bench, 1, 1)
    held = rule != "srm"
    assert states(bench)[-1] == (("advance", 1, 0.01) if held else ("advance", 2, 0.05))
    (judged,) = ramps.tick(bench, moment(1, 20))
    assert any("volume:web" in reason for reason in judged.decision.reasons) == held


def test_an_approval_is_of_one_stage_and_noted_once(good_days: Path, tmp_path: Path) -> None:
    shutil.copytree(good_days, tmp_path, dirs_exist_ok=True)
    stages = tuple(
        stage.model_copy(update={"approval": place == 1}) for place, stage in enumerate(BRIEF.ramp)
    )
    brief = ramped(ramp=stages)
    with bench_over(tmp_path, [brief]) as bench:
        make_ready(bench, brief, START - DAY)
        run(bench, 0, 3)
        assert [one.stage for one in entries_of(state_log(bench.home), brief)] == [1]
        with pytest.raises(ValueError, match="stage 5 is not among those"):
            ramps.approve(bench, brief.name, stage=5, **TEAM, now=moment(3))
        with pytest.raises(ValueError, match="asks for no A/A result"):
            ramps.approve(bench, brief.name, stage=0, **TEAM, now=moment(3))
        assert ramps.approve(bench, brief.name, stage=2, **TEAM, now=moment(3, 20))
        assert not ramps.approve(bench, brief.name, stage=2, **TEAM, now=moment(3, 21))
        ramps.tick(bench, moment(3, 22))
        assert [one.stage for one in entries_of(state_log(bench.home), brief)] == [1, 2]


def test_readiness_knows_an_approved_a_a_result_of_its_own_version(catalog: Catalog, tmp_path: Path) -> None:
    brief = catalog.briefs["hint-ladder"].model_copy(update={"new_logging": True})
    known = {"metrics": catalog.metrics, "measures": catalog.measures}

    def asked(of: Brief) -> list[str]:
        with bench_over(tmp_path, [of], **known) as bench:
            return [gap.remedy for gap in check_readiness(bench, of.name).gaps if gap.field == "new_logging"]

    (remedy,) = asked(brief)
    assert f"exp ramp approve {brief.name} --aa" in remedy
    with bench_over(tmp_path, [brief]) as bench:
        assert ramps.approve(bench, brief.name, stage=0, **TEAM, now=moment(-1))
    assert asked(brief) == []
    assert asked(brief.model_copy(update={"version": 2})) == [remedy]


def test_a_changed_arm_and_an_earlier_version_that_is_on_hold_it(bench: Workbench, tmp_path: Path) -> None:
    run(bench, 0, 0)
    other = ramped(control="treatment")
    with bench_over(tmp_path, [other]) as changed:
        (judged,) = ramps.tick(changed, moment(1))
        assert judged.decision.reasons == ("control is not as it was locked: give the brief a new version",)
    second = ramped(version=2)
    with bench_over(tmp_path, [second]) as again:
        make_ready(again, second, START)
        (judged,) = ramps.tick(again, moment(1))
        assert judged.decision.reasons == ("version 1 is on: close it first",)


def test_nothing_starts_before_it_is_ready_and_the_log_of_a_ramp_is_its_own(bench: Workbench) -> None:
    assert folded(entries_of(state_log(bench.home), ramped("another"))).status == "not_started"
    with pytest.raises(ValueError, match="time zone"):
        ramps.tick(bench, moment(0).replace(tzinfo=None))


def decide(bench: Workbench, outcome: str, **changes: object) -> None:
    """Log what people decided, as `exp decide` does on a readout."""
    fields = {
        "kind": "decided",
        "experiment": BRIEF.name,
        "snapshot": "s",
        "as_of": START,
        "at": moment(3, 19),
        "outcome": outcome,
        "by": "council",
        "because": "fine",
        "planned": True,
        "effects_hidden": False,
        "brief_digest": BRIEF.digest(),
        "code_version": "test",
        "memo": "readouts/memo.html",
    }
    row = LoggedDecision.model_validate(fields | changes)
    content = row.model_dump(mode="json")
    state_log(bench.home).append(
        "decision", BRIEF.name, key=row.digest(), at=row.at.isoformat(), content=content
    )


def test_an_arm_is_shipped_by_its_own_stages_after_a_decision(good_days: Path, tmp_path: Path) -> None:
    shutil.copytree(good_days, tmp_path, dirs_exist_ok=True)
    rollout = (RampStage(traffic=0.3, dwell_days=1), RampStage(traffic=1.0, dwell_days=0))
    brief = ramped(rollout=rollout)
    with bench_over(tmp_path, [brief]) as bench:
        make_ready(bench, brief, START - DAY)
        run(bench, 0, 3)
        for outcome in (None, "stop"):
            if outcome is not None:
                decide(bench, outcome)
            with pytest.raises(ExpError, match="no decision to ship"):
                ramps.ship(bench, brief.name, arm="treatment", **TEAM, now=moment(3, 20))
        decide(bench, "ship", at=moment(3, 20))
        with pytest.raises(ValueError, match="is not a treatment"):
            ramps.ship(bench, brief.name, arm="control", **TEAM, now=moment(3, 21))
        ramps.ship(bench, brief.name, arm="treatment", **TEAM, now=moment(3, 21))
        with pytest.raises(ExpError, match="ships already"):
            ramps.ship(bench, brief.name, arm="treatment", **TEAM, now=moment(3, 22))
        assert life(bench, brief, moment(3, 23)).now.label == "rolling out, stage 1"
        run(bench, 4, 5)
        last = entries_of(state_log(bench.home), brief)[-1]
        assert (last.action, last.phase, last.stage, last.traffic, last.arm) == (
            "advance",
            "rollout",
            2,
            1.0,
            "treatment",
        )
        assert last.at == moment(5, 0)
        assert life(bench, brief, moment(5)).now.state == "monitoring"
        ramps.close(bench, brief.name, **TEAM, now=moment(5, 20))
        closed = folded(entries_of(state_log(bench.home), brief))
        assert (closed.status, closed.traffic) == ("closed", 1.0)


def test_a_decision_for_some_segments_ships_to_those_alone(bench: Workbench) -> None:
    run(bench, 0, 3)
    decide(bench, "ship_scoped")
    with pytest.raises(ExpError, match="names none of them"):
        ramps.ship(bench, BRIEF.name, arm="treatment", **TEAM, now=moment(3, 20))
    decide(bench, "ship_scoped", segments=[{"column": "platform", "value": "ios"}], at=moment(3, 20))
    ramps.ship(bench, BRIEF.name, arm="treatment", **TEAM, now=moment(3, 21))
    state = folded(entries_of(state_log(bench.home), BRIEF))
    flag = flagd_flag(flag_of(BRIEF, Limits(), state))
    growthbook = growthbook_feature(flag_of(BRIEF, Limits(), state))
    assert '{"in": [{"var": "platform"}, ["ios"]]}' in json.dumps(flag["targeting"])
    assert '{"$or": [{"platform": {"$in": ["ios"]}}]}' in json.dumps(growthbook["rules"])


def test_one_ramp_that_cannot_be_judged_keeps_no_kill_rule_waiting(good_days: Path, tmp_path: Path) -> None:
    shutil.copytree(good_days, tmp_path, dirs_exist_ok=True)
    broken = ramped("a-first")
    with bench_over(tmp_path, [broken, BRIEF]) as bench:
        make_ready(bench, broken, START - DAY)
        run(bench, 0, 0)
        flags.publish(bench, moment(0, 20))
        log = state_log(bench.home)
        gap = entries_of(log, BRIEF)[0].model_copy(update={"experiment": broken.name, "sequence": 5})
        log.append("ramp", f"{broken.name}:v1", key="x", at="now", content=gap.model_dump(mode="json"))
        judge_days(bench, [BRIEF], START, START, killed={(START, "waiting"): BRIEF.name})
        first, second = ramps.tick(bench, moment(1, 0))
        assert "lacks entry 2 before 5" in first.trouble
        assert first.decision.verb == "hold"
        assert (second.decision.verb, second.trouble) == ("roll_back", "")
        assert states(bench)[-1] == ("roll_back", 1, 0.0)
        published = flags.publish(bench, moment(1, 0)).publication
        assert published is not None
        shown: Any = published.flagd["flags"]
        statuses = {name: one["metadata"]["status"] for name, one in shown.items()}
        assert statuses == {broken.name: "on", BRIEF.name: "rolled_back"}
