"""`status`: what is there, from landing files to decisions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from exp_pipeline.cli.runs import open_bench, stored_readout
from exp_pipeline.cli.terminal import AsJson, HomeDir, home_of, print_json, say, show_table
from exp_pipeline.model.errors import ExpError

if TYPE_CHECKING:
    from exp_pipeline.model.brief import Brief
    from exp_pipeline.steps.context import Workbench


def status(home: HomeDir = None, as_json: AsJson = False) -> None:
    """Tell what is there: days, rows, experiments with their decisions, failed checks, open incidents."""
    from exp_pipeline.steps.context import day_of
    from exp_pipeline.steps.experiments.chain import last_day
    from exp_pipeline.steps.operating.incidents import open_incidents
    from exp_pipeline.store.landing import received_days
    from exp_pipeline.store.state import state_log

    place = home_of(home)
    with open_bench(place) as bench:
        landed = received_days(place.landing)
        read = [day_of(name) for name in bench.lake.partitions("landed")]
        manifests = bench.lake.manifests("events", bench.lake.partitions("events"))
        newest = last_day(bench)
        now = datetime.now(UTC)
        experiments = [_experiment(bench, brief, now) for _, brief in sorted(bench.catalog.briefs.items())]
        quality = _quality(bench)
        problems = [str(problem) for problem in bench.catalog.problems]
    incidents = open_incidents(state_log(place))
    facts: dict[str, object] = {
        "home": str(place.root.resolve()),
        "newest_landed_day": landed[-1] if landed else None,
        "landed_days_not_read": sorted(set(landed) - set(read)),
        "newest_event_day": newest,
        "event_days": len(manifests),
        "events": sum(manifest.rows for manifest in manifests),
        "experiments": [asdict(one) for one in experiments],
        "failed_quality_rules": quality,
        "open_incidents": [f"{one.rule} on {one.subject} since {one.since}" for one in incidents],
        "catalog_problems": problems,
    }
    if as_json:
        print_json(facts)
        return
    unread = sorted(set(landed) - set(read))
    say(f"Data folder         {facts['home']}")
    say(f"Newest landed day   {landed[-1] if landed else 'none: nothing has landed'}")
    if unread:
        say(f"Not read yet        {len(unread)} landed days, {unread[0]} to {unread[-1]} (exp run)")
    say(f"Newest event day    {newest or 'none: no day has been run (exp run)'}")
    say(f"Events              {facts['events']:,} on {len(manifests)} days")
    if experiments:
        say()
        show_table(
            ("experiment", "life", "snapshot", "decision", "failed checks"),
            [
                (one.name, one.life, one.snapshot or "none", one.decision or "", ", ".join(one.failed_checks))
                for one in experiments
            ],
        )
    else:
        say("Experiments         none")
    for title, lines in (
        ("Data quality, newest day", quality),
        ("Stale readouts", [f"{one.name}: {one.stale}" for one in experiments if one.stale]),
        ("Readouts not as sealed", [one.damaged for one in experiments if one.damaged]),
        ("Open incidents", facts["open_incidents"]),
        ("Problems in the catalog", problems),
    ):
        if isinstance(lines, list) and lines:
            say(f"\n{title}")
            for line in lines:
                say(f"  {line}")


@dataclass(frozen=True, slots=True)
class ExperimentState:
    """Where an experiment is; `decision` is "blinded" while effects are hidden, None before a readout.

    `damaged` says why its stored readout cannot be relied on.
    """

    name: str
    life: str
    start: date
    end: date
    snapshot: str | None
    as_of: date | None
    decision: str | None
    failed_checks: tuple[str, ...]
    stale: str | None = None
    damaged: str | None = None


def _experiment(bench: Workbench, brief: Brief, now: datetime) -> ExperimentState:
    from exp_pipeline.steps.again.staleness import staleness
    from exp_pipeline.steps.operating.life import life
    from exp_pipeline.store.marts import Marts

    against = staleness(bench, brief.name)
    readout, decision, failed, damaged = None, None, [], None
    try:
        readout = stored_readout(bench.home, brief.name)
    except ExpError as trouble:
        damaged = str(trouble)
    if readout is not None:
        decision = "blinded" if readout.blinded else readout.decision.outcome.replace("_", " ")
        failed = [one.name for one in readout.integrity if one.verdict == "fail"]
    return ExperimentState(
        name=brief.name,
        life="over a unit table" if brief.table is not None else life(bench, brief, now).now.label,
        start=brief.start,
        end=brief.end,
        snapshot=Marts(bench.home.marts).current(brief.name),
        as_of=None if readout is None else readout.as_of,
        decision=decision,
        failed_checks=tuple(failed),
        stale=against.sentence() if against is not None and against.stale else None,
        damaged=damaged,
    )


def _quality(bench: Workbench) -> list[str]:
    import polars as pl

    days = bench.lake.partitions("data_quality")
    paths = bench.lake.paths(bench.lake.manifests("data_quality", days[-1:]))
    if not paths:
        return []
    failed = pl.read_parquet(paths).filter(pl.col("verdict") == "fail").sort("rule", "subject")
    return [
        f"{rule} on {subject}: {text}"
        for rule, subject, text in failed.select("rule", "subject", "evidence").rows()
    ]
