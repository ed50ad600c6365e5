"""What the processes of `test_processes.py` do.

`python -m exp_pipeline_tests.store.workers <work> <folder> <argument>` says `ready` on its first line, works
until the file `stop` exists in the folder (at most 20 s), and ends with one JSON line.
"""

from __future__ import annotations

import json
import random
import sys
import time
from functools import partial
from pathlib import Path

from exp_pipeline.store.files import one_at_a_time
from exp_pipeline.store.lake import Lake, NewFile
from exp_pipeline.store.state import StateLog
from exp_pipeline.store.warehouse import (
    Shown,
    ShownColumn,
    ShownTable,
    lake_view,
    open_warehouse,
    replace_warehouse,
)

TABLE = "events"
DAYS = tuple(f"event_date=2026-03-0{day}" for day in (1, 2, 3))
ROWS = (1_000, 1_500)
BUCKETS = 3
ENOUGH = 5


def working(root: Path) -> bool:
    return not (root / "stop").exists() and time.monotonic() < _END


_END = time.monotonic() + 20


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def write_partition(root: Path, day: str, variant: int, *, engine: object = None) -> None:
    """Write all rows of one variant, in three files whose rows add up to its count."""
    import duckdb

    from exp_pipeline.store.engine import Engine

    lake = Lake(root / "lake")
    own = engine if isinstance(engine, Engine) else Engine(duckdb.connect(":memory:"), threads=1)
    files = []
    for bucket in range(BUCKETS):
        path = lake.staging(TABLE, day)
        rows = own.write(
            f"select '{day[11:]}' as event_date, {variant} as variant, range as n "
            f"from range({ROWS[variant]}) where range % {BUCKETS} = {bucket}",
            path,
        )
        files.append(NewFile(path, str(bucket), rows))
    lake.commit(TABLE, day, files, schema_version="1", run_id=f"run-{variant}", facts={"variant": variant})


def writer(root: Path, seed: str) -> None:
    """Replace the same partitions over and over, through DuckDB."""
    import duckdb

    from exp_pipeline.store.engine import Engine

    chance = random.Random(int(seed))
    engine = Engine(duckdb.connect(":memory:"), threads=1)
    say(ready=True)
    commits = 0
    while working(root):
        write_partition(root, chance.choice(DAYS), chance.randrange(2), engine=engine)
        commits += 1
        if commits == ENOUGH:
            (root / f"enough-writer-{seed}").touch()
    say(commits=commits)


def analyst(root: Path, manner: str) -> None:
    """Query the warehouse in a loop, over one connection kept open or a new one each time."""
    query = (
        "select event_date, count(*), min(variant), max(variant), sum(n) "
        "from events group by event_date order by 1"
    )
    seen: set[str] = set()
    queries = connections = 0
    say(ready=True)
    while working(root):
        with open_warehouse(root / "warehouse.duckdb") as connection:
            connections += 1
            while working(root):
                seen.add(json.dumps(connection.execute(query).fetchall()))
                queries += 1
                if queries >= ENOUGH and (manner == "keep" or len(seen) > 1):
                    (root / f"enough-analyst-{manner}").touch()
                if manner == "reconnect":
                    break
    say(queries=queries, connections=connections, seen=[json.loads(one) for one in sorted(seen)])


def committer(root: Path, seed: str) -> None:
    """Replace one partition over and over with files of known bytes, without an engine."""
    chance = random.Random(int(seed))
    lake = Lake(root / "lake")
    say(ready=True)
    while working(root):
        variant = chance.randrange(2)
        files = []
        for bucket in range(BUCKETS):
            path = lake.staging(TABLE, DAYS[0])
            with path.open("wb") as handle:
                for piece in content_of(variant, bucket):
                    handle.write(piece)
                    handle.flush()
            files.append(NewFile(path, str(bucket), ROWS[variant]))
        lake.commit(TABLE, DAYS[0], files, schema_version="1", run_id="r", facts={"variant": variant})


def content_of(variant: int, bucket: int) -> list[bytes]:
    """The bytes of one file, in the pieces in which they are written."""
    return [f"{variant}/{bucket}/{piece};".encode() * 2_000 for piece in range(4)]


def builder(root: Path, seed: str) -> None:
    """Build the warehouse over and over, with another content each time."""
    import duckdb

    say(ready=True)
    number = int(seed) * 1_000_000
    while working(root):
        number += 1
        replace_warehouse(root / "warehouse.duckdb", partial(shown, root, number), duckdb.connect)


def shown(root: Path, number: int) -> Shown:
    """A view over the lake's current files, and a table of 50 rows that all hold `number`."""
    columns = (
        ShownColumn("event_date", "VARCHAR", "Day."),
        ShownColumn("variant", "INTEGER", "Which content."),
        ShownColumn("n", "BIGINT", "Row of it."),
    )
    return Shown(
        (lake_view(Lake(root / "lake"), TABLE, "Rows of one of two contents.", columns),),
        (ShownTable("numbers", "Fifty times one number.", columns[2:], ((number,),) * 50),),
    )


def appender(root: Path, seed: str) -> None:
    """Append entries to one log; every process uses the same keys."""
    log = StateLog(root / "state" / "state.sqlite")
    say(ready=True)
    added = sum(
        log.append("lock", f"s{n}", key=f"k{n}", at="2026-03-01", content={"by": seed}) for n in range(40)
    )
    say(added=added)


def holder(root: Path, folder: str) -> None:
    """Hold the lock of a folder and do nothing."""
    with one_at_a_time(Path(folder)):
        say(ready=True)
        while working(root):
            time.sleep(0.05)


if __name__ == "__main__":
    work, folder, argument = sys.argv[1:]
    works = {one.__name__: one for one in (writer, analyst, committer, builder, appender, holder)}
    works[work](Path(folder), argument)
