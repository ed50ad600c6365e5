"""Readouts on disk: facts as JSON, tables of results, memos in three forms, the index of all experiments."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import get_args

import polars as pl

from exp_pipeline.analysis.readout import ReadoutInputs, read_out
from exp_pipeline.model.base import Noun
from exp_pipeline.model.errors import StoreError
from exp_pipeline.model.readout import (
    ComplierEffect,
    CumulativePoint,
    Estimate,
    FamilyResult,
    IntegrityCheck,
    NoveltyContrast,
    NoveltyDay,
    NoveltyPoint,
    NoveltySplit,
    NoveltyTrend,
    Readout,
    RobustnessRow,
    SegmentDifference,
    ShrunkenEffect,
)
from exp_pipeline.report import (
    IndexEntry,
    decision_log_html,
    index_entry,
    index_html,
    render_memo,
    review_board_html,
)
from exp_pipeline.report.overview.listing import PageName
from exp_pipeline.steps.again.staleness import Staleness, stale_readouts, staleness
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.decision_log import decisions, record_recommendation
from exp_pipeline.steps.experiments.drafting import intake_rows
from exp_pipeline.steps.experiments.sealed_readouts import (
    MEMO_FORMS,
    current_snapshot,
    drawn_memo,
    folder_of,
    memo_bytes,
    published,
    readout_of,
)
from exp_pipeline.steps.experiments.stored_readouts import stored_readout
from exp_pipeline.steps.operating.life import life_as_known
from exp_pipeline.store.files import replace_file, temporary_beside, write_text

__all__ = [
    "RESULTS",
    "MemoFiles",
    "analyse_table",
    "current_snapshot",
    "folder_of",
    "mark_stale",
    "readout_of",
    "result_frame",
    "write_index",
    "write_memo",
    "write_results",
]

RESULTS: dict[str, type[Noun]] = {
    "estimates": Estimate,
    "segments": Estimate,
    "segment_differences": SegmentDifference,
    "shrunken": ShrunkenEffect,
    "compliance": ComplierEffect,
    "arms_compared": Estimate,
    "families": FamilyResult,
    "cumulative": CumulativePoint,
    "novelty": NoveltyPoint,
    "novelty_days": NoveltyDay,
    "novelty_contrasts": NoveltyContrast,
    "novelty_splits": NoveltySplit,
    "novelty_trend": NoveltyTrend,
    "robustness": RobustnessRow,
    "integrity": IntegrityCheck,
}
_PAGES: tuple[PageName, ...] = ("index", "decisions", "reviews")


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
        # A name of its own: another run may write the same table at the same time.
        temporary = temporary_beside(path)
        try:
            frame.write_parquet(temporary, compression="zstd")
            replace_file(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        frames[name] = frame
    return frames


def write_memo(bench: Workbench, experiment: str, *, decided_at: datetime | None = None) -> MemoFiles:
    """Write the memo of the current readout: sealed beside it, and as `readouts/<experiment>.*`.

    The latter also says where the readout has become stale since. With `decided_at` what the readout
    recommends is logged as of that moment, where it is to be logged.
    """
    started = time.monotonic()
    readout = readout_of(bench, experiment)
    if decided_at is not None:
        record_recommendation(bench, readout, decided_at)
    snapshot = readout.provenance.snapshot
    sealed = {form: memo_bytes(bench, experiment, snapshot, form, readout) for form in MEMO_FORMS}
    against = staleness(bench, experiment)
    stale = against.sentence() if against is not None and against.stale else ""
    if stale:
        marked = readout.model_copy(update={"limits": (stale, *readout.limits)})
        sealed = drawn_memo(bench, experiment, snapshot, marked, notice=stale)
    for suffix, text in published(sealed).items():
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


@dataclass(frozen=True, slots=True)
class StaleReadouts:
    """Readouts that the lake has moved away from: all of them, and those whose memo did not say so yet."""

    found: tuple[Staleness, ...]
    new: tuple[Staleness, ...]


def mark_stale(bench: Workbench) -> StaleReadouts:
    """Write the memos of stale readouts again, so that they and the index say so."""
    found = stale_readouts(bench)
    new = tuple(one for one in found if _unmarked(bench, one))
    for one in new:
        write_memo(bench, one.experiment)
    return StaleReadouts(found, new)


def _unmarked(bench: Workbench, one: Staleness) -> bool:
    """Whether an experiment has a memo, and that does not say what has changed since."""
    path = bench.home.readouts / f"{one.experiment}.json"
    return path.is_file() and one.sentence() not in json.loads(path.read_text(encoding="utf-8"))["limits"]


def write_index(bench: Workbench) -> Path:
    """Write the page that lists every experiment with a memo; beside it the decision log and review board."""
    entries: list[IndexEntry] = []
    unreadable: list[str] = []
    stale = {one.experiment for one in stale_readouts(bench)}
    for name, brief in sorted(bench.catalog.briefs.items()):
        if not (bench.home.readouts / f"{name}.html").is_file():
            continue
        try:
            readout = stored_readout(bench.home, name)
        except StoreError:
            unreadable.append(name)
            continue
        if readout is not None:
            state = life_as_known(bench, brief).now.state
            # Where a brief was never locked, its data still say how far it is.
            known = None if state in ("draft", "ready") else state
            entries.append(index_entry(readout, f"{name}.html", stale=name in stale, state=known))
    path = bench.home.readouts / "index.html"
    weekly: tuple[PageName, ...] = ("weekly",) if (bench.home.readouts / "weekly.html").is_file() else ()
    pages = (*_PAGES, *weekly)
    write_text(path, index_html(entries, pages, unreadable=unreadable))
    log = decision_log_html(decisions(bench.home), pages, root=f"{bench.home.readouts.name}/")
    write_text(bench.home.readouts / "decisions.html", log)
    write_text(bench.home.readouts / "reviews.html", _review_board(bench, pages))
    return path


def _review_board(bench: Workbench, pages: Sequence[PageName]) -> str:
    """Briefs that may still need a review: all but those whose end has come."""
    rows = [row for row in intake_rows(bench.home, bench.catalog) if row.state != "over"]
    memos = {row.experiment: f"{row.experiment}.html" for row in rows}
    found = {name: page for name, page in memos.items() if (bench.home.readouts / page).is_file()}
    teams = {kind.name: kind.team for kind in bench.catalog.reviews.kinds}
    return review_board_html(rows, pages, pages=found, teams=teams)


def analyse_table(inputs: ReadoutInputs, out: Path) -> tuple[Readout, Path]:
    """The same readout and memo for a unit table from elsewhere; written to `out`."""
    readout = read_out(inputs)
    memo = render_memo(readout)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "readout.json", readout.model_dump_json(indent=1) + "\n")
    for text, suffix in ((memo.html, "html"), (memo.markdown, "md"), (memo.json, "json")):
        write_text(out / f"memo.{suffix}", text)
    return readout, out / "memo.html"
