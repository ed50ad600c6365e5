"""Behaviour, identity, exposure and facts: what happened on each day, for all experiments at once."""

import time

import dagster as dg

from exp_pipeline.defs import partitions as parts
from exp_pipeline.defs.resources import PipelineResource
from exp_pipeline.defs.specs import metadata_of, metadata_of_files, report, spec, window_of
from exp_pipeline.steps.assignment import exposure
from exp_pipeline.steps.behaviour import facts
from exp_pipeline.steps.behaviour import learner_days as behaviour
from exp_pipeline.steps.behaviour import sessions as cutting
from exp_pipeline.steps.people import roster

_RANGE = dg.BackfillPolicy.single_run()


@dg.multi_asset(
    specs=[
        spec(
            "learner_days",
            group="facts",
            description="What each learner did on a day, in or out of experiments: one column a measure, "
            "cut at the learner's assignments.",
            table="learner_days",
            partitions=parts.event_days,
            deps=["events"],
        )
    ],
    name="sum_learner_days",
    backfill_policy=_RANGE,
)
def learner_days(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    with pipeline.open(context) as bench:
        report(context, behaviour.build_learner_days(bench, window_of(context)))
    return dg.MaterializeResult(asset_key="learner_days")


@dg.multi_asset(
    specs=[
        spec(
            "sessions",
            group="behaviour",
            description="Sessions by the 30-minute rule, on the day they started; found again "
            "identically by any range of days. Reads the day before and the day after too.",
            table="sessions",
            partitions=parts.event_days,
            deps=["events"],
        )
    ],
    name="glue_sessions",
    backfill_policy=_RANGE,
)
def sessions(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    with pipeline.open(context) as bench:
        report(context, cutting.build_sessions(bench, window_of(context)))
    return dg.MaterializeResult(asset_key="sessions")


@dg.multi_asset(
    specs=[
        spec(
            "turns",
            group="behaviour",
            description="One learner message with what answered it: requests, tool calls, response, "
            "latency, cost. Reads the day before and the day after too.",
            table="turns",
            partitions=parts.event_days,
            deps=["events"],
        )
    ],
    name="pair_turns",
    backfill_policy=_RANGE,
)
def turns(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    with pipeline.open(context) as bench:
        report(context, behaviour.build_turns(bench, window_of(context)))
    return dg.MaterializeResult(asset_key="turns")


@dg.multi_asset(
    specs=[
        spec(
            "roster",
            group="identity",
            description="Who sits in which class by the school's own list, from files in `landing/roster`; "
            "empty where there is none.",
            table="roster",
        ),
        spec(
            "roster_quarantine",
            group="identity",
            description="Rows of the roster's files that give no stay, with the reason.",
            table="roster_quarantine",
        ),
    ],
    name="read_roster",
)
def roster_read(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> tuple[dg.MaterializeResult[None], dg.MaterializeResult[None]]:
    started = time.monotonic()
    with pipeline.open(context) as bench:
        written = {one.table: one for one in roster.land_roster(bench)}
        there = {name: bench.lake.manifest(name, roster.WHOLE) for name in (roster.ROSTER, roster.REFUSED)}
    seconds = time.monotonic() - started

    def told(name: str) -> dg.MaterializeResult[None]:
        """What was written, or what stands there since an earlier run; nothing, where there is no roster."""
        if name in written:
            return dg.MaterializeResult(asset_key=name, metadata=metadata_of(written[name]))
        found = there[name]
        rows, size = (found.rows, found.bytes) if found is not None else (0, 0)
        metadata = metadata_of_files(rows, seconds) | {"bytes": size}
        return dg.MaterializeResult(asset_key=name, metadata=metadata)

    return told(roster.ROSTER), told(roster.REFUSED)


@dg.multi_asset(
    specs=[
        spec(
            "assignments",
            group="exposure",
            description="Who was put into which arm on this day, with the context frozen at that "
            "moment. Append-only: "
            "a unit's first assignment over all days is the one that counts.",
            table="assignments",
            partitions=parts.event_days,
            deps=["events", "roster"],
        ),
        spec(
            "exposures",
            group="exposure",
            description="Who saw the treatment on this day, where, first when and how often.",
            table="exposures",
            partitions=parts.event_days,
            deps=["events"],
        ),
    ],
    name="collect_assignments",
    backfill_policy=_RANGE,
)
def assigned(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> tuple[dg.MaterializeResult[None], dg.MaterializeResult[None]]:
    window = window_of(context)
    with pipeline.open(context) as bench:
        report(context, exposure.build_assignments(bench, window))
        report(context, exposure.build_exposures(bench, window))
    return dg.MaterializeResult(asset_key="assignments"), dg.MaterializeResult(asset_key="exposures")


@dg.multi_asset(
    specs=[
        spec(
            "enrollments",
            group="identity",
            description="Who sat in which class, from when to when (the end is excluded, empty while "
            "it lasts).",
            table="enrollments",
            deps=[dg.AssetDep("sessions", partition_mapping=dg.AllPartitionMapping()), "roster"],
        ),
        spec(
            "content",
            group="identity",
            description="Content items and learning objectives that events name, first and last seen.",
            table="content",
            deps=[dg.AssetDep("events", partition_mapping=dg.AllPartitionMapping())],
        ),
    ],
    name="list_identities",
)
def identities(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> tuple[dg.MaterializeResult[None], dg.MaterializeResult[None]]:
    with pipeline.open(context) as bench:
        rolls = exposure.build_enrollments(bench)[0]
        items = exposure.build_content(bench)[0]
    return (
        dg.MaterializeResult(asset_key="enrollments", metadata=metadata_of(rolls)),
        dg.MaterializeResult(asset_key="content", metadata=metadata_of(items)),
    )


@dg.multi_asset(
    specs=[
        spec(
            "unit_days",
            group="facts",
            description="What each unit of each experiment did on a day at or after its assignment: "
            "one column a measure. Reads the assignments of earlier days too.",
            table="unit_days",
            partitions=parts.event_days,
            deps=[
                "learner_days",
                "sessions",
                "events",
                "assignments",
                "enrollments",
            ],
        )
    ],
    name="sum_unit_days",
    backfill_policy=_RANGE,
)
def unit_days(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    with pipeline.open(context) as bench:
        report(context, facts.build_unit_days(bench, window_of(context)))
    return dg.MaterializeResult(asset_key="unit_days")
