"""`exp` without its seconds of import: a process that has loaded everything forks one child for each command.

Every child is a process of its own and may be killed like any other. Commands come as lines of JSON on
standard input (`words`, and `out`, the file for what the child says); the answer is a line with its id. Once
it has ended, a line with its id and how: an exit code, or minus the signal's number.
"""

from __future__ import annotations

import json
import os
import select
import sys
import traceback
from typing import NoReturn


def preload() -> None:
    """Import what runs, readouts and their commands import; nothing is opened yet."""
    import duckdb
    import pandera.polars
    import polars
    import scipy.stats

    import exp_pipeline.cli.runs
    import exp_pipeline.defs.graph
    import exp_pipeline.defs.running
    import exp_pipeline.steps.experiments.sealed_readouts
    import exp_pipeline.steps.warehouse

    loaded = (duckdb, pandera.polars, polars, scipy.stats, exp_pipeline)
    assert all(loaded)


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def child(words: list[str], out: str) -> NoReturn:
    """Be the command: its words, its output to a file, its exit code."""
    code = 1
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for own, other in ((0, nothing), (1, handle), (2, handle)):
            os.dup2(other, own)
        from exp_pipeline.cli.app import app

        try:
            app(words, prog_name="exp")
        except SystemExit as done:
            code = done.code if isinstance(done.code, int) else 0 if done.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Fork on request until standard input ends; tell of every child that ended."""
    preload()
    say(ready=True)
    alive: set[int] = set()
    waiting = b""
    while True:
        if select.select([0], [], [], 0.02)[0]:
            read = os.read(0, 65_536)
            if not read:
                return
            *lines, waiting = (waiting + read).split(b"\n")
            for line in lines:
                asked = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    child(asked["words"], asked["out"])
                alive.add(pid)
                say(started=pid)
        for pid in tuple(alive):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                alive.discard(pid)
                say(ended=pid, code=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    serve()
