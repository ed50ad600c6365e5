"""Runs through Dagster: `run`, and what other commands need of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exp_pipeline.cli.terminal import (
    DAY,
    AsJson,
    Clock,
    HomeDir,
    Verbose,
    home_of,
    print_json,
    progress_of,
    say,
)
from exp_pipeline.model.errors import ExpError

if TYPE_CHECKING:
    from exp_pipeline.catalog import Catalog
    from exp_pipeline.model.brief import Brief
    from exp_pipeline.model.readout import Readout
    from exp_pipeline.steps.context import Workbench
    from exp_pipeline.store.home import Home


@dataclass(frozen=True, slots=True)
class RunLine:
    """One Dagster run: what it was for, its id, whether it succeeded, and what failed in it."""

    subject: str
    run_id: str
    succeeded: bool
    failures: tuple[str, ...]
    seconds: float
    steps: tuple[str, ...]

    @property
    def decided(self) -> bool:
        """Whether this run wrote its experiment's memo; a failed integrity check does not stop that."""
        return "decide" in self.steps


def needs_key() -> None:
    """Raise ExpError where the identity key is missing or too short."""
    from exp_pipeline.steps.opening import key_from

    if key_from(os.environ) is None:
        raise ExpError(
            "EXP_HMAC_KEY is not set: it turns learners' ids into pseudonyms. Set it to a secret text of at "
            "least 16 characters and keep it, for example `export EXP_HMAC_KEY=$(openssl rand -hex 32)`"
        )


def name_dagster_home(*, make: bool = False) -> Path:
    """The folder of Dagster's history: DAGSTER_HOME, or `.dagster_home` here if it exists (or may be)."""
    named = os.environ.get("DAGSTER_HOME")
    found = Path(named).expanduser() if named else Path(".dagster_home")
    if not named and not make and not found.is_dir():
        raise ExpError(
            "DAGSTER_HOME is not set, and there is no .dagster_home here: name a folder for Dagster's "
            "history, for example `export DAGSTER_HOME=$PWD/.dagster_home`"
        )
    os.environ["DAGSTER_HOME"] = str(found.resolve())
    return found


def landed_days(home: Home) -> tuple[date, ...]:
    """The received days of the landing folder. Raises ExpError where there are none."""
    from exp_pipeline.store.landing import received_days

    days = received_days(home.landing)
    if not days:
        raise ExpError(
            f"nothing has landed in {home.landing}: put event files into folders named "
            f"received_date=YYYY-MM-DD, or make some with `exp simulate --plan demo --out {home.landing}`"
        )
    return days


def run_all(
    ranges: Sequence[tuple[date, date]],
    experiments: Sequence[str],
    *,
    quiet: bool,
    verbose: bool,
    warehouse: bool = True,
    tables: Sequence[str] = (),
) -> list[RunLine]:
    """Materialize ranges of days in turn, experiments, then the warehouse; one failure stops no other.

    `tables`: only these of the daily tables; all, unless given. Raises ExpError for one that is none.
    """
    from exp_pipeline.defs import running
    from exp_pipeline.defs.automation import DAILY_ASSETS

    assets = tables or DAILY_ASSETS
    for name in assets:
        if name not in DAILY_ASSETS:
            raise ExpError(f"no daily table {name!r}; there are: {', '.join(sorted(DAILY_ASSETS))}")

    tell: Callable[[str], None] = (lambda text: None) if quiet else say
    done: list[RunLine] = []
    with running.instance() as found, progress_of(quiet=quiet) as progress:
        running.add_experiments(found, experiments)

        def finish(subject: str, clock: Clock, outcome: running.RunOutcome) -> None:
            done.append(
                RunLine(
                    subject, outcome.run_id, outcome.succeeded, outcome.failures, clock.seconds, outcome.steps
                )
            )
            for failure in outcome.failures:
                tell(f"  {'failed' if not outcome.succeeded else 'noted'}: {failure}")

        for first, last in ranges:
            tell(f"Daily tables, {first} to {last}")
            clock = Clock()
            finish(
                "days",
                clock,
                running.run_days(found, first, last, progress=progress, assets=assets, verbose=verbose),
            )
            if not done[-1].succeeded:
                return done
        for name in experiments:
            tell(f"Experiment {name}")
            clock = Clock()
            finish(name, clock, running.run_experiment(found, name, progress=progress, verbose=verbose))
        if warehouse:
            tell("Warehouse")
            clock = Clock()
            finish("warehouse", clock, running.run_warehouse(found, progress=progress, verbose=verbose))
    return done


def stored_readout(home: Home, experiment: str) -> Readout | None:
    """The readout of an experiment's newest snapshot as it was sealed, or None.

    Raises ExpError that says what to do where the file is no longer what was sealed.
    """
    from exp_pipeline.model.errors import StoreError
    from exp_pipeline.steps.experiments import stored_readouts

    try:
        return stored_readouts.stored_readout(home, experiment)
    except StoreError as trouble:
        raise ExpError(
            f"{trouble}: `exp readout {experiment}` puts it back, or says what differs"
        ) from trouble


def brief_named(catalog: Catalog, name: str) -> Brief:
    """The brief of an experiment. Raises ExpError naming those that exist, and what is wrong with it."""
    if name not in catalog.briefs:
        broken = [f"\n  {problem}" for problem in catalog.problems if name in problem.file]
        known = ", ".join(sorted(catalog.briefs)) or "none"
        raise ExpError(f"no usable brief for experiment {name!r}; there are: {known}" + "".join(broken))
    return catalog.briefs[name]


@contextmanager
def open_bench(home: Home, catalog: Catalog | None = None) -> Iterator[Workbench]:
    """A workbench for reading, as the assets have one, with an engine in memory."""
    import duckdb

    from exp_pipeline.steps.opening import workbench

    with (
        duckdb.connect(":memory:") as connection,
        workbench(home, connection, run_id="terminal", environment=os.environ, catalog=catalog) as bench,
    ):
        yield bench


def event_briefs(catalog: Catalog, names: Sequence[str] = ()) -> list[str]:
    """The experiments on events asked for (all where none is). Raises ExpError for an unknown one."""
    known = sorted(name for name, brief in catalog.briefs.items() if brief.table is None)
    for name in names:
        if brief_named(catalog, name).table is not None:
            raise ExpError(f"experiment {name!r} is over a unit table, not over events: use `exp analyze`")
    return list(dict.fromkeys(names)) or known


def run(
    first: Annotated[
        datetime | None,
        typer.Option(
            "--from",
            formats=DAY,
            metavar="DAY",
            help="First day, YYYY-MM-DD. Default: the first day that landed.",
        ),
    ] = None,
    last: Annotated[
        datetime | None,
        typer.Option(
            "--to", formats=DAY, metavar="DAY", help="Last day, included. Default: the last day that landed."
        ),
    ] = None,
    experiment: Annotated[
        list[str] | None,
        typer.Option(
            "--experiment", metavar="NAME", help="An experiment to read out; may be given several times."
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All days and all experiments.")] = False,
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table",
            metavar="NAME",
            help="Only this daily table, such as unit_days; may be given several times. Default: all.",
        ),
    ] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Materialize days, experiments or both, through Dagster.

    With no option: every day that has landed. With --experiment alone: those experiments, from the days that
    are there already.
    """
    from exp_pipeline.steps.opening import open_catalog

    place = home_of(home)
    catalog = open_catalog(place.catalog)
    chosen = event_briefs(catalog, experiment or ()) if experiment or everything else []
    for problem in catalog.problems:
        typer.echo(f"left out of this run: {problem}", err=True)
    ranges = []
    if everything or first or last or table or not experiment:
        needs_key()
        landed = landed_days(place)
        since, until = first.date() if first else landed[0], last.date() if last else landed[-1]
        if until < since:
            raise ValueError(f"--to {until} lies before --from {since}")
        ranges.append((since, until))
    name_dagster_home()
    done = run_all(ranges, chosen, quiet=as_json, verbose=verbose, warehouse=bool(chosen), tables=table or ())
    if as_json:
        print_json({"runs": [asdict(one) for one in done]})
    else:
        for name in (one.subject for one in done if one.decided):
            readout = stored_readout(place, name)
            if readout is not None:
                say(f"{name}: {readout.decision.summary}")
                say(f"  {place.readouts / f'{name}.html'}")
    if not all(one.succeeded for one in done):
        raise typer.Exit(1)
