"""One experiment: `readout`, `unblind`."""

from __future__ import annotations

import hashlib
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
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Record a reason for showing effects before the horizon; the memo will say it."""
    from exp_pipeline.steps.opening import open_catalog
    from exp_pipeline.store.state import StateLog

    because = " ".join(reason.split())
    if not because:
        raise ExpError("--reason is empty: say why effects must be seen before the horizon")
    place = home_of(home)
    brief_named(open_catalog(place.catalog), name)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    key = hashlib.sha256(f"{name}\0{because}".encode()).hexdigest()
    new = StateLog(place.state / "state.sqlite").append(
        "unblinding", name, key=key, at=at, content={"reason": because}
    )
    if as_json:
        print_json({"experiment": name, "reason": because, "recorded": new})
        return
    say(
        f"Recorded at {at} UTC: {name} is unblinded, because: {because}"
        if new
        else "This reason was recorded before."
    )
    say(f"The memo shows effects from its next run on: exp run --experiment {name}")
