"""Everything that people and schedules change is in one list, with who, what and why, and without secrets."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from exp_pipeline.model.incidents import Finding
from exp_pipeline.model.ramps import Approval, RampState
from exp_pipeline.steps.after.audit import KINDS, audit
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.locking import note_changes, take_lock
from exp_pipeline.steps.experiments.unblinding import record_unblinding
from exp_pipeline.steps.operating.flags import publish
from exp_pipeline.steps.operating.incidents import acknowledge, record_findings, silence
from exp_pipeline.steps.operating.ramp_log import Step, add_approval, append
from exp_pipeline.steps.retired import RETENTION
from exp_pipeline.store.state import state_log
from exp_pipeline_tests.steps.ramp_worlds import bench_over, moment, ramped

BRIEF = ramped()
HOUR = timedelta(hours=1)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    with bench_over(tmp_path, [BRIEF]) as opened:
        yield opened


def change_everything(bench: Workbench) -> None:
    """One change an hour, each through the function that people's commands and schedules call."""
    from exp_pipeline.catalog.lock import lock_record

    home, log, now = bench.home, state_log(bench.home), moment(0)
    take_lock(home, BRIEF, lock_record(BRIEF, now, by="tutor-team", reason="ready to go"))
    note_changes(home, BRIEF.model_copy(update={"alpha": 0.01}), now + HOUR)
    approval = Approval(
        experiment=BRIEF.name, version=1, stage=1, by="owners", reason="looks well", at=now + 2 * HOUR
    )
    add_approval(log, BRIEF, approval)
    append(log, BRIEF, RampState(), Step("advance", "ramp", 1, 4, 0.01, "schedule", ("due",)), now + 3 * HOUR)
    publish(bench, now + 4 * HOUR)
    record_unblinding(home, BRIEF, "a bug was suspected", "analysts", now + 5 * HOUR)
    failed = Finding(
        rule="freshness", subject="events", day=date(2026, 3, 2), verdict="fail", evidence="x", owner="o"
    )
    record_findings(log, [failed], now)
    acknowledge(log, "freshness", "events", who="on-call", now=now + 6 * HOUR)
    silence(
        log, "freshness", "events", until=now + 20 * HOUR, who="on-call", reason="known", now=now + 7 * HOUR
    )
    log.append(
        "erasure", "e1", key="e1", at=(now + 8 * HOUR).isoformat(),
        content={"requested_by": "support", "rows": {"events": 3, "turns": 2}, "tombstones": ["hidden"]},
    )  # fmt: skip
    log.append(
        RETENTION, "d", key="d", at=(now + 9 * HOUR).isoformat(),
        content={"tables": {"turns": ["event_date=2026-01-01", "event_date=2026-01-02"]}},
    )  # fmt: skip


def test_every_change_is_told_in_order_with_who_and_why(bench: Workbench) -> None:
    assert audit(bench.home) == ()
    change_everything(bench)
    found = audit(bench.home)
    assert [(one.kind, one.by, one.why) for one in found] == [
        ("lock", "tutor-team", "ready to go"),
        ("brief", "the catalog's files", ""),
        ("approval", "owners", "looks well"),
        ("ramp", "schedule", "due"),
        ("flags", "the pipeline", ""),
        ("unblinding", "analysts", "a bug was suspected"),
        ("incident", "on-call", ""),
        ("incident", "on-call", "known"),
        ("erasure", "support", ""),
        ("retention", "the pipeline", "the retention policy"),
    ]
    said = {one.kind: one.what for one in found}
    assert said["brief"] == "alpha changed after the start: 0.05 to 0.01"
    assert said["ramp"] == "advance, ramp stage 1 of 4, 1 % of traffic"
    assert said["flags"] == "version 1 of the flags published (worked-example)"
    assert said["erasure"] == "a person erased, 5 rows"
    assert said["retention"] == "past their day, deleted: 2 of turns"
    assert "hidden" not in repr(found)
    assert all(one.at.tzinfo is UTC for one in found)


def test_the_list_is_narrowed_by_day_team_and_kind(bench: Workbench) -> None:
    change_everything(bench)
    assert [one.kind for one in audit(bench.home, by="On-Call")] == ["incident", "incident"]
    assert audit(bench.home, since=moment(1).date()) == ()
    assert len(audit(bench.home, since=moment(0).date())) == 10
    assert [one.by for one in audit(bench.home, kinds=("lock", "erasure"))] == ["tutor-team", "support"]
    with pytest.raises(ValueError, match="unknown kind gossip"):
        audit(bench.home, kinds=("gossip",))


def test_every_kind_that_the_log_keeps_of_people_is_known() -> None:
    assert {"decision", "review", "draw", "key", "texts-read", "texts-deleted"} <= set(KINDS)


def test_the_command_tells_the_same(bench: Workbench) -> None:
    import json

    from typer.testing import CliRunner

    from exp_pipeline.cli.app import app

    change_everything(bench)
    home = str(bench.home.root)
    done = CliRunner().invoke(app, ["audit", "--by", "support", "--json", "--home", home])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)
    assert (row["kind"], row["what"]) == ("erasure", "a person erased, 5 rows")
    told = CliRunner().invoke(app, ["audit", "--since", "2026-03-01", "--home", home])
    assert told.exit_code == 0
    assert "ready to go" in " ".join(told.stdout.split())
    wrong = CliRunner().invoke(app, ["audit", "--kind", "gossip", "--home", home])
    assert wrong.exit_code == 2


def test_moments_without_a_zone_are_utc(bench: Workbench) -> None:
    state_log(bench.home).append("draw", "e:v1", key="k", at="2026-03-02T09:00:00", content={"units": 5})
    (one,) = audit(bench.home)
    assert one.at == datetime(2026, 3, 2, 9, tzinfo=UTC)
