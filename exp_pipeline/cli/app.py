"""The command line: its commands, in the order in which a newcomer meets them."""

from __future__ import annotations

from typing import Annotated, Any

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
    mirror,
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

# What `exp --help` lists, in the order in which one needs it, each in the few words that fit a line.
SECTIONS: dict[str, dict[str, str]] = {
    "Begin": {
        "demo": "run the bundled sample, from landed events to memos",
        "init": "make a new data folder",
        "doctor": "check machine, environment and data folder",
        "analyze": "effects, or a memo, from your own table: no events needed",
    },
    "Plan an experiment": {
        "new": "ask what a brief must say, check it, write it",
        "validate": "check every brief, metric, source and policy",
        "plan": "tell how many units and weeks a brief needs",
        "rehearse": "live a made-up term with a brief: ramp, incident, readout",
        "queue": "list drafts by priority, with what each waits for",
        "review": "record that a team reviewed a brief",
        "brief": "show a brief in words, and what changed since its lock",
        "lock": "lock a brief before its first day of data",
        "assign": "tell which arm each unit is in",
    },
    "Run": {
        "run": "make days, experiments or both",
        "status": "tell what is there: days, rows, experiments",
        "affected": "tell which days are out of date, and why",
        "catch-up": "make again the days that late data touch",
        "backfill": "make a range of days again, and name stale readouts",
        "ramp": "where ramps stand; approve, pause, roll back",
        "life": "tell where an experiment is in its life",
        "incidents": "list what is broken, explain it, take it on",
        "warehouse": "build the warehouse file for analysts now",
        "mirror": "copy the lake to an object store; restore from it",
    },
    "Read and decide": {
        "readout": "print the decision memo of an experiment",
        "diff": "tell what two readouts differ in, and why",
        "decide": "log what people decided on a readout",
        "decisions": "read the log of decisions",
        "durability": "tell whether a shipped effect lasts",
        "holdout": "tell what all that was shipped did together",
        "weekly": "review a week: numbers, changes, incidents",
        "audit": "list who changed what, and why",
        "unblind": "show effects early, with a recorded reason",
    },
    "Data": {
        "source": "bring your own logs: try, draft and list sources",
        "events": "list the events of the taxonomy",
        "metrics": "list, draw and explain the metrics",
        "quality": "tell how good the data of a day are",
        "drift": "tell whether versions, speed or cost stray",
        "simulate": "write a made-up world as landing files",
        "erase": "erase a person from every table",
        "retention": "delete what is past its day by the policy",
        "keys": "show and rotate the identity keys",
        "debug": "look into the debug envelope of raw texts",
    },
}


class _Sectioned(ExplainedGroup):
    """Commands under headings; one that no heading has comes last, under its own help."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        left = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        listed = [
            (title, [(name, text) for name, text in words.items() if left.pop(name, None) is not None])
            for title, words in SECTIONS.items()
        ]
        more = [(name, one.get_short_help_str(60)) for name, one in left.items() if one is not None]
        width = max(len(name) for name in self.list_commands(ctx))
        for title, rows in [*listed, ("More", more)]:
            if rows:
                with formatter.section(title):
                    formatter.write_dl([(name.ljust(width), text) for name, text in rows])


app = typer.Typer(
    name="exp",
    cls=_Sectioned,
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
    catchup.backfill,
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
    after.holdout,
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
app.add_typer(mirror.app, name="mirror")


def main() -> None:
    """Entry point of `exp`."""
    app()
