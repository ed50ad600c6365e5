"""`dagster dev` as a person starts it: webserver, daemon and code location, ended by id."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from exp_pipeline_tests.defs import small_world as small

START_SECONDS = 120.0
STOP_SECONDS = 30.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def dagster_dev(home: Path, history: Path) -> Iterator[str]:
    """The address of a running `dagster dev` over a data folder; it answers when the block begins."""
    shutil.copy(small.ROOT / ".dagster_home" / "dagster.yaml", history / "dagster.yaml")
    port = free_port()
    command = [str(Path(sys.executable).with_name("dagster")), "dev", "-w", "workspace.yaml"]
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(history),
        "EXP_HOME": str(home),
        "EXP_HMAC_KEY": small.KEY,
        "PYTHONPATH": str(small.ROOT),
    }
    log = history.parent / "dagster-dev.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "-h", "127.0.0.1", "-p", str(port)],
            cwd=small.ROOT,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(process, address, log)
            yield address
        finally:
            _end(process)


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{address}/server_info", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"dagster dev did not answer; its log:\n{log.read_text()[-3000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole process group that was started here: kindly at first, by force once its leader has gone.

    A server of code whose leader has gone stays until it has missed half a minute of its heartbeats.
    """
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        limit = time.monotonic() + STOP_SECONDS
        # Not taken away yet, so that its number names its group and nothing else.
        gone = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while time.monotonic() < limit and os.waitid(os.P_PID, process.pid, gone) is None:
            time.sleep(0.1)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=STOP_SECONDS)


def graphql(address: str, query: str, **variables: object) -> dict[str, Any]:
    """Ask the webserver, as the UI does. Raises AssertionError where it answers with errors."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(
        f"{address}/graphql", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        found = json.load(answer)
    assert "errors" not in found, found["errors"]
    return dict(found["data"])
