"""`metrics`: the library as a list and a tree, one metric in full, and which days lack what it needs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exp_pipeline.cli.terminal import AsJson, HomeDir, home_of, print_json, say
from exp_pipeline.model.errors import ExpError

if TYPE_CHECKING:
    from exp_pipeline.catalog import Catalog
    from exp_pipeline.model.metrics import Metric
    from exp_pipeline.steps.again.backfill_needs import Need
    from exp_pipeline.steps.experiments.metric_sheet import MetricSheet

app = typer.Typer(
    rich_markup_mode=None,
    help="The metrics: list them, draw their tree, show one in full, say which days lack what they need.",
)
_WIDTH = 80
# Bins make long SQL; --json has all of it.
_SQL_LINES = 14


@app.callback(invoke_without_command=True)
def list_metrics(
    context: typer.Context,
    kind: Annotated[
        str | None,
        typer.Option("--kind", metavar="KIND", help="Only north-star, output, input or guardrail metrics."),
    ] = None,
    event: Annotated[
        str | None,
        typer.Option("--event", metavar="NAME", help="Only metrics that count rows of this event."),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(
            "--markdown",
            metavar="FILE",
            help="Write tree and tables into a Markdown file, between its marks.",
        ),
    ] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """List the metrics: what each is, its type, kind, window and owner, and which way is better."""
    if context.invoked_subcommand is not None:
        return
    from exp_pipeline.cli.events import metrics_by_event
    from exp_pipeline.contracts.events import event_names
    from exp_pipeline.report.metric_catalogue import KINDS

    catalog = _catalog(home)
    found = sorted(catalog.metrics.values(), key=lambda one: (KINDS.index(one.kind), one.name))
    if kind is not None:
        if kind not in KINDS:
            raise ExpError(f"there is no kind {kind!r} of metric; there are: {', '.join(KINDS)}")
        found = [one for one in found if one.kind == kind]
    if event is not None:
        if event not in event_names():
            raise ExpError(f"there is no event {event!r}; the events are: {', '.join(event_names())}")
        named = metrics_by_event(catalog, event_names()).get(event, [])
        found = [one for one in found if one.name in named]
    if markdown is not None:
        _write_into(markdown, found)
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
    elif markdown is not None:
        say(f"Wrote {markdown}")
    else:
        _list(found)


def _write_into(path: Path, found: Sequence[Metric]) -> None:
    """Put the library between the marks of a file that has them; a new file holds nothing else."""
    from exp_pipeline.report.metric_catalogue import MARKS, library_markdown

    text = path.read_text(encoding="utf-8") if path.exists() else "\n".join(MARKS) + "\n"
    if any(text.count(mark) != 1 for mark in MARKS) or text.index(MARKS[0]) > text.index(MARKS[1]):
        raise ExpError(f"{path} must hold {MARKS[0]} and, below it, {MARKS[1]}, once each")
    before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
    path.write_text(f"{before}{MARKS[0]}\n\n{library_markdown(found)}\n{MARKS[1]}{after}", encoding="utf-8")


def _list(found: Sequence[Metric]) -> None:
    from exp_pipeline.report.metric_catalogue import ARROWS, window

    heads = {"north-star": "North star", "output": "Outputs", "input": "Inputs", "guardrail": "Guardrails"}
    last = None
    for one in found:
        if one.kind != last:
            say(("" if last is None else "\n") + heads[one.kind])
            last = one.kind
        say(f"  {one.name} {ARROWS[one.direction]}  {one.title}" if len(one.name + one.title) < 72 else
            f"  {one.name} {ARROWS[one.direction]}\n    {one.title}")  # fmt: skip
        facts = f"{one.type}, {one.display}, {window(one)}, per {one.unit}; {one.owner}"
        say(f"    {facts}")
    if not found:
        say("No metric fits.")
        return
    say(f"\n{len(found)} metrics; ↑ more is better, ↓ less is better.")
    say("One in full: exp metrics show NAME. What drives what: exp metrics tree")


@app.command()
def tree(home: HomeDir = None, as_json: AsJson = False) -> None:
    """Draw what each metric is believed to move, up to the north star, and what watches over it."""
    from exp_pipeline.report.metric_catalogue import kpi_tree, tree_lines

    branches = kpi_tree(_catalog(home).metrics)
    if as_json:
        print_json(
            [
                {
                    "name": one.metric.name,
                    "kind": one.metric.kind,
                    "place": one.place,
                    "depth": one.depth,
                    "drives": one.metric.drives,
                    "direction": one.metric.direction,
                    "proximity": one.metric.proximity,
                    "counter_metric": one.metric.counter_metric,
                }
                for one in branches
            ]
        )
        return
    for line in tree_lines(branches):
        say(line)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The metric.")],
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Show one metric in full: in words, its measures and columns with their SQL, and who uses it."""
    from exp_pipeline.steps.experiments.metric_sheet import metric_sheet

    sheet = metric_sheet(_catalog(home), name)
    if as_json:
        print_json(_plain(sheet))
        return
    tell(sheet)


def _plain(sheet: MetricSheet) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "metric": sheet.metric.model_dump(mode="json"),
        "measures": [
            {**one.measure.model_dump(mode="json"), "fields": one.fields, "sql": one.sql, "kept": one.kept}
            for one in sheet.measures
        ],
        "totals": sheet.totals,
        "columns": [asdict(one) for one in sheet.columns],
        "events": sheet.events,
        "used_by": sheet.used_by,
        "driven_by": sheet.driven_by,
        "guards": sheet.guards,
    }


def tell(sheet: MetricSheet) -> None:
    """Print everything about one metric for people, in 80 columns."""
    from exp_pipeline.report.metric_catalogue import calculation, window

    metric = sheet.metric
    better = "more" if metric.direction == "increase" else "less"
    say(f"{metric.name}\n{metric.title}\n")
    _wrapped(metric.definition)
    say()
    facts = {
        "kind": f"{metric.kind}, {metric.proximity}{f', {metric.heart}' if metric.heart else ''}",
        "better": f"{better}; shown as {metric.display}",
        "calculated": f"{metric.type}: {calculation(metric)}",
        "counts": f"{window(metric)} since assignment, one value per {metric.unit}; {_units_of(metric)}",
        "owner": f"{metric.owner}, looked at {metric.refresh}",
        "drives": metric.drives or "",
        "driven by": ", ".join(sheet.driven_by),
        "counter": f"{metric.counter_metric}: look there when this one improves too well"
        if metric.counter_metric
        else "",
        "guards": ", ".join(sheet.guards),
        "used by": ", ".join(f"{brief} ({role})" for brief, role in sorted(sheet.used_by.items()))
        or "no brief yet",
        "events": ", ".join(sheet.events),
    }
    for label, text in facts.items():
        if text:
            _wrapped(text, first=f"  {label:<12}", rest=" " * 14)
    if metric.failure_modes:
        say("\nHow it can mislead")
        for mode in metric.failure_modes:
            _wrapped(mode, first="  - ", rest="    ")
    for part in metric.parts:
        if part is metric.parts[0]:
            say("\nParts")
        missing = "" if part.if_missing is None else f", {part.if_missing:g} where a learner has no value"
        text = f"{part.weight:g} x {part.metric}, from {part.worst:g} (0) to {part.best:g} (1){missing}"
        _wrapped(f"{text}: {part.because}", first="  - ", rest="    ")
    say("\nMeasures (columns of unit_days)")
    for one in sheet.measures:
        say(f"\n  {one.measure.name}")
        _wrapped(one.measure.description, first="    ", rest="    ")
        where = ", ".join(one.measure.events) or (
            "sessions" if one.measure.over == "sessions" else "all events"
        )
        _wrapped(f"reads {', '.join(one.fields) or 'the rows'} of {where}", "    ", "    ")
        if not one.kept:
            say("    not summed up until a brief asks for it")
        _sql(one.sql, "      ")
    say("\nA learner's totals over the days that count")
    for total, sql in sheet.totals.items():
        say(f"\n  {total}")
        _sql(sql, "      ")
    say("\nColumns of the dataset (mad)")
    for column in sheet.columns:
        say(f"\n  {column.name} ({column.unit})")
        _wrapped(column.definition, "    ", "    ")
        _sql(column.sql, "      ")


def _units_of(metric: Metric) -> str:
    told = [f"only where {metric.include}"] if metric.include else []
    told += [f"not where {metric.exclude}"] if metric.exclude else []
    return "; ".join(told) or "every learner assigned"


def _wrapped(text: str, first: str = "", rest: str = "") -> None:
    for line in textwrap.wrap(
        text, _WIDTH - 1, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    ):
        say(line)


def _sql(text: str, indent: str) -> None:
    lines = []
    for line in text.splitlines():
        start = indent + " " * (len(line) - len(line.lstrip()))
        lines += textwrap.wrap(
            line.strip(),
            _WIDTH,
            initial_indent=start,
            subsequent_indent=f"{start}  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    for line in lines[:_SQL_LINES]:
        say(line)
    if len(lines) > _SQL_LINES:
        say(f"{indent}... {len(lines) - _SQL_LINES} more lines, see --json")


@app.command()
def needs(
    experiment: Annotated[
        str | None, typer.Argument(metavar="[EXPERIMENT]", help="One experiment. Default: all.")
    ] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Say which days lack measures that experiments ask for, and the commands that make these days again."""
    from exp_pipeline.cli.runs import brief_named, open_bench
    from exp_pipeline.steps.again.backfill_needs import backfill_needs, backfill_windows, history_needs

    place = home_of(home)
    with open_bench(place) as bench:
        names = None if experiment is None else [brief_named(bench.catalog, experiment).name]
        found = (*history_needs(bench, names), *backfill_needs(bench, names))
    windows = backfill_windows(found)
    commands = [
        f"exp run --table {table} --from {window.first} --to {window.days()[-1]}{_at(home)}"
        for table, ranges in windows.items()
        for window in ranges
    ]
    waiting = sorted({name for need in found for name in need.experiments})
    if commands:
        chosen = " ".join(f"--experiment {name}" for name in waiting)
        commands.append(f"exp run {chosen}{_at(home)}")
    if as_json:
        print_json({"needs": [_plain_need(need) for need in found], "commands": commands})
        return
    if not found:
        say("Nothing: every day holds the measures that the metrics ask for.")
        return
    for table in windows:
        say(f"{table}")
        for line in _by_days(need for need in found if need.table == table):
            _wrapped(line, "  ", "    ")
    say("\nMake these days again, in this order, then the readouts:")
    for command in commands:
        say(f"  {command}")


def _by_days(needs: Iterable[Need]) -> list[str]:
    """One line for each set of days and reason, with every measure that is lacking there."""
    from exp_pipeline.steps.again.backfill_needs import windows_of

    grouped: dict[tuple[str, str, str], list[str]] = {}
    for need in needs:
        ranges = ", ".join(
            f"{one.first} to {one.days()[-1]}" if len(one.days()) > 1 else f"{one.first}"
            for one in windows_of(need.days)
        )
        have = "lack" if need.why == "missing" else "hold another definition of"
        grouped.setdefault((ranges, have, ", ".join(need.experiments)), []).append(need.measure)
    return [
        f"{ranges} {have} {', '.join(measures)} (asked for by {experiments})"
        for (ranges, have, experiments), measures in grouped.items()
    ]


def _at(home: Path | None) -> str:
    return f" --home {home}" if home is not None else ""


def _plain_need(need: Need) -> dict[str, object]:
    return {
        "table": need.table,
        "measure": need.measure,
        "why": need.why,
        "days": [day.isoformat() for day in need.days],
        "experiments": need.experiments,
    }


def _catalog(home: Path | None) -> Catalog:
    from exp_pipeline.steps.opening import open_catalog

    catalog = open_catalog(home_of(home).catalog)
    for problem in catalog.problems:
        if "/metrics/" in problem.file:
            typer.echo(f"left out: {problem}", err=True)
    return catalog
