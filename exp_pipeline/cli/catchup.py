"""`affected` and `catch-up`: which days late data touch, and making them again."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from exp_pipeline.cli.runs import name_dagster_home, needs_key, open_bench
from exp_pipeline.cli.terminal import AsJson, HomeDir, Verbose, home_of, print_json, progress_of, say
from exp_pipeline.model.errors import ExpError

if TYPE_CHECKING:
    from exp_pipeline.steps.again.affected import AffectedDays
    from exp_pipeline.steps.context import Window


def affected(home: HomeDir = None, as_json: AsJson = False) -> None:
    """Tell which days of which tables are out of date, and why; changes nothing."""
    from exp_pipeline.defs import partitions as parts
    from exp_pipeline.steps.again.affected import affected_days

    with open_bench(home_of(home)) as bench:
        found = affected_days(bench, first=parts.first_day())
    _tell(found, as_json=as_json)


def _tell(found: AffectedDays, *, as_json: bool) -> None:
    if as_json:
        rows = [{**asdict(one), "reason": one.reason} for one in found.found]
        print_json({"out_of_date": rows, "held_back": list(found.held_back)})
        return
    for line in found.sentences():
        say(line)
    for line in found.held_back:
        say(f"not read again: {line}")
    if found:
        say("What follows from these is known once they are made again: exp catch-up")
    else:
        say("Every day is made from what is there.")


def catch_up(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what is out of date, and change nothing.")
    ] = False,
    home: HomeDir = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make again the days that late data touch, and what follows from them, through Dagster."""
    if dry_run:
        affected(home, as_json)
        return
    # Named before the partitions are loaded: their first day is that of the landing folder.
    place = home_of(home)
    from exp_pipeline.defs import partitions as parts
    from exp_pipeline.defs import running
    from exp_pipeline.defs.specs import ASKED_BY, CAUSE, WHY, asset_name
    from exp_pipeline.steps.again import catch_up as steps
    from exp_pipeline.steps.again.affected import told
    from exp_pipeline.steps.context import DAY
    from exp_pipeline.steps.experiments.readouts import mark_stale

    needs_key()
    name_dagster_home(make=True)
    tags = {CAUSE: "exp catch-up", WHY: "inputs are others than those it was made from", ASKED_BY: _user()}
    runs: list[dict[str, object]] = []
    with (
        open_bench(place) as bench,
        running.instance() as found,
        progress_of(quiet=as_json) as progress,
    ):

        def run(tables: tuple[str, ...], window: Window | None) -> None:
            days: tuple[date, date] | None = (window.first, window.end - DAY) if window is not None else None
            if not as_json:
                say(f"{', '.join(tables)}{f', {told(window)}' if window is not None else ''}")
            names = [asset_name(table) for table in tables]
            outcome = running.run_assets(found, names, days, tags, progress=progress, verbose=verbose)
            runs.append(
                {"run_id": outcome.run_id, "tables": tables, "days": days, "succeeded": outcome.succeeded}
            )
            if not outcome.succeeded:
                raise ExpError(f"run {outcome.run_id} failed: {'; '.join(outcome.failures)}")

        done = steps.catch_up(bench, run=run, first=parts.first_day())
        stale = mark_stale(bench)
    if as_json:
        print_json(
            {
                "made": [asdict(one) for one in done.made],
                "runs": runs,
                "left": [asdict(one) for one in done.left],
                "held_back": list(done.held_back),
                "stale_readouts": [one.experiment for one in stale],
            }
        )
    else:
        changed = sum(one.changed for one in done.made)
        made = len(done.made)
        say(f"{made} partitions made again in {len(runs)} runs; {changed} of them came out otherwise.")
        for line in done.held_back:
            say(f"not read again: {line}")
        for one in stale:
            say(f"{one.experiment}: {one.sentence()} (exp run --experiment {one.experiment})")
    if done.left:
        raise typer.Exit(1)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
