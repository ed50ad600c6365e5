"""Published flags follow the log: versions, files, what a broken brief changes, the way to the webhook."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from exp_pipeline.model.errors import StoreError
from exp_pipeline.model.layers import Layer
from exp_pipeline.notify.webhook import Webhook, webhook_from
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.operating import flags, ramps
from exp_pipeline.steps.operating.flag_delivery import deliver_flags, pending_versions
from exp_pipeline.steps.operating.outbox import CLAIM_HOLDS
from exp_pipeline.steps.operating.ramp_round import send_flags
from exp_pipeline.store.state import state_log
from exp_pipeline_tests.analysis.builders import START
from exp_pipeline_tests.steps.ramp_worlds import (
    DAY,
    bench_over,
    catalog_of,
    judge_days,
    make_ready,
    moment,
    ramped,
)

BRIEF = ramped()
TEAM: dict[str, Any] = {"by": "us", "reason": "to see"}
SECRET = "a secret for tests only"
# The receiver takes the request and ends without a word.
SILENT = 0


@pytest.fixture(scope="module")
def good_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("good")
    with bench_over(root, [BRIEF]) as found:
        judge_days(found, [BRIEF], START - DAY, START + 2 * DAY)
        make_ready(found, BRIEF, START - DAY)
    return root


@pytest.fixture
def bench(good_days: Path, tmp_path: Path) -> Iterator[Workbench]:
    shutil.copytree(good_days, tmp_path, dirs_exist_ok=True)
    with bench_over(tmp_path, [BRIEF]) as found:
        yield found


def flag(bench: Workbench) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bench.home.flags / flags.FLAGD_FILE).read_text())
    return found


def test_a_version_for_each_change_and_none_without_one(bench: Workbench) -> None:
    assert flags.publish(bench, moment(0)).publication is None
    assert flags.file_version(bench.home) is None
    seen = []
    for day in (0, 1, 2):
        ramps.tick(bench, moment(day, 0))
        assert flags.publish(bench, moment(day, 0)).made
        again = flags.publish(bench, moment(day, 5))
        assert (again.made, again.written) == (False, False)
        document = flag(bench)
        seen.append((document["metadata"]["version"], document["flags"][BRIEF.name]["metadata"]["traffic"]))
    assert seen == [(1, 0.01), (2, 0.05), (3, 0.25)]
    ramps.pause(bench, BRIEF.name, **TEAM, now=moment(2, 12))
    flags.publish(bench, moment(2, 12))
    paused = flag(bench)["flags"][BRIEF.name]
    assert "targeting" not in paused
    assert paused["defaultVariant"] == "not_enrolled"
    assert paused["variants"]["not_enrolled"] == BRIEF.control
    last = flags.newest(state_log(bench.home))
    assert last is not None
    assert [(change["action"], change["sequence"]) for change in last.changes] == [("pause", 4)]


def test_files_that_are_lost_damaged_or_behind_are_written_again(bench: Workbench) -> None:
    ramps.tick(bench, moment(0, 0))
    flags.publish(bench, moment(0, 0))
    path = bench.home.flags / flags.FLAGD_FILE
    whole = path.read_bytes()
    for spoil in (
        path.unlink,
        lambda: path.write_text("{"),
        lambda: path.write_text('{"metadata": {"version": 0}}'),
    ):
        spoil()
        assert flags.publish(bench, moment(0, 1)).written
        assert path.read_bytes() == whole
    path.write_text("[]")
    with pytest.raises(StoreError, match="is damaged"):
        flags.file_version(bench.home)


def test_a_slow_process_cannot_put_an_old_version_over_a_new_one(bench: Workbench) -> None:
    ramps.tick(bench, moment(0, 0))
    flags.publish(bench, moment(0, 0))
    old = (bench.home.flags / flags.FLAGD_FILE).read_text()
    ramps.tick(bench, moment(1, 0))
    flags.publish(bench, moment(1, 0))
    # The slow one made version 1 and writes only now: what it writes is the newest of the log.
    assert not flags.write_files(bench.home, state_log(bench.home))
    assert (bench.home.flags / flags.FLAGD_FILE).read_text() != old
    assert flags.file_version(bench.home) == 2


def test_a_brief_that_cannot_be_used_keeps_its_flag_and_arms_stay_as_locked(bench: Workbench) -> None:
    ramps.tick(bench, moment(0, 0))
    flags.publish(bench, moment(0, 0))
    before = flag(bench)["flags"]
    gone = replace(bench, catalog=catalog_of([]))
    assert not flags.publish(gone, moment(0, 1)).made
    arms = tuple(
        arm.model_copy(update={"share": share}) for arm, share in zip(BRIEF.arms, (0.9, 0.1), strict=True)
    )
    changed = replace(bench, catalog=catalog_of([ramped(arms=arms)]))
    assert not flags.publish(changed, moment(0, 2)).made
    assert flag(bench)["flags"] == before
    # A holdout that is new bounds everybody, and is a version of its own without any transition.
    held = Layer(name="all", kind="holdout", share=0.1, hash_scheme="flagd-v2")
    bounded = replace(bench, catalog=catalog_of([BRIEF], layers={"all": held}))
    assert flags.publish(bounded, moment(0, 3)).made
    last = flags.newest(state_log(bench.home))
    assert last is not None
    assert (last.version, last.changes) == (2, ())
    assert "layer=all:" in json.dumps(last.flagd)


def test_each_version_of_an_experiment_has_its_own_flag_and_none_goes_away(bench: Workbench) -> None:
    ramps.tick(bench, moment(0, 0))
    ramps.close(bench, BRIEF.name, **TEAM, now=moment(0, 2))
    second = ramped(version=2)
    later = replace(bench, catalog=catalog_of([second]))
    make_ready(later, second, START)
    ramps.tick(later, moment(1, 0))
    flags.publish(later, moment(1, 0))
    found = flag(bench)["flags"]
    assert {name: one["metadata"]["status"] for name, one in found.items()} == {
        BRIEF.name: "closed",
        f"{BRIEF.name}:v2": "on",
    }


class Receiver(HTTPServer):
    """A flag service: keeps what it accepts, and answers as told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[int] = []
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/flags?token=not-to-be-shown"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        answer = self.server.answers.pop(0) if self.server.answers else 204
        if answer == SILENT:
            return
        if answer < 300:
            self.server.taken.append((dict(self.headers), body))
        self.send_response(answer)
        if answer == 307:
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)


def three_versions(bench: Workbench) -> None:
    for day in (0, 1, 2):
        ramps.tick(bench, moment(day, 0))
        flags.publish(bench, moment(day, 0))


def test_versions_reach_the_webhook_once_in_order_and_signed(bench: Workbench, receiver: Receiver) -> None:
    log, hook = state_log(bench.home), Webhook(receiver.url, SECRET)
    ramps.tick(bench, moment(0, 0))
    flags.publish(bench, moment(0, 0))
    assert deliver_flags(log, hook, moment(0, 0)).sent == (1,)
    for day in (1, 2):
        ramps.tick(bench, moment(day, 0))
        flags.publish(bench, moment(day, 0))
    assert deliver_flags(log, hook, moment(2, 0)).sent == (2, 3)
    assert deliver_flags(log, hook, moment(2, 1)).sent == ()
    assert receiver.asked == 3
    for number, (headers, body) in enumerate(receiver.taken, start=1):
        told = json.loads(body)
        assert told["version"] == number
        assert told["flagd"]["flags"][BRIEF.name]["metadata"]["stage"] == number
        assert [change["stage"] for change in told["changes"]] == [number]
        signed = headers["X-Exp-Timestamp"].encode() + b"." + body
        expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        assert headers["X-Exp-Signature"] == f"sha256={expected}"
    assert len({headers["Idempotency-Key"] for headers, _ in receiver.taken}) == 3


@pytest.mark.parametrize("answer", [500, 429, 404, 307, SILENT])
def test_what_is_not_taken_is_tried_again_later_and_keeps_the_others_waiting(
    bench: Workbench, receiver: Receiver, answer: int
) -> None:
    log, hook = state_log(bench.home), Webhook(receiver.url, SECRET, wait_seconds=0.5)
    ramps.tick(bench, moment(0, 0))
    flags.publish(bench, moment(0, 0))
    receiver.answers = [answer, answer]
    now = moment(0, 1)
    first = deliver_flags(log, hook, now)
    assert (first.sent, first.waiting) == ((), 1)
    assert first.error
    assert "token" not in first.error
    ramps.tick(bench, moment(1, 0))
    flags.publish(bench, moment(1, 0))
    # After a minute, then after two: before that nobody is asked.
    assert deliver_flags(log, hook, now + timedelta(seconds=59)).sent == ()
    asked = receiver.asked
    assert deliver_flags(log, hook, now + timedelta(seconds=60)).waiting == 2
    assert deliver_flags(log, hook, now + timedelta(seconds=179)).sent == ()
    assert receiver.asked == asked + 1
    assert deliver_flags(log, hook, now + timedelta(seconds=180)).sent == (1, 2)
    keys = [headers["Idempotency-Key"] for headers, _ in receiver.taken]
    assert len(keys) == len(set(keys)) == 2


def test_a_sender_that_died_is_followed_under_the_same_key(bench: Workbench, receiver: Receiver) -> None:
    log, hook = state_log(bench.home), Webhook(receiver.url, SECRET)
    three_versions(bench)
    now = moment(2, 1)
    # It had claimed and even sent, and died before it could say so.
    log.append("flag_receiver", hook.name, key=hook.name, at=now.isoformat(), content={"from": 3})
    log.append("flag_claimed", hook.name, key=f"{hook.name}:3#1", at=now.isoformat(), content={"version": 3})
    assert deliver_flags(log, hook, now + CLAIM_HOLDS - timedelta(seconds=1)).waiting == 1
    assert deliver_flags(log, hook, now + CLAIM_HOLDS).sent == (3,)
    assert receiver.taken[0][0]["Idempotency-Key"].startswith("flags-3-")


def test_a_new_receiver_hears_of_the_newest_version_only(bench: Workbench, receiver: Receiver) -> None:
    three_versions(bench)
    log, hook = state_log(bench.home), Webhook(receiver.url, SECRET)
    assert [one.version for one in pending_versions(log, hook)] == [3]
    assert deliver_flags(log, hook, moment(2, 1)).sent == (3,)
    other = Webhook(receiver.url + "&more", SECRET)
    assert other.name != hook.name
    assert [one.version for one in pending_versions(log, other)] == [3]


def test_a_dead_address_is_a_trouble_of_the_delivery_and_files_come_first(bench: Workbench) -> None:
    ramps.tick(bench, moment(0, 0))
    environment = {"EXP_FLAG_WEBHOOK_URL": "http://127.0.0.1:9/x", "EXP_FLAG_WEBHOOK_SECRET": SECRET}
    sent = send_flags(bench, moment(0, 0), environment)
    assert flags.file_version(bench.home) == 1
    assert sent.delivery.error.startswith("127.0.0.1 cannot be reached")
    wrong = send_flags(bench, moment(0, 1), {"EXP_FLAG_WEBHOOK_URL": "http://127.0.0.1:9/x"})
    assert "EXP_FLAG_WEBHOOK_SECRET must have at least 16 characters" in wrong.delivery.error


def test_settings_are_checked_and_the_secret_is_never_shown() -> None:
    assert webhook_from({}) is None
    for url in ("file:///etc/passwd", "ftp://x/y", "x", "http://"):
        with pytest.raises(ValueError, match="EXP_FLAG_WEBHOOK_URL must be an http or https address"):
            webhook_from({"EXP_FLAG_WEBHOOK_URL": url, "EXP_FLAG_WEBHOOK_SECRET": SECRET})
    hook = webhook_from({"EXP_FLAG_WEBHOOK_URL": "https://h/x?token=t", "EXP_FLAG_WEBHOOK_SECRET": SECRET})
    assert hook is not None
    assert SECRET not in repr(hook)
    assert "token" not in hook.name
