"""`affected`, `catch-up`, `backfill`: which days are out of date, and making days again."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from exp_pipeline.cli.runs import landed_days, name_dagster_home, needs_key, open_bench, run_all
from exp_pipeline.cli.terminal import (
    DAY,
    AsJson,
    HomeDir,
    Verbose,
    home_of,
    print_json,
    progress_of,
    say,
)
from exp_pipeline.model.errors import ExpError

if TYPE_CHECKING:
    from exp_pipeline.steps.again.affected import AffectedDays
    from exp_pipeline.steps.again.staleness import Staleness
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
        stale = mark_stale(bench).found
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
        _tell_stale(stale)
    if done.left:
        raise typer.Exit(1)


def backfill(
    first: Annotated[
        datetime, typer.Option("--from", formats=DAY, metavar="DAY", help="First day, YYYY-MM-DD.")
    ],
    last: Annotated[datetime, typer.Option("--to", formats=DAY, metavar="DAY", help="Last day, included.")],
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table", metavar="NAME", help="Only this daily table; may be given several times. Default: all."
        ),
    ] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make a range of days again in one run, as a backfill in the UI does, and name what is stale then."""
    from exp_pipeline.steps.experiments.readouts import mark_stale

    place = home_of(home)
    needs_key()
    since, until = first.date(), last.date()
    if until < since:
        raise ValueError(f"--to {until} lies before --from {since}")
    landed = landed_days(place)
    if until < landed[0] or since > landed[-1]:
        raise ExpError(f"no day from {since} to {until} has landed; days landed: {landed[0]} to {landed[-1]}")
    name_dagster_home(make=True)
    with open_bench(place) as bench:
        before = bench.lake.contents()
        (run,) = run_all(
            [(since, until)], (), quiet=as_json, verbose=verbose, warehouse=False, tables=table or ()
        )
        after = bench.lake.contents()
        stale = mark_stale(bench).found
    changed = sorted(name for name, digest in after.items() if before.get(name) != digest)
    if as_json:
        print_json(
            {
                "run": asdict(run),
                "changed": [{"table": name, "partition": partition} for name, partition in changed],
                "stale_readouts": [{"experiment": one.experiment, "why": one.sentence()} for one in stale],
            }
        )
    elif run.succeeded:
        tables = sorted({name for name, _ in changed})
        what = (
            f"{len(changed)} partitions came out otherwise: {', '.join(tables)}"
            if changed
            else "the same bytes"
        )
        say(f"{since} to {until} made again in one run: {what}.")
        _tell_stale(stale)
    if not run.succeeded:
        raise typer.Exit(1)


def _tell_stale(stale: Sequence[Staleness]) -> None:
    for one in stale:
        say(f"{one.experiment}: {one.sentence()} (exp run --experiment {one.experiment})")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
