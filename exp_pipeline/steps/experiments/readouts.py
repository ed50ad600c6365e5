"""Readouts on disk: facts as JSON, tables of results, memos in three forms, the index of all experiments."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import polars as pl
from pydantic import ValidationError

from exp_pipeline.analysis.deciding.movement import movements
from exp_pipeline.analysis.readout import ReadoutInputs, read_out
from exp_pipeline.model.base import Noun
from exp_pipeline.model.errors import ExpError, StoreError
from exp_pipeline.model.readout import (
    CumulativePoint,
    Estimate,
    IntegrityCheck,
    NoveltyContrast,
    NoveltyPoint,
    Readout,
    RobustnessRow,
    SegmentDifference,
    SinceLast,
)
from exp_pipeline.report import index_entry, index_html, render_memo
from exp_pipeline.report.memo import Memo
from exp_pipeline.steps.again.staleness import Staleness, stale_readouts, staleness
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.chain import compute_readout
from exp_pipeline.steps.experiments.erased import refuse_erased
from exp_pipeline.steps.experiments.kept import read_kept
from exp_pipeline.store.files import write_text
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.sealed import read_sealed, restore, seal

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
READOUT_FILE = "readout.json"
MEMO_FORMS = ("html", "md", "json")
_READOUT, _MEMO = "readout", "memo"


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
    """The readout of a snapshot (the current one, unless named), computed once and the same ever after.

    Raises ExpError where this version cannot read the form in which another one wrote it.
    """
    name = snapshot or current_snapshot(bench, experiment)
    return parsed_readout(readout_bytes(bench, experiment, name), experiment, name)


def readout_bytes(bench: Workbench, experiment: str, snapshot: str) -> bytes:
    """The readout of a snapshot as JSON: the bytes that were sealed when it was first made.

    Made now where it never was, from what the snapshot keeps. Raises ExpError where the snapshot was erased
    or does not exist, and StoreError where the file was changed and cannot be put back.
    """
    refuse_erased(bench.home, experiment, snapshot)
    folder = folder_of(bench, experiment, snapshot)
    try:
        found = read_sealed(folder, _READOUT, READOUT_FILE)
    except StoreError as damage:
        again = _made(bench, experiment, snapshot)
        if not restore(folder, _READOUT, READOUT_FILE, again):
            raise StoreError(
                f"{damage}, and this version of the program computes other bytes from the snapshot: bring "
                "the file back from a copy, or see what differs with "
                f"`exp readout {experiment} --snapshot {snapshot} --recompute`"
            ) from damage
        return again
    if found is None:
        seal(folder, _READOUT, {READOUT_FILE: _made(bench, experiment, snapshot)})
        found = read_sealed(folder, _READOUT, READOUT_FILE)
    if found is None:
        raise StoreError(f"{folder / READOUT_FILE} could not be sealed")
    return found


def parsed_readout(encoded: bytes, experiment: str, snapshot: str) -> Readout:
    """A stored readout. Raises ExpError where its form is another version's."""
    try:
        return Readout.model_validate_json(encoded)
    except ValidationError as trouble:
        first = trouble.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ExpError(
            f"the readout of snapshot {snapshot} of {experiment} has the form of another version of the "
            f"program ({place}: {first['msg']}): `exp readout {experiment} --snapshot {snapshot} --json` "
            "gives it as it was written, `--recompute` computes it again"
        ) from trouble


def _made(bench: Workbench, experiment: str, snapshot: str) -> bytes:
    readout = compute_readout(bench, experiment, snapshot)
    since = since_before(bench, experiment, snapshot, readout)
    if since is not None:
        readout = readout.model_copy(update={"since_last": since})
    return (readout.model_dump_json(indent=1) + "\n").encode()


def since_before(bench: Workbench, experiment: str, snapshot: str, readout: Readout) -> SinceLast | None:
    """What changed since the readout of the snapshot before; None where there was none that can be read."""
    before = read_kept(Marts(bench.home.marts).folder(experiment, snapshot)).before
    if before is None:
        return None
    encoded = read_sealed(folder_of(bench, experiment, before.snapshot), _READOUT, READOUT_FILE)
    try:
        last = Readout.model_validate_json(encoded) if encoded is not None else None
    except ValidationError:
        # Written in another version's form: nothing can be said of how its numbers moved.
        last = None
    if last is None:
        return None
    return SinceLast(
        snapshot=before.snapshot, as_of=before.as_of, inputs=before.inputs, movements=movements(last, readout)
    )


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


def memo_bytes(
    bench: Workbench, experiment: str, snapshot: str, form: str, readout: Readout | None = None
) -> bytes:
    """The memo of a snapshot in one form (`html`, `md` or `json`): the bytes that were sealed with it.

    Drawn now where it never was. Raises as `readout_bytes` does.
    """
    refuse_erased(bench.home, experiment, snapshot)
    folder, name = folder_of(bench, experiment, snapshot), f"memo.{form}"
    found = read_sealed(folder, _MEMO, name)
    if found is None:
        drawn = render_memo(readout or readout_of(bench, experiment, snapshot))
        seal(folder, _MEMO, {f"memo.{suffix}": text for suffix, text in _texts(drawn).items()})
        found = read_sealed(folder, _MEMO, name)
    if found is None:
        raise ValueError(f"form must be one of {', '.join(MEMO_FORMS)}; got {form!r}")
    return found


def _texts(memo: Memo) -> dict[str, bytes]:
    return {"html": memo.html.encode(), "md": memo.markdown.encode(), "json": memo.json.encode()}


def write_memo(bench: Workbench, experiment: str) -> MemoFiles:
    """Write the memo of the current readout: sealed beside it, and as `readouts/<experiment>.*`.

    The latter also says where the readout has become stale since.
    """
    started = time.monotonic()
    readout = readout_of(bench, experiment)
    snapshot = readout.provenance.snapshot
    texts = {suffix: memo_bytes(bench, experiment, snapshot, suffix, readout) for suffix in MEMO_FORMS}
    against = staleness(bench, experiment)
    stale = against.sentence() if against is not None and against.stale else ""
    if stale:
        memo = render_memo(readout.model_copy(update={"limits": (stale, *readout.limits)}))
        texts |= _texts(memo)
    for suffix, text in texts.items():
        write_text(bench.home.readouts / f"{experiment}.{suffix}", text.decode())
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
