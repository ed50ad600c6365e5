"""`quality`: how good the data of a day are, rule by rule, worst first."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from exp_pipeline.cli.runs import open_bench
from exp_pipeline.cli.terminal import DAY, AsJson, HomeDir, home_of, print_json, say, show_table


def quality(
    day: Annotated[
        datetime | None,
        typer.Argument(formats=DAY, metavar="[DAY]", help="UTC day, YYYY-MM-DD. Default: the newest judged."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="PATH", help="Write the day's page to this file.")
    ] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell how good the data of a day are: every rule, worst first, as the last run judged it."""
    from exp_pipeline.report.quality import day_view, quality_html
    from exp_pipeline.steps.quality.pages import FOLDER, newest_judged_day, page_of
    from exp_pipeline.store.files import write_text

    place = home_of(home)
    with open_bench(place) as bench:
        page = page_of(bench, day.date() if day else newest_judged_day(bench))
    if html is not None:
        write_text(html, quality_html(page))
    if as_json:
        print_json(page.model_dump(mode="json"))
        return
    view = day_view(page)
    say(f"{view.title}: " + ", ".join(f"{count} {label}" for label, _, count in view.counts if count))
    for one in view.failing:
        day_told = f" (on {one.day})" if one.waits else ""
        say(f"\n{one.label}: {one.title}{day_told}, {one.since}")
        say(f"  {one.evidence}")
        say(f"  First look: {one.first_look}")
        say(f"  Owner {one.owner}; {one.runbook}")
        if len(one.groups) > 1:
            for group in one.groups[:4]:
                say(f"    {group.group}: {group.number} of {group.rows} ({group.label.lower()})")
    if view.passing:
        say()
        show_table(
            ("passes", "number", "line", "what was seen"),
            [(one.title, one.number, one.line, one.evidence) for one in view.passing],
            right=("number", "line"),
        )
    if view.unjudged:
        say("\nNot judged")
        for one in view.unjudged:
            say(f"  {one.title}: {one.evidence}")
    written = place.readouts / FOLDER / f"{page.day}.html"
    if html is not None:
        say(f"\nPage: {html}")
    elif written.is_file():
        say(f"\nPage: {written}")
