"""What was decided: `decisions` reads the log, `decide` adds what people decided."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from exp_pipeline.cli.runs import open_bench
from exp_pipeline.cli.terminal import AsJson, HomeDir, home_of, print_json, say, show_table
from exp_pipeline.model.errors import ExpError

if TYPE_CHECKING:
    from exp_pipeline.model.decision_log import LoggedDecision

_Outcome = Literal["ship", "ship_scoped", "extend", "iterate", "pause", "stop", "roll_back", "investigate"]


def decisions(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One experiment. Default: all.")
    ] = None,
    search: Annotated[
        str, typer.Option("--search", metavar="TEXT", help="Only rows in which every word of it stands.")
    ] = "",
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Read the decision log: what readouts recommended and what people decided, the newest first."""
    from exp_pipeline.steps.experiments.decision_log import decisions as logged
    from exp_pipeline.store.marts import Marts

    place = home_of(home)
    rows = logged(place, name, search)
    if name is not None and not rows and not search:
        _must_exist(name, Marts(place.marts).experiments())
    if as_json:
        print_json([plain(row) for row in rows])
        return
    if not rows:
        say("No decision is logged" + (" that fits." if search or name else " yet."))
        return
    show_table(
        ("day", "experiment", "arm", "decision", "by", "because", "snapshot"),
        [
            (
                f"{row.at:%Y-%m-%d}",
                row.experiment,
                row.arm or "all",
                row.outcome.replace("_", " "),
                row.by if row.kind == "decided" else "rules (recommended)",
                row.because + _differing(row),
                row.snapshot,
            )
            for row in reversed(rows)
        ],
    )


def decide(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The experiment's name.")],
    outcome: Annotated[_Outcome, typer.Option("--outcome", help="What people decided.")],
    by: Annotated[str, typer.Option("--by", metavar="TEAM", help="The team that decided.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why.")],
    arm: Annotated[
        str | None,
        typer.Option("--arm", metavar="ARM", help="The treatment arm, where there are several."),
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option("--snapshot", metavar="S", help="The readout it rests on. Default: the newest."),
    ] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Log what people decided on a readout; it may differ from what the rules recommend, and then says so."""
    from exp_pipeline.steps.experiments.decision_log import record_decision
    from exp_pipeline.steps.experiments.readouts import write_index

    for option, text in (("--by", by), ("--reason", reason)):
        if not text.strip():
            raise ExpError(f"{option} is empty: a decision is logged with its team and its reason")
    with open_bench(home_of(home)) as bench:
        row, new = record_decision(
            bench, name, outcome, by=by, reason=reason, at=datetime.now(UTC), arm=arm, snapshot=snapshot
        )
        write_index(bench)
    if as_json:
        print_json({**plain(row), "recorded": new})
        return
    if not new:
        say("This decision was logged before.")
        return
    of = f" for {row.arm}" if row.arm else ""
    say(f"Logged at {row.at:%Y-%m-%d %H:%M} UTC: {row.by} decided to {row.outcome.replace('_', ' ')}{of}.")
    if row.differs and row.recommended is not None:
        say(f"The readout of snapshot {row.snapshot} recommends: {row.recommended.replace('_', ' ')}.")
    if row.effects_hidden:
        say("The primary's effect was hidden at that moment; the log says so.")


def plain(row: LoggedDecision) -> dict[str, object]:
    """A row of the log for machines."""
    return {**row.model_dump(mode="json"), "differs": row.differs}


def _differing(row: LoggedDecision) -> str:
    if row.differs and row.recommended is not None:
        return f" (the rules recommended: {row.recommended.replace('_', ' ')})"
    return ""


def _must_exist(name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise ExpError(f"experiment {name!r} has no readout; there are: {', '.join(known) or 'none'}")
