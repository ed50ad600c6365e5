"""Incidents over the real log: once, whatever is repeated, done at the same time, or killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.incidents import Finding, Message
from exp_pipeline.notify.channels import ChannelError, FileChannel, everything
from exp_pipeline.steps.operating.delivery import deliver, pending_notifications
from exp_pipeline.steps.operating.incidents import (
    acknowledge,
    changes,
    incidents,
    open_incidents,
    record_findings,
    silence,
)
from exp_pipeline.store.state import StateLog
from exp_pipeline_tests.notify.incident_samples import NOON, finding

FINDINGS = st.builds(
    lambda **fields: finding(**fields),
    rule=st.sampled_from(["srm", "freshness"]),
    subject=st.sampled_from(["hint-ladder", "class-pacing"]),
    verdict=st.sampled_from(["pass", "warn", "fail", "cannot_tell"]),
    severity=st.sampled_from(["warn", "page"]),
    day=st.integers(0, 4),
    badness=st.sampled_from([0.0, 0.5, 1.5, 4.0]),
)


# Its messages are looked at, not sent.
FILE = FileChannel(Path("never-written"))


@pytest.fixture
def state(tmp_path: Path) -> StateLog:
    return StateLog(tmp_path / "state" / "state.sqlite")


class DeadChannel:
    """A channel that takes nothing until it is mended."""

    def __init__(self) -> None:
        self.name, self.dead, self.taken = "chat", True, list[Message]()
        self.takes, self.from_the_start = everything, False

    def send(self, message: Message) -> None:
        if self.dead:
            raise ChannelError("no answer")
        self.taken.append(message)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(FINDINGS, max_size=8), max_size=4), st.randoms(use_true_random=False))
def test_any_findings_leave_one_open_incident_a_subject_and_replay_changes_nothing(
    batches: list[list[Finding]], random: Any
) -> None:
    with TemporaryDirectory() as folder:
        state, path = StateLog(Path(folder) / "state.sqlite"), Path(folder) / "notifications.jsonl"
        told: list[str] = []
        for hour, batch in enumerate(batches):
            now = NOON + timedelta(hours=hour)
            told += [change.key for change in record_findings(state, batch, now) if change.notify]
            counted = Counter((one.rule, one.subject) for one in open_incidents(state))
            assert all(count == 1 for count in counted.values())
            deliver(state, FileChannel(path), now)
        before = incidents(state)
        everything = [one for batch in batches for one in batch]
        random.shuffle(everything)
        later = NOON + timedelta(days=1)
        assert record_findings(state, everything, later) == ()
        for batch in batches:
            assert record_findings(state, batch, later) == ()
        assert incidents(state) == before
        assert deliver(state, FileChannel(path), later).sent == ()
        written = [line["key"] for line in lines(path)] if path.exists() else []
        assert written == told
        assert len(set(written)) == len(written)
        logged = [
            key for entry in state.entries("findings") for key, _ in as_pairs(entry.content["findings"])
        ]
        assert sorted(logged) == sorted({one.digest() for one in everything})


def as_pairs(value: object) -> Sequence[tuple[str, object]]:
    assert isinstance(value, list)
    return value


def test_what_is_read_back_is_what_happened(state: StateLog) -> None:
    (opened,) = record_findings(state, [finding(), finding()], NOON)
    assert (opened.change, opened.incident.opened_at, opened.at) == ("opened", NOON, NOON)
    assert open_incidents(state) == (opened.incident,)
    assert open_incidents(state, experiment="class-pacing") == ()
    assert open_incidents(state, experiment="hint-ladder", rule="srm") == (opened.incident,)
    (closed,) = record_findings(state, [finding("pass", day=1)], NOON + timedelta(days=1))
    assert closed.incident.resolved_at == NOON + timedelta(days=1)
    assert open_incidents(state) == ()
    assert incidents(state) == (closed.incident,)


def test_days_of_a_batch_act_in_their_order(state: StateLog) -> None:
    done = record_findings(state, [finding("pass", day=2), finding(day=1)], NOON)
    assert [change.change for change in done] == ["opened", "resolved"]


def test_processes_that_record_at_once_open_one_incident(state: StateLog) -> None:
    def record(number: int) -> None:
        record_findings(state, [finding(), finding(look=str(number), badness=5.9)], NOON)

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(record, range(4)))
    assert len(incidents(state)) == 1
    assert len(pending_notifications(state, FILE, NOON)) == 1


def test_what_another_process_recorded_meanwhile_counts_once(
    state: StateLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = StateLog.append

    def overtaken(self: StateLog, *arguments: Any, **fields: Any) -> bool:
        monkeypatch.setattr(StateLog, "append", append)
        record_findings(state, [finding(), finding("pass")], NOON)
        return append(self, *arguments, **fields)

    monkeypatch.setattr(StateLog, "append", overtaken)
    assert record_findings(state, [finding()], NOON) == ()
    assert open_incidents(state) == ()
    assert len(pending_notifications(state, FILE, NOON)) == 2


def test_what_was_read_before_is_read_on_from_there_or_anew(state: StateLog) -> None:
    record_findings(state, [finding()], NOON)
    acknowledge(state, "srm", "hint-ladder", who="platform", now=NOON + timedelta(minutes=5))
    record_findings(state, [finding("pass", day=1)], NOON + timedelta(days=1))
    copy = StateLog(state.path.with_name("copy.sqlite"))
    copy.path.write_bytes(state.path.read_bytes())
    assert changes(copy) == changes(state)
    assert [change.change for change in changes(state)] == ["opened", "acknowledged", "resolved"]
    state.path.unlink()
    assert changes(state) == ()
    (opened,) = record_findings(state, [finding(day=2)], NOON + timedelta(days=2))
    assert changes(state) == (opened,)


def test_acknowledged_then_worse(state: StateLog) -> None:
    record_findings(state, [finding(badness=1)], NOON)
    taken = acknowledge(state, "srm", "hint-ladder", who="on-call", now=NOON)
    assert (taken.status, taken.acknowledged_by) == ("acknowledged", "on-call")
    assert acknowledge(state, "srm", "hint-ladder", who="another", now=NOON) == taken
    (change,) = record_findings(state, [finding(day=1, badness=8)], NOON + timedelta(days=1))
    assert (change.change, change.incident.status) == ("worsened", "open")
    with pytest.raises(ExpError, match="no open incident of rule srm on 'class-pacing'"):
        acknowledge(state, "srm", "class-pacing", who="on-call", now=NOON)


def test_a_silence_ends(state: StateLog) -> None:
    until = NOON + timedelta(hours=8)
    silence(state, "srm", "hint-ladder", until=until, who="on-call", reason="known", now=NOON)
    record_findings(state, [finding()], NOON + timedelta(hours=1))
    assert pending_notifications(state, FILE, NOON) == ()
    assert len(open_incidents(state)) == 1
    record_findings(state, [finding(day=1)], until)
    assert [message.change for message in pending_notifications(state, FILE, NOON)] == ["opened"]


def test_mistakes_are_named(state: StateLog) -> None:
    with pytest.raises(ValueError, match="now must carry a time zone"):
        record_findings(state, [finding()], NOON.replace(tzinfo=None))
    with pytest.raises(ValueError, match="reason must say why"):
        silence(state, "srm", "hint-ladder", until=NOON, who="on-call", reason=" ", now=NOON)
    with pytest.raises(ValueError, match="'smr' is unknown; allowed: srm, guardrail"):
        silence(state, "smr", "x", until=NOON, who="on-call", reason="known", now=NOON)  # type: ignore[arg-type]


def test_a_dead_channel_loses_nothing_and_is_not_hammered(state: StateLog) -> None:
    channel = DeadChannel()
    record_findings(state, [finding(), finding(subject="class-pacing")], NOON)
    first = deliver(state, channel, NOON)
    assert [(one.error, one.attempts) for one in first.failed] == [("no answer", 1), ("no answer", 1)]
    assert {one.retry_at for one in first.failed} == {NOON + timedelta(minutes=1)}
    assert deliver(state, channel, NOON + timedelta(seconds=59)).waiting == 2
    second = deliver(state, channel, NOON + timedelta(minutes=1))
    assert {one.retry_at for one in second.failed} == {NOON + timedelta(minutes=3)}
    channel.dead = False
    last = deliver(state, channel, NOON + timedelta(minutes=3))
    assert len(last.sent) == len(channel.taken) == 2
    assert deliver(state, channel, NOON + timedelta(days=1)).sent == ()
    assert len(pending_notifications(state, FILE, NOON)) == 2


def test_the_longest_wait_is_an_hour(state: StateLog) -> None:
    channel, now = DeadChannel(), NOON
    record_findings(state, [finding()], now)
    waits = []
    for _ in range(9):
        (failed,) = deliver(state, channel, now).failed
        waits.append((failed.retry_at - now) // timedelta(minutes=1))
        now = failed.retry_at
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


# Each kills the process with SIGKILL, for real, at one point between finding and delivery.
KILLS = {
    "before the finding is logged": "StateLog.append = kill",
    "between log and channel": "FileChannel.send = kill",
    "in the middle of the line": "os.write = lambda to, line: (write(to, line[: len(line) // 2]), kill())",
    "between line and flush": "os.write = lambda to, line: (write(to, line), kill())",
    "between channel and note": "StateLog.append = lambda self, kind, *a, **k: "
    "kill() if kind == 'delivered' else append(self, kind, *a, **k)",
    "after the note": "StateLog.append = lambda self, kind, *a, **k: "
    "(append(self, kind, *a, **k), kind == 'delivered' and kill())[0]",
    "nowhere": "pass",
}
PROGRAM = """
import os, signal, sys
from pathlib import Path
from exp_pipeline.notify.channels import FileChannel
from exp_pipeline.steps.operating.delivery import deliver
from exp_pipeline.steps.operating.incidents import record_findings
from exp_pipeline.store.state import StateLog
from exp_pipeline_tests.notify.incident_samples import NOON, finding

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

write, append = os.write, StateLog.append
folder = Path(sys.argv[1])
exec(sys.argv[2])
state = StateLog(folder / "state.sqlite")
record_findings(state, [finding()], NOON)
deliver(state, FileChannel(folder / "notifications.jsonl"), NOON)
"""


@pytest.mark.parametrize("point", sorted(KILLS))
def test_killed_anywhere_the_message_leaves_once(tmp_path: Path, point: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), KILLS[point]], capture_output=True, timeout=60
    )
    assert done.returncode == (0 if point == "nowhere" else -signal.SIGKILL), done.stderr.decode()
    state, path = StateLog(tmp_path / "state.sqlite"), tmp_path / "notifications.jsonl"
    for minute in (0, 3):
        record_findings(state, [finding()], NOON)
        deliver(state, FileChannel(path), NOON + timedelta(minutes=minute))
    (line,) = lines(path)
    (incident,) = open_incidents(state)
    assert (line["incident"], line["change"]) == (incident.id, "opened")
    assert pending_notifications(state, FILE, NOON) == ()
