"""A brief on its way to a start, and after it: `brief`, `lock`, `review`, `queue`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from exp_pipeline.cli.runs import brief_named, open_bench
from exp_pipeline.cli.terminal import AsJson, HomeDir, home_of, print_json, say, show_table
from exp_pipeline.model.errors import ExpError

if TYPE_CHECKING:
    from exp_pipeline.model.intake import IntakeRow
    from exp_pipeline.model.readout import LockState

Name = Annotated[str, typer.Argument(metavar="NAME", help="The experiment's name.")]
Team = Annotated[str, typer.Option("--by", metavar="TEAM", help="The team that says so; no person's name.")]


def brief(
    name: Name,
    history: Annotated[
        bool, typer.Option("--history", help="Everything recorded of it: lock, changes, reviews.")
    ] = False,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Show a brief in words, how it stands against its lock, and with --history what was recorded of it."""
    from exp_pipeline.analysis.planning.intake import completeness, priority
    from exp_pipeline.steps.experiments.brief_history import history_of_brief
    from exp_pipeline.steps.experiments.locking import lock_of
    from exp_pipeline.steps.experiments.reviews import reviews_waiting
    from exp_pipeline.steps.opening import open_catalog

    place = home_of(home)
    catalog = open_catalog(place.catalog)
    found = brief_named(catalog, name)
    lock = lock_of(place, found)
    lines = history_of_brief(place, found)
    whole, promise = completeness(found), priority(found)
    waiting = reviews_waiting(place, found, catalog.reviews)
    if as_json:
        print_json(
            {
                "experiment": found.name,
                "version": found.version,
                "file": str(catalog.files[name]),
                "digest": found.digest(),
                "hypothesis": found.hypothesis.sentence(),
                "lock": lock.model_dump(mode="json"),
                "completeness": whole.share,
                "missing": [str(one) for one in whole.missing],
                "priority": promise.score,
                "priority_because": promise.because,
                "waits_for": list(waiting),
                "history": [asdict(line) for line in lines],
            }
        )
        return
    say(f"{found.name} version {found.version}: {found.title}")
    say(f"  {catalog.files[name]}")
    say(f"  {found.hypothesis.sentence()}")
    say(f"  {found.start} to {found.end} (end excluded), primary {found.primary}, {found.risk_class} risk")
    say(f"  owner {found.owner}, on call {found.on_call}")
    say(f"  {_lock_in_words(lock)}")
    for change in lock.changes:
        since = f" (first seen {change.first_seen:%Y-%m-%d %H:%M} UTC)" if change.first_seen else ""
        say(f"    {change.field}: {change.locked_value} -> {change.current_value}{since}")
    say(f"  Complete to {100 * whole.share:.0f} %" + (":" if whole.missing else "."))
    for one in whole.missing:
        say(f"    missing: {one}")
    say(f"  Priority: {_priority(promise.score)} ({promise.because})")
    say(f"  Waits for: {', '.join(waiting) + ' review' if waiting else 'no review'}")
    if not history:
        return
    say()
    if not lines:
        say("Nothing was recorded of it yet.")
        return
    show_table(
        ("when (UTC)", "what", "by", "in words"),
        [(f"{line.at.astimezone(UTC):%Y-%m-%d %H:%M}", line.what, line.by, line.told) for line in lines],
    )


def lock(
    name: Name,
    by: Team,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why it starts although it has gaps.")
    ] = "",
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Lock a brief before its first day of data: it starts as it stands. The first day locks it by itself."""
    from exp_pipeline.steps.experiments.starting import lock_by_hand

    with open_bench(home_of(home)) as bench:
        found = brief_named(bench.catalog, name)
        if found.table is not None:
            raise ExpError(f"experiment {name!r} is over a unit table: say --locked to `exp analyze`")
        state = lock_by_hand(bench, found, datetime.now(UTC), by=by, reason=reason)
    if as_json:
        print_json({"experiment": name, "lock": state.model_dump(mode="json")})
        return
    say(f"{name} is locked as {(state.locked_digest or '')[:12]}. A later change will be shown in its memo.")
    for gap in state.gaps:
        say(f"  it starts though not ready: {gap}")


def review(
    name: Name,
    kind: Annotated[
        str, typer.Option("--kind", metavar="KIND", help="Which review: peer, data, privacy, safety …")
    ],
    by: Team,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="What the review said.")] = "",
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Record that a team reviewed a brief as it stands. A later change of its design undoes the review."""
    from exp_pipeline.steps.experiments.reviews import record_review, reviews_waiting
    from exp_pipeline.steps.opening import open_catalog

    place = home_of(home)
    catalog = open_catalog(place.catalog)
    found = brief_named(catalog, name)
    new = record_review(place, found, catalog.reviews, kind=kind, by=by, note=note, at=datetime.now(UTC))
    waiting = reviews_waiting(place, found, catalog.reviews)
    if as_json:
        print_json({"experiment": name, "kind": kind, "recorded": new, "waits_for": list(waiting)})
        return
    say(f"Recorded: {kind} review of {name} by {by}." if new else "This review was recorded before.")
    say(f"It still waits for: {', '.join(waiting)}." if waiting else "It waits for no further review.")


def queue(
    everything: Annotated[
        bool, typer.Option("--all", help="Also experiments that are locked or over.")
    ] = False,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """List drafts: how complete each brief is, how much it promises, and which reviews it waits for."""
    from exp_pipeline.steps.experiments.drafting import intake_rows
    from exp_pipeline.steps.opening import open_catalog

    place = home_of(home)
    catalog = open_catalog(place.catalog)
    rows = [row for row in intake_rows(place, catalog) if everything or row.state == "draft"]
    if as_json:
        print_json(
            {
                "rows": [asdict(row) for row in rows],
                "problems": [str(problem) for problem in catalog.problems],
            }
        )
        return
    _show_queue(rows, everything=everything)
    asked = {kind for row in rows for kind in row.waits_for}
    for one in catalog.reviews.kinds:
        if one.name in asked:
            say(f"  {one.name} ({one.team or 'no team named'}): {one.asks}")
    for problem in catalog.problems:
        typer.echo(f"left out: {problem}", err=True)


def _show_queue(rows: list[IntakeRow], *, everything: bool) -> None:
    if not rows:
        say(
            "There is no brief."
            if everything
            else "There is no draft: every brief is locked or over (--all)."
        )
        return
    show_table(
        ("experiment", "state", "risk", "start", "complete", "priority", "waits for", "owner"),
        [
            (
                row.experiment,
                row.state,
                row.risk_class,
                row.start,
                f"{100 * row.completeness:.0f} %",
                _priority(row.priority),
                ", ".join(row.waits_for) or "nothing",
                row.owner,
            )
            for row in rows
        ],
        right=("complete", "priority"),
    )
    for row in rows:
        if row.missing:
            say(f"  {row.experiment} lacks {'; '.join(row.missing)}")


def _priority(score: float | None) -> str:
    return "not given" if score is None else f"{score:g}"


def _lock_in_words(lock: LockState) -> str:
    if lock.locked_digest is None:
        return "Not locked: it may still be changed."
    when = f" on {lock.locked_at:%Y-%m-%d %H:%M} UTC" if lock.locked_at else ""
    ready = f"; it was not ready: {'; '.join(lock.gaps)}" if lock.gaps else ""
    changed = f", changed since in {len(lock.changes)} field{'s' if len(lock.changes) != 1 else ''}"
    return f"Locked{when}{changed if lock.changes else ', unchanged since'}{ready}."
