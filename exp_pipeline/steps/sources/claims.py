"""Which source reads which file: of the landing folder, or of a file that has not landed yet."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path

from exp_pipeline.model.errors import SourceError
from exp_pipeline.model.sources import Source
from exp_pipeline.store.landing import RECEIVED

_SUFFIXES = {
    "ndjson": (".ndjson", ".jsonl", ".json", ".ndjson.gz", ".jsonl.gz", ".json.gz"),
    "csv": (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz"),
    "parquet": (".parquet", ".pq"),
}


@dataclass(frozen=True, slots=True)
class Claimed:
    """A file of the landing folder, the source that reads it, and the others whose glob matches it too."""

    relative: str
    source: str | None
    others: tuple[str, ...]


def by_claim(sources: Sequence[Source], relative: str) -> list[Source]:
    """The sources whose glob matches a landing file, the one that reads it first."""
    matching = [source for source in sources if source.claims(relative)]
    return sorted(matching, key=lambda one: (-one.spelled(), one.name))


def landed_claims(root: Path, sources: Sequence[Source]) -> Iterator[Claimed]:
    """Every file of the landing folder with who reads it, in the order of paths; no file is opened."""
    for path in sorted(root.glob(f"{RECEIVED}*/**/*")):
        relative = path.relative_to(root)
        if any(part.startswith(".") for part in relative.parts) or not path.is_file():
            continue
        names = [one.name for one in by_claim(sources, relative.as_posix())]
        yield Claimed(relative.as_posix(), names[0] if names else None, tuple(names[1:]))


def received_of(file: Path) -> date | None:
    """The day in the name of a folder `received_date=YYYY-MM-DD` above a file; None where there is none."""
    for part in reversed(file.parts[:-1]):
        if part.startswith(RECEIVED):
            try:
                return date.fromisoformat(part.removeprefix(RECEIVED))
            except ValueError:
                return None
    return None


def format_of(file: Path) -> str | None:
    """Which format a file's name speaks of; None where it speaks of none."""
    name = file.name.lower()
    return next((kind for kind, endings in _SUFFIXES.items() if name.endswith(endings)), None)


def source_for(file: Path, sources: Sequence[Source], columns: Collection[str] | None) -> Source:
    """The source that would read a file, wherever it lies: by its path, its name, and its columns.

    `columns` are those of a CSV or Parquet file (None: not known). Raises SourceError where no source fits,
    or several fit equally well.
    """
    below = file.as_posix().rpartition(f"/{RECEIVED}")[2]
    landed = by_claim(sources, RECEIVED + below) if RECEIVED in file.as_posix() else []
    if landed:
        return landed[0]
    named = [one for one in sources if fnmatchcase(file.name, one.files.rpartition("/")[2])]
    # A folder that the glob names and the path has, too, says more than the name alone.
    tail = [one for one in named if fnmatchcase(file.as_posix(), f"*/{one.files.partition('/')[2]}")]
    fitting = [one for one in tail if one.files.count("/") > 1] or named
    if columns is not None and len(fitting) > 1:
        fitting = [one for one in fitting if _holds(columns, one)] or fitting
    if len(fitting) == 1:
        return fitting[0]
    draft = "or draft one: exp source infer FILE --out SOURCE.yaml"
    if fitting:
        names = ", ".join(sorted(one.name for one in fitting))
        raise SourceError(f"{file}: several sources could read it: {names}; name one with --source, {draft}")
    known = ", ".join(one.name for one in sources) or "there is none"
    raise SourceError(
        f"{file}: no source's `files` matches this name; name one with --source ({known}), {draft}"
    )


def _holds(columns: Collection[str], source: Source) -> bool:
    if source.identity:
        return {"event_id", "event_name"} <= set(columns)
    return not source.missing_from(columns)
