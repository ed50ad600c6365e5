"""One experiment: `plan`, `readout`, `unblind`."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from exp_pipeline.cli.runs import brief_named, open_bench
from exp_pipeline.cli.terminal import AsJson, HomeDir, home_of, print_json, say, show_table
from exp_pipeline.model.errors import ExpError

Name = Annotated[str, typer.Argument(metavar="NAME", help="The experiment's name.")]


def plan(name: Name, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Tell how many units and weeks a brief needs, and what keeps it from starting."""
    from exp_pipeline.steps import planning

    with open_bench(home_of(home)) as bench:
        brief = brief_named(bench.catalog, name)
        if brief.table is not None:
            raise ExpError(
                f"experiment {name!r} is over a unit table: there are no days before it to plan from"
            )
        history, found = planning.plan_power(bench, name)
        ready = planning.check_readiness(bench, name)
    if as_json:
        print_json(
            {
                "experiment": name,
                "ready": ready.ready,
                "gaps": [asdict(gap) for gap in ready.gaps],
                "unchecked": list(ready.unchecked),
                "history": asdict(history),
                "plan": None if found is None else asdict(found),
            }
        )
        return
    say(f"{name}: {brief.title} ({brief.start} to {brief.end}, end excluded)")
    if history.baseline is None:
        say("There is no history of the primary metric before its start, so no power can be computed.")
    else:
        spread = "" if history.baseline.sd is None else f", spread {history.baseline.sd:.4g}"
        say(
            f"History: {history.units:,} learners on {history.days} days; "
            f"{brief.primary} {history.baseline.mean:.4g}{spread}"
        )
    if found is not None:
        clusters = (
            ""
            if found.clusters_per_arm is None
            else f" in {found.clusters_per_arm:,} {brief.randomisation_unit} groups"
        )
        say(
            f"To find {found.mde:.4g}: {found.units_per_arm:,} units per arm{clusters}, "
            f"{found.units_total:,} in all. {found.note}\n"
        )
        show_table(
            ("effect", "ICC", "units per arm", "groups per arm", "days"),
            [
                (
                    f"{row.mde:.4g}",
                    f"{row.icc:.3g}",
                    _count(row.units_per_arm),
                    _count(row.clusters_per_arm),
                    _count(row.days),
                )
                for row in found.grid
            ],
            right=("effect", "ICC", "units per arm", "groups per arm", "days"),
        )
    say("\nReady to start." if ready.ready else "\nNot ready to start:")
    for gap in ready.gaps:
        say(f"  {gap}")
    for open_question in ready.unchecked:
        say(f"  not checked: {open_question}")


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


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
    from exp_pipeline.steps import readouts
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
