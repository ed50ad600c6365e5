"""Where a person's pseudonyms stand in the lake and the marts, and how landed rows are emptied of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from exp_pipeline.contracts.fields import identifiers
from exp_pipeline.steps.context import Workbench, day_of
from exp_pipeline.steps.ingest.landed_slices import SLICE_GROUP_ROWS, SLICE_ORDER
from exp_pipeline.steps.people.identity import OWN_COLUMNS
from exp_pipeline.store.engine import quote, text_literal
from exp_pipeline.store.lake import Manifest, NewFile
from exp_pipeline.transform.door import landed_columns

# What a landed row of an erased person keeps: its place, so that every raw row is still accounted for.
_KEPT = ("source", "file", "row_number", "part", "byte_offset", "received_date", "key_id")


def id_columns() -> tuple[str, ...]:
    """The columns of any table that may hold a pseudonym of a person or an organisation."""
    return (*identifiers(), "cluster_id")


@dataclass(frozen=True, slots=True)
class Traces:
    """Rows that name a person: by lake table and partition, and by file of the marts (relative path)."""

    lake: Mapping[str, Mapping[str, int]]
    marts: Mapping[str, int]

    def __bool__(self) -> bool:
        return bool(self.lake or self.marts)

    def rows(self) -> dict[str, int]:
        """Rows by table of the lake; those of the marts under `marts`."""
        counted = {table: sum(partitions.values()) for table, partitions in sorted(self.lake.items())}
        return {**counted, "marts": sum(self.marts.values())} if self.marts else counted

    def event_days(self) -> set[date]:
        """The event days of the partitions."""
        return {
            day_of(partition)
            for partitions in self.lake.values()
            for partition in partitions
            if partition.startswith("event_date=")
        }


def find_traces(bench: Workbench, names: Sequence[str]) -> Traces:
    """Every row of the lake and the marts that carries one of the pseudonyms in an id column."""
    lake = bench.lake
    found: dict[str, dict[str, int]] = {}
    tables = (
        sorted(entry.name for entry in lake.root.iterdir() if entry.is_dir()) if lake.root.is_dir() else []
    )
    for table in tables:
        for manifest in lake.manifests(table, lake.partitions(table)):
            rows = sum(_count(bench, lake.paths([manifest]), names).values())
            if rows:
                found.setdefault(table, {})[manifest.partition] = rows
    root = bench.home.marts
    # What is being written has a folder whose name begins with a dot, and may be half a file.
    whole = [path for path in root.rglob("*.parquet") if "/." not in path.relative_to(root).as_posix()]
    files = sorted(whole)
    marts = {path.relative_to(root).as_posix(): rows for path, rows in _count(bench, files, names).items()}
    return Traces(found, marts)


def _count(bench: Workbench, files: Iterable[Path], names: Sequence[str]) -> dict[Path, int]:
    """Rows that carry one of the names, by file; files without any are left out."""
    counted: dict[Path, int] = {}
    for path in files:
        scan = f"read_parquet({text_literal(str(path))}, hive_partitioning = false)"
        present = bench.engine.connection.execute(f"describe select * from {scan}").fetchall()
        held = [row[0] for row in present if row[0] in id_columns() and row[1] == "VARCHAR"]
        if not held:
            continue
        (rows,) = bench.engine.row(
            f"select count(*) from {scan} where {_any_of(held)}", {"names": list(names)}
        )
        if rows:
            counted[path] = int(rows)
    return counted


def _any_of(columns: Iterable[str]) -> str:
    return " or ".join(f"list_contains($names, {quote(name)})" for name in columns)


@dataclass(frozen=True, slots=True)
class LandedTraces:
    """What landed rows hold of a person: received days, event days to settle again, rows by landing file."""

    received: tuple[str, ...]
    days: frozenset[date]
    files: Mapping[str, int]


def landed_traces(bench: Workbench, names: Sequence[str], partitions: Iterable[str]) -> LandedTraces:
    """What follows from a person's landed rows, before they are emptied.

    To settle again are the days of the rows themselves, of rows that only mention the person, of the day each
    of them was received (where the emptied row will stand), and of rows that share an event id with one.
    """
    received = tuple(partitions)
    lake = bench.lake
    if not received:
        return LandedTraces((), frozenset(), {})
    columns = landed_columns(bench.shape())
    held = [name for name in id_columns() if name in columns]
    manifests = lake.manifests("landed", received)
    bench.read("traced", "landed", manifests)
    parameters = {"names": list(names)}
    days = {row[0] for row in bench.engine.connection.execute(
        f"select distinct event_date from traced where {_any_of(held)} "
        f"union select distinct received_date from traced where {_any_of(OWN_COLUMNS)}", parameters
    ).fetchall()}  # fmt: skip
    bench.engine.build(
        "traced_events",
        f"select distinct event_id from traced where event_id is not null and ({_any_of(held)})",
        parameters,
    )
    bench.read("all_landed", "landed", lake.manifests("landed", lake.partitions("landed")))
    days |= {row[0] for row in bench.engine.connection.execute(
        "select distinct l.event_date from all_landed as l "
        "inner join traced_events as t on l.event_id = t.event_id"
    ).fetchall()}  # fmt: skip
    known = {short: name for manifest in manifests for short, name in _file_names(manifest).items()}
    files = {
        known.get(row[0], row[0]): int(row[1])
        for row in bench.engine.connection.execute(
            f"select file, count(distinct row_number) from traced where {_any_of(held)} "
            "group by file order by file",
            parameters,
        ).fetchall()
    }
    bench.engine.drop("traced_events")
    return LandedTraces(received, frozenset(days), files)


def _file_names(manifest: Manifest) -> dict[str, str]:
    """Short names of a received day's landing files to their paths in the landing folder."""
    listed = manifest.facts.get("files", [])
    files = listed if isinstance(listed, list) else []
    return {str(file["digest"])[:16]: str(file["name"]) for file in files}


def empty_landed(bench: Workbench, names: Sequence[str], partition: str) -> None:
    """Empty a person's rows of one received day, as the door does when the file lands again.

    Their own rows keep their place alone, with reason `erased`, under the day they were received; in rows of
    others the mention becomes null. The other rows keep their order and values.
    """
    engine, lake = bench.engine, bench.lake
    manifest = lake.manifest("landed", partition)
    if manifest is None:
        return
    bench.read("landed_before", "landed", [manifest])
    columns = landed_columns(bench.shape())
    own = f"coalesce({_any_of(OWN_COLUMNS)}, false)"
    chosen = []
    for name, kind in columns.items():
        value, emptied = quote(name), f"null::{kind}"
        if name in _KEPT:
            emptied = value
        elif name in ("event_date", "arrived_date"):
            emptied = "received_date"
        elif name == "reason":
            emptied = "'erased'"
        elif name == "clock_skewed":
            emptied = "false"
        if name in id_columns():
            value = f"case when not list_contains($names, {value}) then {value} end"
        chosen.append(f"case when {own} then {emptied} else {value} end as {quote(name)}")
    parameters = {"names": list(names)}
    engine.build("landed_rows", f"select {', '.join(chosen)} from landed_before", parameters)
    listed = ", ".join(quote(name) for name in columns)
    unusable = engine.row("select count(*) from landed_rows where reason is not null")[0]
    days = engine.connection.execute(
        "select cast(event_date as varchar), count(*) from landed_rows group by all order by all"
    ).fetchall()
    new_files = []
    for day, rows in days:
        path = lake.staging("landed", partition)
        engine.write(
            f"select {listed} from landed_rows where event_date = {text_literal(day)}::date "
            f"order by {SLICE_ORDER}",
            path,
            row_group_rows=SLICE_GROUP_ROWS,
        )
        new_files.append(NewFile(path, day, rows))
    engine.drop("landed_rows")
    facts = dict(manifest.facts)
    if "unusable_rows" in facts:
        facts["unusable_rows"] = unusable
    lake.commit(
        "landed", partition, new_files, schema_version=bench.schema_version("landed"), run_id=bench.run_id,
        facts=facts,
    )  # fmt: skip


def drop_rows(bench: Workbench, names: Sequence[str], table: str, partition: str) -> None:
    """Write a partition again without the rows that carry one of the names; for tables no step rebuilds."""
    lake = bench.lake
    manifest = lake.manifest(table, partition)
    if manifest is None:
        return
    new_files = []
    for file in manifest.files:
        before = lake.folder(table, partition) / file.name
        path = lake.staging(table, partition)
        if not _count(bench, [before], names):
            shutil.copyfile(before, path)
            new_files.append(NewFile(path, file.tag, file.rows))
            continue
        scan = f"read_parquet({text_literal(str(before))}, hive_partitioning = false)"
        present = bench.engine.connection.execute(f"describe select * from {scan}").fetchall()
        held = [row[0] for row in present if row[0] in id_columns() and row[1] == "VARCHAR"]
        rows = bench.engine.write(
            f"select * from {scan} where not coalesce({_any_of(held)}, false)", path, {"names": list(names)}
        )
        new_files.append(NewFile(path, file.tag, rows))
    lake.commit(
        table, partition, new_files, schema_version=manifest.schema_version, run_id=bench.run_id,
        facts=json.loads(json.dumps(manifest.facts)),
    )  # fmt: skip
