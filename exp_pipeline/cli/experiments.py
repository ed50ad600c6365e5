"""One experiment: `readout`, `unblind`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from exp_pipeline.cli.runs import brief_named, open_bench
from exp_pipeline.cli.terminal import AsJson, HomeDir, home_of, print_json, say
from exp_pipeline.model.errors import ExpError

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
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Print the decision memo. Effects stay hidden until the horizon, as in the memo's page."""
    from exp_pipeline.report import memo_html, memo_json, memo_markdown
    from exp_pipeline.steps.experiments import readouts
    from exp_pipeline.store.files import write_text

    with open_bench(home_of(home)) as bench:
        brief_named(bench.catalog, name)
        found = readouts.readout_of(bench, name, snapshot)
        page = readouts.folder_of(bench, name, found.provenance.snapshot) / "memo.html"
    if as_json or format == "json":
        typer.echo(memo_json(found), nl=False)
    elif format == "md":
        say(memo_markdown(found))
    else:
        write_text(page, memo_html(found))
        typer.echo(str(page.resolve()))


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
