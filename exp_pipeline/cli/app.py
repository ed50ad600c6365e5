"""The command line: its commands, in the order in which a newcomer meets them."""

from __future__ import annotations

from typing import Annotated

import typer

from exp_pipeline.cli import (
    after,
    briefs,
    catchup,
    decisions,
    doctor,
    events,
    experiments,
    homes,
    incidents,
    metrics,
    new,
    plans,
    privacy,
    quality,
    ramps,
    rehearse,
    runs,
    sample,
    sources,
    status,
    tables,
    units,
    warehouse,
)
from exp_pipeline.cli.terminal import ExplainedGroup, Verbose

app = typer.Typer(
    name="exp",
    cls=ExplainedGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Experiments on learning products: from events, or from your own table, to a decision memo.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"exp-pipeline {version('exp-pipeline')}")
        raise typer.Exit


@app.callback()
def root(
    verbose: Verbose = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Experiments on learning products: from events, or from your own table, to a decision memo."""


for command in (
    sample.demo,
    homes.init,
    new.new,
    homes.validate,
    events.events,
    runs.run,
    catchup.affected,
    catchup.catch_up,
    plans.plan,
    rehearse.rehearse,
    briefs.queue,
    briefs.review,
    briefs.brief,
    briefs.lock,
    status.status,
    ramps.life,
    quality.quality,
    experiments.readout,
    experiments.diff,
    decisions.decisions,
    decisions.decide,
    after.weekly,
    after.drift,
    after.durability,
    after.audit,
    warehouse.warehouse,
    experiments.unblind,
    tables.analyze,
    units.assign,
    units.simulate,
    privacy.erase,
    after.retention,
    doctor.doctor,
):
    app.command()(command)
app.add_typer(incidents.app, name="incidents")
app.add_typer(ramps.app, name="ramp")
app.add_typer(privacy.keys)
app.add_typer(privacy.debug)
app.add_typer(sources.app, name="source")
app.add_typer(metrics.app, name="metrics")


def main() -> None:
    """Entry point of `exp`."""
    app()
