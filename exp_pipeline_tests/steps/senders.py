"""What a process of `test_delivery.py` does, forked from one that has imported everything already."""

from __future__ import annotations

import multiprocessing
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from exp_pipeline.notify.routing import channels_from
from exp_pipeline.steps.operating.delivery import deliver
from exp_pipeline.steps.operating.incidents import record_findings
from exp_pipeline.store.state import StateLog
from exp_pipeline_tests.notify.incident_samples import NOON, finding


def send_all(folder: Path, url: str, line: Connection) -> None:
    """Find forty things one after another, and after each deliver over all channels what waits."""
    state = StateLog(folder / "state.sqlite")
    channels = channels_from({"EXP_NOTIFY_URLS": url}, folder / "told.jsonl")
    line.send("up")
    line.recv()
    for number in range(40):
        now = NOON + timedelta(seconds=number)
        record_findings(state, [finding(subject=f"subject-{number}")], now)
        for channel in channels:
            deliver(state, channel, now)


def senders(folder: Path, url: str, count: int = 1) -> list[ForkServerProcess]:
    """Processes that begin to send at one moment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "apprise", "apprise.plugins.custom_json"])
    started = []
    for _ in range(count):
        line, other = context.Pipe()
        process = context.Process(target=send_all, args=(folder, url, other), daemon=True)
        process.start()
        other.close()
        started.append((process, line))
    for _, line in started:
        assert line.poll(60), "the process did not start"
        assert line.recv() == "up"
    for _, line in started:
        line.send("go")
        line.close()
    return [process for process, _ in started]
