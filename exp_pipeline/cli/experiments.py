"""One experiment: `readout`, `diff`, `unblind`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from exp_pipeline.cli.runs import brief_named, open_bench
from exp_pipeline.cli.terminal import AsJson, HomeDir, home_of, print_json, say, show_table
from exp_pipeline.model.errors import ExpError

if TYPE_CHECKING:
    from exp_pipeline.steps.context import Workbench

Name = Annotated[str, typer.Argument(metavar="NAME", help="The experiment's name.")]


def readout(
    name: Name,
    snapshot: Annotated[
        str | None, typer.Option("--snapshot", metavar="S", help="A snapshot's name. Default: the newest.")
    ] = None,
    format: Annotated[
        Literal["md", "json", "html-path"],
        typer.Option("--format", help="Markdown, JSON, or where the page lies."),
    ] = "md",
    again: Annotated[
        bool,
        typer.Option("--recompute", help="Compute it again from the snapshot and tell every difference."),
    ] = False,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Print the decision memo as it was made of its snapshot, the same bytes whenever it is asked for.

    Effects stay hidden until the horizon, as in the memo's page.
    """
    from exp_pipeline.steps.again.staleness import staleness
    from exp_pipeline.steps.experiments import sealed_readouts as readouts

    with open_bench(home_of(home)) as bench:
        must_have_readouts(bench, name)
        which = snapshot or readouts.current_snapshot(bench, name)
        if again:
            _recompute(bench, name, which, as_json=as_json or format == "json")
            return
        form = "json" if as_json or format == "json" else "html" if format == "html-path" else "md"
        content = readouts.memo_bytes(bench, name, which, form)
        page = readouts.folder_of(bench, name, which) / "memo.html"
        newest = snapshot is None and name in bench.catalog.briefs
        against = staleness(bench, name) if newest else None
    if against is not None and against.stale:
        typer.echo(against.sentence(), err=True)
    if form == "json":
        typer.echo(content.decode(), nl=False)
    elif form == "md":
        say(content.decode())
    else:
        typer.echo(str(page.resolve()))


def _recompute(bench: Workbench, name: str, snapshot: str, *, as_json: bool) -> None:
    from exp_pipeline.steps.experiments.differences import recompute

    found = recompute(bench, name, snapshot)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        say(f"Snapshot    {found.snapshot}, readout sealed with sha256 {found.stored_digest}")
        say(f"Stored by   {found.stored_by}")
        say(f"Computed by {found.computed_by}")
        for file in found.damaged:
            say(f"Damaged     {file} of the snapshot is not as it was written")
        if found.same_bytes:
            say("The same, to the byte.")
        elif not found.differences:
            say("The same numbers and words, computed by other code.")
        else:
            count = len(found.differences)
            say(f"{count} field{'s differ' if count > 1 else ' differs'}:")
            show_table(
                ("field", "stored", "computed"),
                [(one.field, one.before, one.now) for one in found.differences],
            )
    if found.differences or found.damaged:
        raise typer.Exit(1)


def diff(
    name: Name,
    first: Annotated[str, typer.Argument(metavar="S1", help="The older snapshot.")],
    second: Annotated[
        str | None, typer.Argument(metavar="[S2]", help="The newer snapshot. Default: the newest.")
    ] = None,
    format: Annotated[
        Literal["text", "md", "json"], typer.Option("--format", help="Text, Markdown or JSON.")
    ] = "text",
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell what two readouts of an experiment differ in, and why: data, corrections, metrics, brief, code.

    Where one of them hides effects, none is told.
    """
    from exp_pipeline.report.differences import (
        difference_headline,
        difference_markdown,
        difference_tables,
    )
    from exp_pipeline.steps.experiments.differences import compare_snapshots
    from exp_pipeline.steps.experiments.sealed_readouts import current_snapshot

    with open_bench(home_of(home)) as bench:
        must_have_readouts(bench, name)
        found = compare_snapshots(bench, name, first, second or current_snapshot(bench, name))
    if as_json or format == "json":
        print_json(found.model_dump(mode="json"))
        return
    if format == "md":
        say(difference_markdown(found))
        return
    say(difference_headline(found))
    if found.effects_hidden_because:
        say(f"Effects are hidden. {found.effects_hidden_because}")
    for table in difference_tables(found):
        say(f"\n{table.title}")
        show_table(
            [column.title for column in table.columns],
            [[row[column.key].text for column in table.columns] for row in table.rows],
            right=[column.title for column in table.columns if column.numeric],
        )
        if table.note:
            say(table.note)


def must_have_readouts(bench: Workbench, name: str) -> None:
    """Raise ExpError for an experiment that has neither a brief nor a snapshot; a brief may be gone."""
    from exp_pipeline.store.marts import Marts

    if name not in Marts(bench.home.marts).experiments():
        brief_named(bench.catalog, name)


def unblind(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why effects must be seen early.")],
    by: Annotated[str, typer.Option("--by", metavar="TEAM", help="The team that asks for it.")],
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Record a reason for showing effects before the horizon; the memo will say it, and which team asked."""
    from exp_pipeline.steps.experiments.unblinding import record_unblinding
    from exp_pipeline.steps.opening import open_catalog

    because, team = " ".join(reason.split()), " ".join(by.split())
    if not because:
        raise ExpError("--reason is empty: say why effects must be seen before the horizon")
    if not team:
        raise ExpError("--by is empty: name the team that asks to see effects before the horizon")
    place = home_of(home)
    brief = brief_named(open_catalog(place.catalog), name)
    at = datetime.now(UTC)
    new = record_unblinding(place, brief, because, team, at)
    if as_json:
        print_json({"experiment": name, "reason": because, "by": team, "recorded": new})
        return
    say(
        f"Recorded at {at:%Y-%m-%d %H:%M} UTC: {name} is unblinded for {team}, because: {because}"
        if new
        else "This reason was recorded before."
    )
    say(f"The memo shows effects from its next run on: exp run --experiment {name}")
