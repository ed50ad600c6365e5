"""`events`: the catalogue of events, in the terminal, as a page and as Markdown."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exp_pipeline.cli.terminal import AsJson, HomeDir, home_of, print_json, say, show_table
from exp_pipeline.model.errors import ExpError

if TYPE_CHECKING:
    from exp_pipeline.catalog import Catalog
    from exp_pipeline.contracts.deprecations import Deprecation
    from exp_pipeline.model.event_docs import EventDoc
    from exp_pipeline.steps.ingest.deprecated import InUse


def events(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One event, in full. Default: a list of all.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the catalogue as a page.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write the catalogue as Markdown.")
    ] = None,
    deprecated: Annotated[
        bool, typer.Option("--deprecated", help="Count the rows that still use what is deprecated.")
    ] = False,
    days: Annotated[
        int, typer.Option("--days", min=1, metavar="N", help="How many newest event days --deprecated reads.")
    ] = 28,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """List the events of the taxonomy: versions, fields, rules, a sample, and the metrics that use them."""
    from exp_pipeline.report.event_catalogue import catalogue_html, catalogue_markdown

    if deprecated:
        if name is not None or html is not None or markdown is not None:
            raise ExpError("--deprecated counts rows of all events: leave out NAME, --html and --markdown")
        _deprecated(days, home, as_json=as_json)
        return
    docs, metrics_known = catalogue_of(name, home)
    written = []
    for path, draw in ((html, catalogue_html), (markdown, catalogue_markdown)):
        if path is not None:
            path.write_text(draw(docs, metrics_known=metrics_known), encoding="utf-8")
            written.append(path)
    if as_json:
        print_json([_plain(doc, metrics_known) for doc in docs])
    elif written:
        for path in written:
            say(f"Wrote {path}")
    elif name is None:
        _list(docs, metrics_known)
    else:
        for doc in docs:
            _tell(doc, metrics_known)


def _deprecated(days: int, home: Path | None, *, as_json: bool) -> None:
    from exp_pipeline.cli.runs import open_bench
    from exp_pipeline.contracts.deprecations import deprecations
    from exp_pipeline.steps.ingest.deprecated import deprecated_in_use, newest_days

    with open_bench(home_of(home)) as bench:
        window = newest_days(bench, days)
        found = () if window is None else deprecated_in_use(bench, window)
    if as_json:
        print_json(
            [
                {
                    "event": one.event_name,
                    "major": one.major,
                    "field": one.column,
                    "last_day": one.sunset.isoformat(),
                    "replaced_by": one.replaced_by,
                    **_counts(one, found),
                }
                for one in deprecations()
            ]
        )
        return
    if window is None:
        say("There are no events yet; what is deprecated:\n")
    else:
        say(f"Event days {window.first} to {window.days()[-1]}:\n")
    show_table(
        ("deprecated", "last day", "rows", "of them after it", "refused", "newest", "send instead"),
        [
            (one.label, one.sunset, *_counts(one, found).values(), one.replaced_by or "")
            for one in deprecations()
        ],
        right=("rows", "of them after it", "refused"),
    )


def _counts(what: Deprecation, found: tuple[InUse, ...]) -> dict[str, object]:
    """What was counted for one of them; null where there was nothing to count in."""
    for one in found:
        if one.what == what:
            newest = None if one.last_received is None else f"{one.last_received:%Y-%m-%d %H:%M}"
            return {
                "rows": one.rows,
                "rows_after": one.rows_after,
                "refused": one.refused,
                "last_received": newest,
            }
    return dict.fromkeys(("rows", "rows_after", "refused", "last_received"))


def catalogue_of(name: str | None, home: Path | None) -> tuple[tuple[EventDoc, ...], bool]:
    """The events asked for, and whether a catalog was there to tell which metrics use them.

    Raises ExpError for an event outside the taxonomy, or a data folder that was named and is not there.
    """
    from exp_pipeline.contracts.catalogue import event_catalogue
    from exp_pipeline.contracts.events import event_names
    from exp_pipeline.steps.opening import open_catalog

    if name is not None and name not in event_names():
        raise ExpError(f"there is no event {name!r}; the events are: {', '.join(event_names())}")
    try:
        place = home_of(home)
    except ExpError:
        if home is not None:
            raise
        used, known = {}, False
    else:
        used, known = metrics_by_event(open_catalog(place.catalog), event_names()), True
    return tuple(doc for doc in event_catalogue(used) if name in (None, doc.name)), known


def metrics_by_event(catalog: Catalog, names: tuple[str, ...]) -> dict[str, list[str]]:
    """Which metrics count rows of each event, through their measures or the parts they are made of?

    Measures over sessions name no event: all events make sessions.
    """

    def events_of(metric_name: str) -> set[str]:
        metric = catalog.metrics.get(metric_name)
        if metric is None:
            return set()
        found: set[str] = set()
        for measure_name in metric.measures():
            measure = catalog.measures.get(measure_name)
            if measure is not None and measure.over == "events":
                found.update(measure.events or names)
        for part in metric.parts:
            found |= events_of(part.metric)
        return found

    used: dict[str, list[str]] = {}
    for metric in sorted(catalog.metrics):
        for event in sorted(events_of(metric) & set(names)):
            used.setdefault(event, []).append(metric)
    return used


def _plain(doc: EventDoc, metrics_known: bool) -> dict[str, object]:
    import json

    plain = asdict(doc)
    plain["sample"] = json.loads(plain.pop("sample_json"))
    if not metrics_known:
        plain["metrics"] = None
    return plain


def _list(docs: tuple[EventDoc, ...], metrics_known: bool) -> None:
    from exp_pipeline.report.event_catalogue import status

    columns = ["event", "version", "", "owner", *(["metrics"] if metrics_known else [])]
    show_table(
        columns,
        [
            [doc.name, doc.version, status(doc), doc.owner, *([len(doc.metrics)] if metrics_known else [])]
            for doc in docs
        ],
        right=("metrics",),
    )
    say("\nOne in full: exp events NAME. As a page: exp events --html events.html")


def _tell(doc: EventDoc, metrics_known: bool) -> None:
    from exp_pipeline.report.event_catalogue import notes, own_fields, status

    say(f"{doc.name} {doc.version} ({status(doc)}), owned by {doc.owner}")
    say(f"{doc.meaning}\n")
    if doc.replaced_by is not None:
        say(f"Rows received after {doc.sunset} are refused. Send {doc.replaced_by} instead.\n")
    if metrics_known:
        say(f"Metrics: {', '.join(doc.metrics) or 'none reads it by name'}\n")
    show_table(
        ("field", "type", "", "meaning", "allowed"),
        [
            (
                field.name,
                field.type + (f", {field.unit}" if field.unit else ""),
                "required" if field.required else "",
                " ".join([field.meaning, *notes(field)]),
                field.allowed,
            )
            for field in (*(one for one in doc.fields if one.always and not one.own), *own_fields(doc))
        ],
    )
    say("\nRules")
    for rule in doc.rules:
        say(f"  {rule.meaning}\n    {rule.expression}")
    say(f"\nSample payload\n{doc.sample_json}\n")
