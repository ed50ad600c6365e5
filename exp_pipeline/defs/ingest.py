"""Ingest: files to landed rows by received day; those to events and what was refused, by event day."""

from collections.abc import Iterator

import dagster as dg

from exp_pipeline.contracts.predicates import rejection_sql
from exp_pipeline.defs import partitions as parts
from exp_pipeline.defs.resources import PipelineResource
from exp_pipeline.defs.specs import plain_columns, report, spec, window_of
from exp_pipeline.steps.behaviour import sessions
from exp_pipeline.steps.context import Window, Workbench, door_shape, event_day
from exp_pipeline.steps.ingest import conform as ingest
from exp_pipeline.steps.ingest import landing
from exp_pipeline.transform.door import landed_columns


@dg.multi_asset(
    specs=[
        spec(
            "landed_events",
            group="ingest",
            description="The files of a received day, read once through their source mapping: typed, "
            "pseudonymous, "
            "sliced by event day. A row that could not be used carries its reason.",
            partitions=parts.received,
            grain="One row per raw row and event made from it.",
            columns=plain_columns(landed_columns(door_shape())),
        )
    ],
    name="land",
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[
        dg.AssetCheckSpec(
            "rows_read_are_kept",
            asset="landed_events",
            description="Every raw row of every file is in the table, at least once.",
            blocking=True,
        )
    ],
)
def landed_events(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    window = window_of(context)
    with pipeline.open(context) as bench:
        written = landing.land_days(bench, window.days())
        lost = [one.partition for one in written if one.rows < int(str(one.facts["raw_rows"]))]
        read = sum(int(str(one.facts["raw_rows"])) for one in written)
    report(context, written)
    yield dg.MaterializeResult(asset_key="landed_events")
    yield dg.AssetCheckResult(
        check_name="rows_read_are_kept",
        asset_key="landed_events",
        passed=not lost,
        metadata={
            "rows_read": read,
            "rows_landed": sum(one.rows for one in written),
            "days_with_loss": ", ".join(lost),
        },
    )


@dg.multi_asset(
    specs=[
        spec(
            "events",
            group="ingest",
            description="Events that keep their contract, each once, sorted by learner and time. Reads every "
            "received day that holds rows of the event day, so late events are in.",
            table="events",
            partitions=parts.event_days,
            deps=["landed_events"],
        ),
        spec(
            "quarantine",
            group="ingest",
            description="Rows that were refused, with file, place and reason.",
            table="quarantine",
            partitions=parts.event_days,
            deps=["landed_events"],
        ),
        spec(
            "exclusions",
            group="ingest",
            description="Events of staff, tests and bots, kept apart with the reason.",
            table="exclusions",
            partitions=parts.event_days,
            deps=["landed_events"],
        ),
    ],
    name="conform",
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[
        dg.AssetCheckSpec(
            "conservation",
            asset="events",
            description="Rows landed = events + retries + quarantined + excluded, for every day and source.",
            blocking=True,
        ),
        dg.AssetCheckSpec(
            "contract",
            asset="events",
            description="No event breaks its contract; the files are in the order that later passes rely on.",
            blocking=True,
        ),
    ],
)
def conformed(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    window = window_of(context)
    with pipeline.open(context) as bench:
        written = ingest.conform(bench, window)
        conservation = conservation_check(bench, window)
        contract = contract_check(bench, window)
    report(context, written)
    for name in ("events", "quarantine", "exclusions"):
        yield dg.MaterializeResult(asset_key=name)
    yield conservation
    yield contract


def conservation_check(bench: Workbench, window: Window) -> dg.AssetCheckResult:
    """Count both sides of the law from different places: landed files on one, written tables on the other."""
    lake = bench.lake
    wanted = {day.isoformat(): 0 for day in window.days()}
    for manifest in lake.manifests("landed", lake.partitions("landed")):
        for file in manifest.files:
            if file.tag in wanted:
                wanted[file.tag] += file.rows
    broken = []
    totals = {"landed": 0, "events": 0, "retries": 0, "quarantined": 0, "excluded": 0}
    for day, landed in wanted.items():
        rows = {}
        for table in ("events", "quarantine", "exclusions"):
            found = lake.manifest(table, f"event_date={day}")
            rows[table] = found.rows if found else 0
        events = lake.manifest("events", f"event_date={day}")
        by_source = events.facts.get("by_source", {}) if events else {}
        sources = by_source.values() if isinstance(by_source, dict) else ()
        retries = sum(int(source["retry"]) for source in sources)
        for source in sources:
            if (
                source["landed"]
                != source["kept"] + source["retry"] + source["quarantined"] + source["excluded"]
            ):
                broken.append(f"{day}: {source}")
        if landed != rows["events"] + retries + rows["quarantine"] + rows["exclusions"]:
            broken.append(f"{day}: {landed} landed, {rows} and {retries} retries written")
        totals["landed"] += landed
        totals["retries"] += retries
        totals["events"] += rows["events"]
        totals["quarantined"] += rows["quarantine"]
        totals["excluded"] += rows["exclusions"]
    return dg.AssetCheckResult(
        check_name="conservation",
        asset_key="events",
        passed=not broken,
        metadata={**totals, "broken": "\n".join(broken[:10])},
    )


def contract_check(bench: Workbench, window: Window) -> dg.AssetCheckResult:
    """Judge the written events again, apart from the step that wrote them."""
    bench.read_days("written_events", "events", window)
    events, refused = bench.engine.row(
        f"select count(*), count(*) filter (where ({rejection_sql()}) is not null) from written_events"
    )
    unsorted = sum(
        sessions.check_sorted(bench, day)
        for day in window.days()
        if bench.lake.manifest("events", event_day(day))
    )
    return dg.AssetCheckResult(
        check_name="contract",
        asset_key="events",
        passed=not refused and not unsorted,
        metadata={
            "events": events,
            "events_that_break_their_contract": refused,
            "events_out_of_order": unsorted,
        },
    )
