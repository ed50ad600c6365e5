"""After shipping, in a terminal: drift, lasting effects, the week, what is kept, who changed what."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from exp_pipeline.cli.runs import open_bench
from exp_pipeline.cli.terminal import DAY, AsJson, HomeDir, home_of, print_json, say, show_table


def weekly(
    week: Annotated[
        str | None,
        typer.Argument(metavar="[WEEK]", help="ISO week, such as 2026-W12. Default: the newest whole."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="PATH", help="Write the week's page to this file too.")
    ] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Review a week: every metric against the week before, beside what was changed, decided and broken."""
    from exp_pipeline.report.weekly import metric_line, weekly_html
    from exp_pipeline.steps.after.weekly import write_weekly
    from exp_pipeline.store.files import write_text

    with open_bench(home_of(home)) as bench:
        made = write_weekly(bench, datetime.now(UTC), week)
    review = made.review
    if html is not None:
        write_text(html, weekly_html(review))
    if as_json:
        print_json(review.model_dump(mode="json"))
        return
    say(f"{review.week}: {review.first} to {review.last}, {review.days} days with data\n")
    told = [(row, metric_line(row)) for row in review.metrics if row.value is not None]
    show_table(
        ("metric", "kind", "week", "before", "change", "95 % interval", "learners", "says"),
        [
            (
                line.title,
                row.kind,
                line.value,
                line.before,
                line.change,
                line.interval,
                line.units,
                line.label,
            )
            for row, line in told
        ],
        right=("week", "before", "change", "95 % interval", "learners"),
    )
    for title, rows in (
        ("Changes", [f"{one.at:%Y-%m-%d %H:%M} {one.what} ({one.by})" for one in review.changes]),
        ("Incidents", [f"{one.what}: {one.rule} {one.subject} ({one.owner})" for one in review.incidents]),
        (
            "Decisions",
            [
                f"{one.at:%Y-%m-%d} {one.experiment}: {one.kind} {one.outcome} ({one.by})"
                for one in review.decisions
            ],
        ),
        (
            "Data quality",
            [f"{one.rule}: failed {one.failed}, warned {one.warned} days" for one in review.quality],
        ),
    ):
        if rows:
            say(f"\n{title}")
            for row_text in rows:
                say(f"  {row_text}")
    say(f"\nPage: {html or made.html}")


def drift(
    day: Annotated[
        datetime | None,
        typer.Argument(formats=DAY, metavar="[DAY]", help="UTC day, YYYY-MM-DD. Default: the newest."),
    ] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Judge whether versions, speed, cost, safety and answers of a day stray from their own weeks."""
    from exp_pipeline.report.after import DRIFT, drift_seen
    from exp_pipeline.steps.after.drift import judge

    with open_bench(home_of(home)) as bench:
        done = judge(bench, datetime.now(UTC), None if day is None else day.date())
    if as_json:
        print_json([one.model_dump(mode="json") for one in done.findings])
        return
    if done.day is None:
        say("No day has been made yet.")
        return
    say(f"{done.day}\n")
    show_table(
        ("says", "what", "seen"),
        [(DRIFT[one.verdict][0], one.title, drift_seen(one)) for one in done.findings],
    )


def durability(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The experiment's name.")],
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Measure an ended experiment's effect again, 2, 4 and 8 weeks after its end, as far as data reach."""
    from exp_pipeline.report.after import durability_figure
    from exp_pipeline.steps.after.durability import measure

    with open_bench(home_of(home)) as bench:
        done = measure(bench, name, datetime.now(UTC))
        brief = bench.catalog.briefs[name]
        figure = durability_figure(done.rows, bench.catalog.metrics_of(brief)[brief.primary].display)
    if as_json:
        print_json([one.model_dump(mode="json") for one in done.rows])
        return
    if not done.rows:
        say("No look is due yet, or there is no readout to compare with.")
        return
    table = figure.table
    show_table(
        [column.title.lower() for column in table.columns],
        [[row[column.key].text for column in table.columns] for row in table.rows],
        right=[column.title.lower() for column in table.columns if column.numeric],
    )


def holdout(
    layer: Annotated[
        str | None, typer.Argument(metavar="[LAYER]", help="The holdout's layer. Default: every holdout.")
    ] = None,
    week: Annotated[
        str | None,
        typer.Option("--week", metavar="WEEK", help="ISO week, such as 2026-W12. Default: the newest whole."),
    ] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Measure what everything that was shipped did together: held-out units against all others."""
    from exp_pipeline.report.holdout import holdout_facts, holdout_line
    from exp_pipeline.steps.after.holdout import measure

    with open_bench(home_of(home)) as bench:
        done = measure(bench, datetime.now(UTC), layer=layer, week=week)
    if as_json:
        print_json([one.model_dump(mode="json") for one in done.measured])
        return
    for place, one in enumerate(done.measured):
        say(f"{chr(10) if place else ''}{one.title}, {one.week}: up to {one.end - timedelta(days=1)}\n")
        lines = [holdout_line(row) for row in one.readings]
        if lines:
            show_table(
                ("metric", "days", "effect", "95 % interval", "learners", "says"),
                [
                    (line.title, line.days, line.effect, line.interval, line.learners, line.label)
                    for line in lines
                ],
                right=("effect", "95 % interval"),
            )
            say("")
        for line in lines:
            if line.reason:
                say(f"  {line.title}, {line.days}: {line.reason}.")
        for fact in holdout_facts(one):
            say(f"  {fact}")


def retention(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would go, and what stays and why.")
    ] = False,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Delete what is past its day by the retention policy; what an experiment still needs stays."""
    from exp_pipeline.steps.after.retention import keep_to_policy

    with open_bench(home_of(home)) as bench:
        done = keep_to_policy(bench, datetime.now(UTC), dry_run=dry_run)
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "lines": [asdict(one) for one in done.lines],
                "kept_for_good": list(done.kept_for_good),
            }
        )
        return
    if done.lines:
        show_table(
            ("what", "table", "part", "rows", "bytes", "why"),
            [
                (one.what, one.table, one.name, f"{one.rows:,}", f"{one.bytes:,}", one.why)
                for one in done.lines
            ],
            right=("rows", "bytes"),
        )
    going = done.to_delete()
    size = sum(one.bytes for one in going)
    say(f"{'Would go' if dry_run else 'Gone'}: {len(going)} parts, {size:,} bytes.")
    if done.kept_for_good:
        say(f"Kept for good, because the policy sets no limit: {', '.join(done.kept_for_good)}.")


def audit(
    since: Annotated[
        datetime | None, typer.Option("--since", formats=DAY, metavar="DAY", help="From this UTC day on.")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="TEAM", help="Only what this team did.")] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help="Only this kind; may be given again.")
    ] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """List who changed what, oldest first: briefs, ramps, flags, decisions, incidents, deletions."""
    from exp_pipeline.steps.after.audit import audit as changes

    found = changes(
        home_of(home), since=None if since is None else since.date(), by=by, kinds=tuple(kind or ())
    )
    if as_json:
        print_json([asdict(one) | {"at": one.at.isoformat()} for one in found])
        return
    if not found:
        say("Nothing was changed" + (" that fits." if since or by or kind else " yet."))
        return
    show_table(
        ("at (UTC)", "kind", "what", "by", "why"),
        [
            (f"{one.at:%Y-%m-%d %H:%M}", one.kind, f"{one.subject}: {one.what}", one.by, one.why)
            for one in found
        ],
    )
