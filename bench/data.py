"""The benchmark's events: simulated once at base size, made many by copies that are other people.

A copy repeats every landed row with new ids, so that the same things happen to other learners on other
devices in other classes; retries, conflicting copies, broken and late rows come along in proportion.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

SECRET = "simulated-data-only-not-a-secret"
COPY_MEMORY = "1200MB"
# Ids beside those that the door makes pseudonymous.
_MORE_IDS = ("event_id", "session_id", "conversation_id", "turn_id")


def simulated(home: Path) -> bool:
    """Whether the landing folder of a size is there, whole."""
    return (home / "landing" / ".complete").is_file()


def landed(home: Path) -> bool:
    """Whether every received day of the landing folder has been landed."""
    from exp_pipeline.store.lake import Lake
    from exp_pipeline.store.landing import received_days

    wanted = {f"received_date={day.isoformat()}" for day in received_days(home / "landing")}
    return bool(wanted) and wanted <= set(Lake(home / "lake").partitions("landed"))


def simulate(home: Path, events: int, days: int) -> int:
    """Write the simulated events as Parquet files, unless they are there; returns rows written."""
    from exp_pipeline.simulate.landing import write_landing
    from exp_pipeline.simulate.plans import bench_plan

    if simulated(home):
        return 0
    shutil.rmtree(home, ignore_errors=True)
    files = write_landing(bench_plan(events, days), home / "landing", format="parquet")
    (home / "landing" / ".complete").write_text("ok\n", encoding="utf-8")
    return sum(file.rows for file in files)


def copy_landed(base: Path, home: Path, copies: int) -> tuple[int, int]:
    """Write the landed rows of `base` so many times over into `home`, day by day; returns rows and bytes.

    The first copy is the base itself; slices are cut, sorted and written as the door does it. Raises
    ValueError where the base has not landed or a received day has more than one file.
    """
    import duckdb

    from exp_pipeline.steps.context import door_shape
    from exp_pipeline.steps.ingest.landed_slices import SLICE_GROUP_ROWS, SLICE_ORDER
    from exp_pipeline.store.engine import Engine
    from exp_pipeline.store.lake import Lake, NewFile

    if not landed(base):
        raise ValueError(f"{base} holds no landed events: run the benchmark at base size first")
    shutil.rmtree(home, ignore_errors=True)
    shape = door_shape()
    ids = (*shape.identifiers, *_MORE_IDS)
    source, target = Lake(base / "lake"), Lake(home / "lake")
    (home / "state").mkdir(parents=True)  # DuckDB makes its spill folder, but no folder above it.
    rows = size = 0
    with duckdb.connect() as connection:
        engine = Engine(connection, temporary=home / "state" / "spill", memory_limit=COPY_MEMORY)
        for manifest in source.manifests("landed", source.partitions("landed")):
            listed = manifest.facts.get("files")
            if not isinstance(listed, list) or len(listed) != 1:
                raise ValueError(f"{manifest.partition}: a received day of the base must be one file")
            names = {copy: _renamed(listed[0]["digest"], copy) for copy in range(copies)}
            in_order = sorted(names, key=lambda copy: names[copy])
            new: list[NewFile] = []
            for group in _groups(in_order, manifest.rows):
                for file in manifest.files:
                    path = source.folder("landed", manifest.partition) / file.name
                    copied = " union all ".join(_copied(path, copy, names[copy], ids) for copy in group)
                    text = f"select * from ({copied}) order by {SLICE_ORDER}"
                    written = target.staging("landed", manifest.partition)
                    rows_here = engine.write(text, written, row_group_rows=SLICE_GROUP_ROWS)
                    new.append(NewFile(written, file.tag, rows_here))
            new.sort(key=lambda one: one.tag)
            facts = {
                **manifest.facts,
                "files": [
                    {"name": f"{manifest.partition}/{name[:16]}.parquet", "digest": name}
                    for name in names.values()
                ],
                "raw_rows": manifest.rows * copies,
            }
            one = target.commit(
                "landed",
                manifest.partition,
                new,
                schema_version=manifest.schema_version,
                run_id="bench",
                facts=facts,
            )
            rows, size = rows + one.rows, size + one.bytes
    return rows, size


def _renamed(digest: str, copy: int) -> str:
    import hashlib

    return digest if copy == 0 else hashlib.sha256(f"{digest}:{copy}".encode()).hexdigest()


def _groups(copies: Sequence[int], rows: int) -> Iterator[list[int]]:
    """The copies of a received day in runs that are written together, as the door does it."""
    from exp_pipeline.steps.ingest.landed_slices import FLUSH_ROWS

    group: list[int] = []
    for copy in copies:
        group.append(copy)
        if len(group) * rows >= FLUSH_ROWS:
            yield group
            group = []
    if group:
        yield group


def _copied(path: Path, copy: int, file_name: str, ids: Sequence[str]) -> str:
    """One slice as one copy: the rows in their order, with other ids, of another file."""
    from exp_pipeline.store.engine import text_literal

    scan = f"read_parquet({text_literal(str(path))}, hive_partitioning = false)"
    if copy == 0:
        return f"select * from {scan}"
    other = {name: f"md5({name} || ':{copy}')" for name in ids}
    other["learner_key"] = f"cast('0x' || left(md5(learner_id || ':{copy}'), 16) as ubigint)"
    other["file"] = text_literal(file_name[:16])
    replaced = ", ".join(f"{value} as {name}" for name, value in other.items())
    return f"select * replace ({replaced}) from {scan}"


def write_ndjson(home: Path, target: Path, rows: int) -> int:
    """About so many of the base's events as one NDJSON.gz file, unless it is there; returns its rows."""
    import polars as pl

    from exp_pipeline.simulate.landing import ndjson_lines

    done = target.with_suffix(".rows")
    if target.is_file() and done.is_file():
        return int(done.read_text(encoding="utf-8"))
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with target.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=6, mtime=0) as packed:
        for path in sorted((home / "landing").glob("received_date=*/*.parquet")):
            whole = pl.scan_parquet(path, hive_partitioning=False)
            count = int(whole.select(pl.len()).collect().item())
            for first in range(0, count, 100_000):
                part = whole.slice(first, min(100_000, rows - written)).collect()
                packed.write(b"\n".join(ndjson_lines(part)) + b"\n")
                written += part.height
                if written >= rows:
                    break
            if written >= rows:
                break
    done.write_text(f"{written}\n", encoding="utf-8")
    return written
