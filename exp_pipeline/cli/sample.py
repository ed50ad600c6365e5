"""`demo`: the bundled sample, from landed events to decision memos."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from datetime import date, timedelta

import typer

from exp_pipeline.cli.bundle import SAMPLE_KEY, is_sample, sample_root
from exp_pipeline.cli.runs import (
    event_briefs,
    landed_days,
    name_dagster_home,
    needs_key,
    open_bench,
    run_all,
    stored_readout,
)
from exp_pipeline.cli.terminal import AsJson, Clock, HomeDir, Verbose, home_of, print_json, say

# Rows that come late change the days before: a later range does these again, as the daily schedule does.
LATE_DAYS = timedelta(days=3)


def in_turn(first: date, last: date, starts: Iterable[date]) -> list[tuple[date, date]]:
    """Ranges of days that end at each start in turn, so that a brief is locked before its data."""
    ranges, since = [], first
    for start in sorted({start for start in starts if first <= start < last}):
        ranges.append((since, start))
        since = max(first, start - LATE_DAYS)
    return [*ranges, (since, last)]


def demo(home: HomeDir = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Run the bundled sample through Dagster, from landed events to decision memos."""
    clock = Clock()
    given = home
    if given is None and "EXP_HOME" not in os.environ:
        given = sample_root()
    place = home_of(given)
    days = landed_days(place)
    if not os.environ.get("EXP_HMAC_KEY") and is_sample(place.root):
        os.environ["EXP_HMAC_KEY"] = SAMPLE_KEY
        typer.echo(
            "EXP_HMAC_KEY is not set: using the sample's own key, which is public. "
            "Never use it for real learners.",
            err=True,
        )
    needs_key()
    name_dagster_home(make=True)
    from exp_pipeline.steps.experiments.chain import lock_of
    from exp_pipeline.steps.opening import open_catalog

    catalog = open_catalog(place.catalog, strict=True)
    experiments = event_briefs(catalog)
    with open_bench(place, catalog) as bench:
        unlocked = [
            catalog.briefs[name].start
            for name in experiments
            if lock_of(bench, catalog.briefs[name]).locked_digest is None
        ]
    ranges = in_turn(days[0], days[-1], unlocked)
    if len(ranges) > 1 and not as_json:
        say("The sample is replayed as it came: each brief is locked when the data reach its start.")
    done = run_all(ranges, experiments, quiet=as_json, verbose=verbose)
    decided = {one.subject for one in done if one.decided}
    found = {name: stored_readout(place, name) if name in decided else None for name in experiments}
    memos = {name: place.readouts / f"{name}.html" for name, readout in found.items() if readout is not None}
    index = place.readouts / "index.html"
    succeeded = all(one.succeeded for one in done)
    if as_json:
        print_json(
            {
                "succeeded": succeeded,
                "seconds": clock.seconds,
                "runs": [asdict(one) for one in done],
                "decisions": {
                    name: readout.decision.model_dump(mode="json")
                    for name, readout in found.items()
                    if readout is not None
                },
                "memos": {name: str(path) for name, path in memos.items()},
                "index": str(index),
            }
        )
    else:
        say(
            f"\nDone in {clock.seconds:.0f} s."
            if succeeded
            else f"\nNot everything succeeded ({clock.seconds:.0f} s)."
        )
        for name, readout in found.items():
            if readout is None:
                say(f"\n{name}: no decision, because its run failed")
                continue
            say(f"\n{name}: {readout.decision.outcome.replace('_', ' ')}. {readout.decision.summary}")
            for arm in readout.decision.arms:
                say(f"  {arm.arm}: {arm.outcome.replace('_', ' ')}. {arm.because}")
        say("\nAll experiments on one page: " + str(index))
        say("Dagster's UI with every run: make dev")
        say("Memos:")
        for path in memos.values():
            say(str(path))
    if not succeeded:
        raise typer.Exit(1)
