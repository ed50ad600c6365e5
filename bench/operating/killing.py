"""An installation under fire: daemon, code server and run workers are killed at random while days land.

Nothing may be lost or doubled: the lake must come out byte for byte as without kills, and every message once.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from functools import partial
from pathlib import Path

from bench.operating.house import House, Role, wait_for
from exp_pipeline.steps.operating.incidents import incidents
from exp_pipeline.store.home import Home
from exp_pipeline.store.lake import MANIFEST
from exp_pipeline.store.state import state_log
from exp_pipeline_tests.defs import small_world as small

# A run that goes on is where most can break: it is hit every other time.
ROLES: tuple[Role, ...] = ("run worker", "daemon", "run worker", "code server")
# Verdicts of data; `run_failed` tells of the kills themselves.
OF_DATA = ("srm", "guardrail", "data_quality")
FACTS = ("lake",)
BRIEF_SHARES = {"control": 0.7, "ladder": 0.15, "ladder-fast": 0.15}
# The sensor of landing asks for these days before the first, too: late events reach so far.
LATE_DAYS = timedelta(days=3)
DAYS = (small.LAST - small.FIRST).days + 1
# Digests of all files, and the incidents by rule and subject.
Wanted = tuple[dict[str, str], set[tuple[str, str]]]


@dataclass
class Outcome:
    """What came of it: kills by role, and what was lost or doubled."""

    database: str
    kills: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    files: int = 0
    files_that_differ: int = 0
    messages: int = 0
    messages_doubled: int = 0
    messages_lost: int = 0
    incidents_doubled: int = 0
    installations: int = 1

    @property
    def clean(self) -> bool:
        return not (
            self.files_that_differ or self.messages_doubled or self.messages_lost or self.incidents_doubled
        )


def summed(outcomes: Sequence[Outcome]) -> Outcome:
    """What came of several installations on the same kind of database."""
    names = [one.name for one in fields(Outcome) if one.name not in ("database", "kills")]
    kills = sum((one.kills for one in outcomes), Counter[str]())
    return Outcome(
        outcomes[0].database, kills, **{name: sum(getattr(one, name) for one in outcomes) for name in names}
    )


def make_world(folder: Path, *, seed: int = 5, days: int = DAYS) -> Path:
    """A data folder whose landing is still empty; what is going to land lies beside it."""
    home = small.make_home(folder, drawn=small.plan(seed=seed).model_copy(update={"days": days}))
    # The product drew other shares than the brief says: a sample ratio mismatch that must be paged.
    arms = [{"name": name, "share": share} for name, share in BRIEF_SHARES.items()]
    small.rewrite_brief(home, "hint-ladder", arms=arms)
    shutil.move(home / "landing", folder / "to-land")
    (home / "landing").mkdir()
    return home


def land(folder: Path) -> None:
    """Let everything land at once, as if it had arrived some minutes ago."""
    then = time.time() - 600
    for path in (folder / "to-land").rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))
    for day in sorted((folder / "to-land").iterdir()):
        shutil.copytree(day, folder / "data" / "landing" / day.name)


def undisturbed(folder: Path, *, seed: int = 5, days: int = DAYS) -> Wanted:
    """The same days without any kill: digests of all files, and the incidents by rule and subject."""
    make_world(folder, seed=seed, days=days)
    land(folder)
    house = House(folder)
    house.prepare()
    first = small.FIRST - LATE_DAYS
    last = small.FIRST + timedelta(days=days - 1)
    house.command("exp", "run", "--from", str(first), "--to", str(last))
    return _facts(house), _incidents(house)


def under_fire(
    folder: Path,
    calm: Callable[[], Wanted],
    *,
    kills: int,
    database: str | None = None,
    seed: int = 5,
    luck: int = 5,
    days: int = DAYS,
    brisk: bool = False,
    most_seconds: float = 900.0,
) -> Outcome:
    """Let the same days land while processes are killed at random; compare with what the calm run gave.

    calm: asked once all are killed, so that both may go on side by side. luck: what draws the moments.
    """
    make_world(folder, seed=seed, days=days)
    house = House(folder, database=database, brisk=brisk)
    chance, began = random.Random(luck), time.monotonic()
    house.prepare()
    outcome = Outcome("PostgreSQL" if database else "SQLite")
    house.command("dagster", "sensor", "start", "landing", "-w", house.workspace)
    land(folder)
    house.start()
    try:
        while (done := sum(outcome.kills.values())) < kills:
            role = ROLES[done % len(ROLES)]
            left = most_seconds - (time.monotonic() - began)
            wait_for(f"a {role} to kill", partial(_alive, house, role), left)
            time.sleep(chance.uniform(0.0, 5.0))
            outcome.kills[role] += bool(house.kill(role))
            if role == "daemon":
                house.start()
        wanted = calm()
        left = most_seconds - (time.monotonic() - began)
        wait_for("all days made", lambda: _made(house, wanted[0]), left, every=2.0)
        wait_for("all incidents told", lambda: _told(house, wanted[1]), 120.0, every=2.0)
    finally:
        house.stop()
    facts, found = _facts(house), incidents(state_log(Home(house.data, house.database)))
    outcome.files = len(wanted[0])
    outcome.files_that_differ = sum(facts.get(name) != digest for name, digest in wanted[0].items())
    outcome.files_that_differ += len(facts.keys() - wanted[0].keys())
    keys = Counter(_keys(house))
    outcome.messages = len(keys)
    outcome.messages_doubled = sum(count - 1 for count in keys.values())
    outcome.messages_lost = len({one.id for one in found} - {key.partition(":")[0] for key in keys})
    opened = Counter((one.rule, one.subject) for one in found if one.rule in OF_DATA)
    outcome.incidents_doubled = sum(count - 1 for count in opened.values())
    outcome.incidents_doubled += len(wanted[1] ^ set(opened))
    outcome.seconds = time.monotonic() - began
    return outcome


def _alive(house: House, role: Role) -> bool:
    return any(one.role == role for one in house.processes())


def _facts(house: House) -> dict[str, str]:
    return what_readers_see(house.data)


def what_readers_see(data: Path) -> dict[str, str]:
    """The lake of a data folder by path: every file's digest; of a manifest all but the run that wrote it."""
    found = small.digests(data, FACTS)
    for name in found:
        if name.endswith(MANIFEST):
            content = json.loads((data / name).read_text())
            del content["run_id"]
            found[name] = json.dumps(content, sort_keys=True)
    return found


def _made(house: House, wanted: dict[str, str]) -> bool:
    return _facts(house) == wanted and not _alive(house, "run worker")


def _incidents(house: House) -> set[tuple[str, str]]:
    found = incidents(state_log(Home(house.data, house.database)))
    return {(one.rule, one.subject) for one in found if one.rule in OF_DATA}


def _keys(house: House) -> list[str]:
    path = house.data / "state" / "notifications.jsonl"
    return [json.loads(line)["key"] for line in path.read_text().splitlines()] if path.is_file() else []


def _told(house: House, wanted: set[tuple[str, str]]) -> bool:
    """Whether every incident has been told of, in the file that is one of the channels."""
    found = incidents(state_log(Home(house.data, house.database)))
    told = {key.partition(":")[0] for key in _keys(house)}
    return wanted <= _incidents(house) and {one.id for one in found} <= told
