"""Messages over real channels: a webhook that hears everything once, whoever sends and whoever is killed."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from exp_pipeline.model.policies import IncidentPolicy
from exp_pipeline.notify.apprise_channel import AppriseChannel
from exp_pipeline.notify.channels import FileChannel
from exp_pipeline.notify.routing import channels_from
from exp_pipeline.steps.operating.delivery import channel_health, deliver
from exp_pipeline.steps.operating.incidents import (
    acknowledge,
    escalate,
    incidents,
    open_incidents,
    record_findings,
    silence,
)
from exp_pipeline.steps.operating.outbox import CLAIM_HOLDS
from exp_pipeline.steps.operating.watch import tell
from exp_pipeline.store.state import StateLog
from exp_pipeline_tests.notify.incident_samples import NOON, finding
from exp_pipeline_tests.steps.senders import senders


@dataclass
class Webhook:
    """A server on this machine that remembers what it was told, and can be out of order."""

    port: int = 0
    answer: int = 200
    heard: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/hook"

    def keys(self) -> list[str]:
        return [key for key, _ in self.heard]


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    told = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if told.answer == 200:
                told.heard.append((str(self.headers["Idempotency-Key"]), body))
            self.send_response(told.answer)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing: warnings of the server are no part of a test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield told
    server.shutdown()
    server.server_close()
    thread.join(timeout=10)


@pytest.fixture
def state(tmp_path: Path) -> StateLog:
    return StateLog(tmp_path / "state.sqlite")


def test_a_webhook_hears_trouble_and_recovery_with_a_key_each(state: StateLog, webhook: Webhook) -> None:
    channel = AppriseChannel(webhook.url)
    (opened,) = record_findings(state, [finding()], NOON)
    assert len(deliver(state, channel, NOON).sent) == 1
    record_findings(state, [finding("pass", day=1)], NOON + timedelta(days=1))
    assert len(deliver(state, channel, NOON + timedelta(days=1)).sent) == 1
    (first, page), (second, recovery) = webhook.heard
    assert first == opened.key
    assert second != first
    assert page["title"] == "PAGE sample ratio mismatch: hint-ladder"
    assert page["message"].startswith("PAGE sample ratio mismatch: hint-ladder. p 1.2e-09")
    assert page["type"] == "failure"
    assert recovery["title"].startswith("RESOLVED")
    assert deliver(state, channel, NOON + timedelta(days=2)).sent == ()


def test_a_webhook_that_is_down_is_tried_again_and_shown(state: StateLog, webhook: Webhook) -> None:
    channel, webhook.answer = AppriseChannel(webhook.url), 503
    record_findings(state, [finding()], NOON)
    (failed,) = deliver(state, channel, NOON).failed
    assert failed.error == f"{channel.name}: answered 503"
    assert failed.retry_at == NOON + timedelta(minutes=1)
    (health,) = channel_health(state, [channel], NOON)
    assert (health.waiting, health.last_error, health.failing_since) == (1, failed.error, NOON)
    webhook.answer = 200
    assert deliver(state, channel, NOON + timedelta(seconds=30)).waiting == 1
    assert len(deliver(state, channel, NOON + timedelta(minutes=1)).sent) == 1
    (health,) = channel_health(state, [channel], NOON + timedelta(minutes=1))
    assert (health.delivered, health.waiting, health.last_error) == (1, 0, "")


def test_no_answer_at_all_is_an_error_without_the_address(state: StateLog) -> None:
    secret = "json://user:token-of-ours@127.0.0.1:9/hook"
    channel = AppriseChannel(secret)
    record_findings(state, [finding()], NOON)
    (failed,) = deliver(state, channel, NOON).failed
    assert "gave no good answer" in failed.error
    assert "token-of-ours" not in repr(channel)
    assert b"token-of-ours" not in state.path.read_bytes()
    unknown = AppriseChannel("carrier-pigeon://loft")
    assert "not an address that Apprise knows" in deliver(state, unknown, NOON).failed[0].error


def test_a_new_channel_hears_of_what_is_open_and_not_of_history(state: StateLog, webhook: Webhook) -> None:
    record_findings(state, [finding()], NOON)
    record_findings(state, [finding("pass", day=1)], NOON + timedelta(days=1))
    record_findings(state, [finding(subject="class-pacing", day=2)], NOON + timedelta(days=2))
    later = NOON + timedelta(days=3)
    deliver(state, AppriseChannel(webhook.url), later)
    assert [body["title"] for _, body in webhook.heard] == ["PAGE sample ratio mismatch: class-pacing"]


def test_addresses_take_what_their_variable_says(state: StateLog, tmp_path: Path, webhook: Webhook) -> None:
    base = webhook.url
    environment = {
        "EXP_NOTIFY_URLS": f"{base}/all  {base}/both",
        "EXP_NOTIFY_PAGE_URLS": f"{base}/pages {base}/both",
        "EXP_NOTIFY_ESCALATION_URLS": f"{base}/boss",
        "EXP_NOTIFY_OWNER_TUTOR_PLATFORM_URLS": f"{base}/tutor",
        "OTHER": "json://elsewhere",
    }
    channels = channels_from(environment, tmp_path / "told.jsonl")
    assert len(channels) == 6
    warn = finding(subject="one", severity="warn", owner="tutor-platform")
    record_findings(state, [warn, finding(subject="two", owner="data")], NOON)
    assert len(deliver(state, channels[0], NOON).sent) == 2
    sent = {channel: [m.subject for m in deliver(state, channel, NOON).sent] for channel in channels[1:]}
    by_place = {
        channel.url.rsplit("/", 1)[1]: subjects
        for channel, subjects in sent.items()
        if isinstance(channel, AppriseChannel)
    }
    assert by_place == {
        "all": ["one", "two"],
        "both": ["one", "two"],
        "pages": ["two"],
        "boss": [],
        "tutor": ["one"],
    }
    policy = IncidentPolicy(escalate_minutes=30)
    for channel in channels:
        assert not deliver(state, channel, NOON + timedelta(minutes=29)).sent
    told = tell(state, channels, policy, NOON + timedelta(minutes=30))
    assert (told["escalated"], told["failed"]) == (1, 0)
    assert webhook.heard[-1][1]["message"].startswith("PAGE AGAIN, NOBODY HAS IT sample ratio mismatch: two")
    assert told["sent"] == 5


def test_a_page_that_nobody_takes_is_told_again_and_then_less_often(state: StateLog) -> None:
    policy = IncidentPolicy(escalate_minutes=30, escalations=3)
    record_findings(state, [finding(), finding(subject="warned", severity="warn")], NOON)
    told = []
    for minute in range(0, 2000, 5):
        now = NOON + timedelta(minutes=minute)
        told += [(one.incident.subject, minute) for one in escalate(state, policy, now)]
        assert escalate(state, policy, now) == ()
    assert told == [("hint-ladder", 30), ("hint-ladder", 90), ("hint-ladder", 210)]
    assert [one.status for one in open_incidents(state)] == ["open", "open"]


def test_who_takes_a_page_is_not_told_again_until_it_is_worse(state: StateLog) -> None:
    policy = IncidentPolicy(escalate_minutes=30)
    record_findings(state, [finding(badness=1.0)], NOON)
    acknowledge(state, "srm", "hint-ladder", who="data", now=NOON + timedelta(minutes=10))
    assert escalate(state, policy, NOON + timedelta(hours=9)) == ()
    (worse,) = record_findings(state, [finding(badness=9.0, day=1)], NOON + timedelta(hours=10))
    assert worse.change == "worsened"
    (again,) = escalate(state, policy, NOON + timedelta(hours=10, minutes=30))
    assert again.incident.escalations == 1
    silence(
        state,
        "srm",
        "hint-ladder",
        until=NOON + timedelta(days=2),
        who="data",
        reason="known",
        now=NOON + timedelta(hours=11),
    )
    assert escalate(state, policy, NOON + timedelta(days=1)) == ()
    assert len(escalate(state, policy, NOON + timedelta(days=2))) == 1


def test_a_message_that_a_dead_sender_claimed_leaves_when_the_claim_runs_out(
    state: StateLog, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = AppriseChannel(webhook.url)
    record_findings(state, [finding()], NOON)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(AppriseChannel, "send", dies)
        with pytest.raises(KeyboardInterrupt):
            deliver(state, channel, NOON)
    assert deliver(state, channel, NOON + CLAIM_HOLDS - timedelta(seconds=1)).waiting == 1
    assert len(deliver(state, channel, NOON + CLAIM_HOLDS).sent) == 1
    assert len(webhook.heard) == 1


def test_two_senders_at_once_tell_everything_once(tmp_path: Path, webhook: Webhook) -> None:
    both = senders(tmp_path, webhook.url, 2)
    for one in both:
        one.join(120)
    assert [one.exitcode for one in both] == [0, 0]
    state = StateLog(tmp_path / "state.sqlite")
    later = NOON + timedelta(days=2)
    for channel in channels_from({"EXP_NOTIFY_URLS": webhook.url}, tmp_path / "told.jsonl"):
        deliver(state, channel, later)
    assert len(incidents(state)) == 40
    assert sorted(webhook.keys()) == sorted(f"{one.id}:1:opened" for one in incidents(state))
    told = [json.loads(line)["key"] for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    assert sorted(told) == sorted(webhook.keys())


def test_senders_killed_at_random_lose_nothing_and_repeat_only_under_the_same_key(
    tmp_path: Path, webhook: Webhook
) -> None:
    chance, kills = random.Random(20260306), 0
    for _ in range(12):
        (one,) = senders(tmp_path, webhook.url)
        time.sleep(chance.uniform(0.0, 0.4))
        one.kill()
        one.join(60)
        kills += one.exitcode == -signal.SIGKILL
    (last,) = senders(tmp_path, webhook.url)
    last.join(120)
    assert last.exitcode == 0
    state, file = StateLog(tmp_path / "state.sqlite"), tmp_path / "told.jsonl"
    later = NOON + timedelta(days=3)
    for channel in channels_from({"EXP_NOTIFY_URLS": webhook.url}, file):
        deliver(state, channel, later)
    assert kills >= 6
    wanted = sorted(f"{one.id}:1:opened" for one in incidents(state))
    assert len(wanted) == 40
    assert sorted(json.loads(line)["key"] for line in file.read_text().splitlines()) == wanted
    assert sorted(set(webhook.keys())) == wanted
    # A sender killed between the answer and its note sends once more: never more often than it was killed.
    assert len(webhook.keys()) - len(wanted) <= kills


def test_the_file_is_one_of_the_channels(tmp_path: Path) -> None:
    (only,) = channels_from({}, tmp_path / "told.jsonl")
    assert isinstance(only, FileChannel)
