"""Readouts on disk: facts as JSON, tables of results, memos in three forms, the index of all experiments."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import polars as pl

from exp_pipeline.analysis.readout import ReadoutInputs, read_out
from exp_pipeline.model.base import Noun
from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.readout import (
    CumulativePoint,
    Estimate,
    IntegrityCheck,
    NoveltyContrast,
    NoveltyPoint,
    Readout,
    RobustnessRow,
    SegmentDifference,
)
from exp_pipeline.report import index_entry, index_html, render_memo
from exp_pipeline.steps.again.staleness import Staleness, since_last, stale_readouts, staleness
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.chain import brief_of, compute_readout, lock_of
from exp_pipeline.steps.experiments.unblinding import unblindings_of
from exp_pipeline.store.files import write_text
from exp_pipeline.store.marts import Marts

RESULTS: dict[str, type[Noun]] = {
    "estimates": Estimate,
    "segments": Estimate,
    "segment_differences": SegmentDifference,
    "cumulative": CumulativePoint,
    "novelty": NoveltyPoint,
    "novelty_contrasts": NoveltyContrast,
    "robustness": RobustnessRow,
    "integrity": IntegrityCheck,
}


@dataclass(frozen=True, slots=True)
class MemoFiles:
    """Where one experiment's memo lies, in each form, and the readout it was made from.

    `stale` says which inputs changed since its snapshot was made; empty where none did.
    """

    experiment: str
    snapshot: str
    readout: Readout
    html: Path
    markdown: Path
    json: Path
    seconds: float
    stale: str = ""


def folder_of(bench: Workbench, experiment: str, snapshot: str) -> Path:
    """Where the readout of a snapshot lies."""
    return bench.home.readouts / f"experiment={experiment}" / f"snapshot={snapshot}"


def current_snapshot(bench: Workbench, experiment: str) -> str:
    """The experiment's newest snapshot. Raises ExpError where there is none."""
    snapshot = Marts(bench.home.marts).current(experiment)
    if snapshot is None:
        raise ExpError(
            f"experiment {experiment} has no snapshot yet: materialize `mad` first "
            f"(`exp run --experiment {experiment}`)"
        )
    return snapshot


def readout_of(bench: Workbench, experiment: str, snapshot: str | None = None) -> Readout:
    """The readout of a snapshot (the current one, unless named), computed once for the state it depends on.

    It is read from disk where snapshot, brief, lock and unblinding are those it was computed with, so every
    asset of an experiment speaks of the same numbers.
    """
    name = snapshot or current_snapshot(bench, experiment)
    path = folder_of(bench, experiment, name) / "readout.json"
    brief = brief_of(bench, experiment)
    lock = lock_of(bench, brief)
    before = _readout_before(bench, experiment, name)
    state = digest_of(
        [
            brief.digest(),
            lock.model_dump(mode="json"),
            bench.code_version,
            [one.model_dump(mode="json") for one in unblindings_of(bench.home, brief)],
            *([before.provenance.snapshot] if before is not None else []),
        ]
    )
    key = folder_of(bench, experiment, name) / "state.json"
    if path.is_file() and key.is_file() and json.loads(key.read_text()) == {"state": state}:
        return Readout.model_validate_json(path.read_text())
    readout = compute_readout(bench, experiment, name)
    if before is not None:
        readout = readout.model_copy(update={"since_last": since_last(bench, readout, before)})
    write_text(path, readout.model_dump_json(indent=1) + "\n")
    write_text(key, json.dumps({"state": state}) + "\n")
    return readout


def _readout_before(bench: Workbench, experiment: str, snapshot: str) -> Readout | None:
    """The readout as it was given of the snapshot before the current one; None for an older snapshot."""
    marts = Marts(bench.home.marts)
    before = marts.before(experiment) if marts.current(experiment) == snapshot else None
    path = folder_of(bench, experiment, before) / "readout.json" if before is not None else None
    return Readout.model_validate_json(path.read_text()) if path is not None and path.is_file() else None


def result_frame(rows: Sequence[Noun], kind: type[Noun]) -> pl.DataFrame:
    """Results as a table with one column a field, typed also where every value is missing; nested as JSON."""
    columns = {name: _column_type(field.annotation) for name, field in kind.model_fields.items()}
    records = []
    for row in rows:
        plain = row.model_dump(mode="json")
        records.append({name: _flat(plain[name], column) for name, column in columns.items()})
    return pl.DataFrame(records, schema=columns)


def _column_type(annotation: object) -> pl.DataType:
    """The column type of a field: numbers and truths as they are, everything else as text (days too)."""
    kinds: dict[object, pl.DataType] = {bool: pl.Boolean(), int: pl.Int64(), float: pl.Float64()}
    parts = [one for one in get_args(annotation) or (annotation,) if one is not type(None)]
    return kinds.get(parts[0], pl.String()) if len(parts) == 1 else pl.String()


def _flat(value: object, kind: pl.DataType) -> object:
    if isinstance(value, str) and kind == pl.Float64:
        return float(value)  # JSON has no infinity: it comes as text
    return json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else value


def write_results(bench: Workbench, experiment: str, names: Sequence[str]) -> dict[str, pl.DataFrame]:
    """Write some result tables of the current readout as Parquet beside it; gives them back."""
    readout = readout_of(bench, experiment)
    folder = folder_of(bench, experiment, readout.provenance.snapshot)
    frames = {}
    for name in names:
        frame = result_frame(getattr(readout, name), RESULTS[name])
        path = folder / f"{name}.parquet"
        temporary = folder / f".{name}.tmp"
        frame.write_parquet(temporary, compression="zstd")
        temporary.replace(path)
        frames[name] = frame
    return frames


def write_memo(bench: Workbench, experiment: str) -> MemoFiles:
    """Write the memo of the current readout in three forms beside it, and as `readouts/<experiment>.*`."""
    started = time.monotonic()
    readout = readout_of(bench, experiment)
    against = staleness(bench, experiment)
    stale = against.sentence() if against is not None and against.stale else ""
    limits = (stale, *readout.limits) if stale else readout.limits
    memo = render_memo(readout.model_copy(update={"limits": limits}))
    folder = folder_of(bench, experiment, readout.provenance.snapshot)
    latest = bench.home.readouts / experiment
    for text, suffix in ((memo.html, "html"), (memo.markdown, "md"), (memo.json, "json")):
        write_text(folder / f"memo.{suffix}", text)
        write_text(latest.with_name(f"{experiment}.{suffix}"), text)
    write_index(bench)
    return MemoFiles(
        experiment=experiment,
        snapshot=readout.provenance.snapshot,
        readout=readout,
        stale=stale,
        html=bench.home.readouts / f"{experiment}.html",
        markdown=bench.home.readouts / f"{experiment}.md",
        json=bench.home.readouts / f"{experiment}.json",
        seconds=round(time.monotonic() - started, 3),
    )


def mark_stale(bench: Workbench) -> tuple[Staleness, ...]:
    """Write the memos of stale readouts again, so that they and the index say so; gives what was found."""
    found = stale_readouts(bench)
    for one in found:
        if (bench.home.readouts / f"{one.experiment}.html").is_file():
            write_memo(bench, one.experiment)
    return found


def write_index(bench: Workbench) -> Path:
    """Write the page that lists every experiment with a memo."""
    entries = []
    stale = {one.experiment for one in stale_readouts(bench)}
    for name in sorted(bench.catalog.briefs):
        snapshot = Marts(bench.home.marts).current(name)
        path = folder_of(bench, name, snapshot) / "readout.json" if snapshot else None
        if path is not None and path.is_file() and (bench.home.readouts / f"{name}.html").is_file():
            readout = Readout.model_validate_json(path.read_text())
            entries.append(index_entry(readout, f"{name}.html", stale=name in stale))
    path = bench.home.readouts / "index.html"
    write_text(path, index_html(entries))
    return path


def analyse_table(inputs: ReadoutInputs, out: Path) -> tuple[Readout, Path]:
    """The same readout and memo for a unit table from elsewhere; written to `out`."""
    readout = read_out(inputs)
    memo = render_memo(readout)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "readout.json", readout.model_dump_json(indent=1) + "\n")
    for text, suffix in ((memo.html, "html"), (memo.markdown, "md"), (memo.json, "json")):
        write_text(out / f"memo.{suffix}", text)
    return readout, out / "memo.html"
