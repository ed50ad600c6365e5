"""`source`: other people's logs: which sources there are, what one makes of a file, a draft of one."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exp_pipeline.cli.terminal import DAY, AsJson, HomeDir, home_of, print_json, say, show_table
from exp_pipeline.model.errors import ExpError

if TYPE_CHECKING:
    from exp_pipeline.catalog import Catalog
    from exp_pipeline.model.sources import Source
    from exp_pipeline.steps.sources.trial import LeftOut, Trial, TriedRow

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Bring your own logs: list sources, try one on a file, draft one from a file.",
)
_WIDTH = 78
_LISTED = 20


@app.command(name="list")
def list_sources(home: HomeDir = None, as_json: AsJson = False) -> None:
    """List the sources, the landing files that each reads, and the files that nobody reads."""
    from exp_pipeline.steps.opening import open_catalog
    from exp_pipeline.steps.sources.claims import landed_claims

    place = home_of(home)
    catalog = open_catalog(place.catalog)
    claims = list(landed_claims(place.landing, catalog.sources))
    counts = {source.name: 0 for source in catalog.sources}
    for claim in claims:
        if claim.source is not None:
            counts[claim.source] += 1
    unread = [claim.relative for claim in claims if claim.source is None]
    doubled = [claim for claim in claims if claim.others]
    broken = sorted({str(problem) for problem in catalog.problems if "/sources/" in problem.file})
    if as_json:
        print_json(
            {
                "sources": [
                    {
                        "name": source.name,
                        "description": source.description,
                        "format": source.format,
                        "files": source.files,
                        "owner": source.owner,
                        "landing_files": counts[source.name],
                    }
                    for source in sorted(catalog.sources, key=lambda one: one.name)
                ],
                "unread_files": unread,
                "files_of_several": [asdict(claim) for claim in doubled],
                "problems": broken,
            }
        )
        return
    show_table(
        ("source", "format", "files", "owner", "landed"),
        [
            (source.name, source.format, source.files, source.owner, f"{counts[source.name]:,}")
            for source in sorted(catalog.sources, key=lambda one: one.name)
        ],
        right=("landed",),
    )
    _listing("Files that no source reads", unread)
    _listing(
        "Files that several sources match (the first reads them)",
        [f"{claim.relative}: {claim.source}, {', '.join(claim.others)}" for claim in doubled],
    )
    _listing("Sources left out, with their problems", broken)


def _listing(title: str, lines: list[str]) -> None:
    if not lines:
        return
    say(f"\n{title}: {len(lines):,}")
    for line in lines[:_LISTED]:
        say(f"  {line}")
    if len(lines) > _LISTED:
        say(f"  … and {len(lines) - _LISTED:,} more")


@app.command(name="try")
def try_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A log file, in the landing folder or not.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="NAME|YAML",
            help="A source of the catalog, or a file with one. Default: by name.",
        ),
    ] = None,
    received: Annotated[
        datetime | None,
        typer.Option(
            "--received",
            formats=DAY,
            metavar="DAY",
            help="Judge lateness as if the file landed on this day. Default: by each row's received_at.",
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option("--rows", min=1, help="Of a file above 128 MB, how many rows to read.")
    ] = 200_000,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what a source would make of a file; nothing is written."""
    from exp_pipeline.steps.sources.claims import received_of
    from exp_pipeline.steps.sources.trial import try_source

    if not file.is_file():
        raise ExpError(f"{file}: there is no such file")
    catalog, chosen = _chosen(file, source, home)
    trial = try_source(
        file,
        chosen,
        catalog,
        today=datetime.now(UTC).date(),
        received=received.date() if received else received_of(file.resolve()),
        rows=rows,
    )
    if as_json:
        print_json(asdict(trial))
        return
    _tell(trial)


def _chosen(file: Path, named: str | None, home: Path | None) -> tuple[Catalog, Source]:
    """The catalog (of the data folder, if there is one) and the source that the file is tried with."""
    from exp_pipeline.model.errors import SpecError
    from exp_pipeline.steps.opening import open_catalog
    from exp_pipeline.steps.sources.check import no_catalog, read_source
    from exp_pipeline.steps.sources.claims import source_for
    from exp_pipeline.steps.sources.profile import columns_of

    if named is not None and named.endswith((".yaml", ".yml")):
        own = read_source(Path(named))
        try:
            return open_catalog(home_of(home).catalog), own
        except ExpError:
            if home is not None:
                raise
            return no_catalog(), own
    catalog = open_catalog(home_of(home).catalog)
    if named is None:
        return catalog, source_for(file.absolute(), catalog.sources, columns_of(file))
    for one in catalog.sources:
        if one.name == named:
            return catalog, one
    origin = catalog.origins.get(("source", named))
    if origin is not None:
        raise SpecError(problem for problem in catalog.problems if problem.file == origin.document.file)
    known = ", ".join(one.name for one in catalog.sources)
    raise ExpError(f"there is no source {named}; there are: {known}; or name a YAML file")


def _tell(trial: Trial) -> None:
    part = "" if trial.whole else " (the first rows of a large file)"
    say(f"{trial.file} through source {trial.source}{part}")
    say(f"{_rows(trial.rows_read)} read, {_rows(trial.mapped_rows)} mapped\n")
    if trial.trouble:
        _wrapped("The file is not in the source's format: ", trial.trouble, 0)
        say()
    fates = (
        ("events", sum(trial.events.values()), _counted(trial.events)),
        ("retries", trial.retries, "sent again, with the same payload" if trial.retries else ""),
        ("quarantined", sum(one.rows for one in trial.quarantined), ""),
        ("excluded", sum(one.rows for one in trial.excluded), ""),
    )
    for name, number, words in fates:
        _wrapped(f"  {name:<12}{number:>10,}  ", words, 26)
    say()
    if trial.received is None:
        say("Lateness is judged by each row's received_at (--received DAY: by that day).")
    else:
        say(f"Lateness is judged as landed on {trial.received}.")
    if trial.rows:
        say(f"\n{len(trial.rows)} of the mapped rows (pseudonyms are this trial's own; texts are reduced)")
    for row in trial.rows:
        _tell_row(row)
    _tell_left_out("Quarantined, and why", trial.quarantined)
    _tell_left_out("Excluded, and why", trial.excluded)
    _tell_unmapped(trial)


def _rows(number: int) -> str:
    return f"{number:,} row" if number == 1 else f"{number:,} rows"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items())


def _wrapped(lead: str, text: str, indent: int) -> None:
    """A line that begins with `lead`, broken at 78 characters; what follows is moved in by `indent`."""
    say(
        textwrap.fill(
            lead + text,
            _WIDTH,
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
        )
    )


def _place(row: int, offset: int | None) -> str:
    return f"row {row:,}" if offset is None else f"row {row:,} (byte {offset:,})"


def _tell_row(row: TriedRow) -> None:
    when = "no time" if row.occurred_at is None else f"{row.occurred_at:%Y-%m-%d %H:%M:%S}"
    learner = "no learner" if row.learner is None else f"learner {row.learner}…"
    say(f"\n  {_place(row.row_number, row.byte_offset)}: {row.event_name or 'no event'}")
    if row.fate != "event":
        say(f"    {row.fate}: {row.reason}")
    if row.event_name is None and row.occurred_at is None and row.learner is None:
        return
    fields = ", ".join(f"{name} {value}" for name, value in row.fields.items())
    _wrapped(f"    {when}, {learner}; ", fields, 4)


def _tell_left_out(title: str, left_out: Iterable[LeftOut]) -> None:
    listed = list(left_out)
    if not listed:
        return
    say(f"\n{title}")
    for one in listed:
        _wrapped(f"  {one.reason}: {_rows(one.rows)}", f"; {one.meaning}" if one.meaning else "", 4)
        blamed = [example for example in one.examples if example.field and example.value]
        for example in blamed:
            told = f": {example.field} holds {example.value}"
            told += f"; wanted: {example.wanted}" if example.wanted else ""
            _wrapped(f"    {_place(example.row_number, example.byte_offset)}", told, 6)
        places = [
            _place(example.row_number, example.byte_offset)
            for example in one.examples
            if example not in blamed
        ]
        if places:
            _wrapped("    first: ", ", ".join(places), 6)


def _tell_unmapped(trial: Trial) -> None:
    notes = (
        ("kept in `extra`, by rows", _counted(trial.extra)),
        ("event names that `event_names` does not list, by rows", _counted(trial.unlisted)),
        ("declared columns that no rule reads", ", ".join(trial.unread)),
        ("declared columns without a value in any row", ", ".join(trial.absent)),
    )
    if not any(text for _, text in notes):
        return
    say("\nLeft unmapped")
    for title, text in notes:
        if text:
            _wrapped(f"  {title}: ", text, 4)


@app.command()
def infer(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A log file.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="YAML", help="Where to write the draft. Default: the terminal."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the source. Default: from the file's name.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draft a source from a file: columns, types, guesses, and what a person must decide."""
    from exp_pipeline.steps.sources.draft import draft

    if not file.is_file():
        raise ExpError(f"{file}: there is no such file")
    if out is not None and out.exists():
        raise ExpError(f"{out} is there already; infer overwrites nothing: name a new file")
    drafted = draft(file, name)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(drafted.text, encoding="utf-8")
    if as_json:
        print_json(
            {
                "source": drafted.source.model_dump(mode="json", exclude_defaults=True),
                "yaml": drafted.text,
                "decide": list(drafted.decisions),
                "out": None if out is None else str(out),
            }
        )
        return
    if out is None:
        say(drafted.text.rstrip())
        return
    say(f"Wrote {out}: a draft of source {drafted.source.name}.")
    if drafted.decisions:
        say("To decide:")
        for decision in drafted.decisions:
            _wrapped("  - ", decision, 4)
    say(f"\nNext: exp source try {file} --source {out}")
