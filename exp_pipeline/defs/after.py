"""After the analyses: warehouse, drift, lasting effects, what was shipped together, the week in review."""

import os
import re
from datetime import UTC, date, datetime, timedelta

import dagster as dg
from dagster_duckdb import DuckDBResource

from exp_pipeline.analysis.after.weekly import last_whole_week, monday_of
from exp_pipeline.defs import partitions as parts
from exp_pipeline.defs.images import svg_image
from exp_pipeline.defs.resources import PipelineResource
from exp_pipeline.defs.result_tables import report_table
from exp_pipeline.defs.specs import metadata_of, result_columns, spec
from exp_pipeline.model.after import DriftFinding, DurabilityRow, HoldoutReading
from exp_pipeline.report.after import (
    DRIFT,
    drift_figure,
    drift_plot,
    drift_seen,
    durability_figure,
    durability_plot,
)
from exp_pipeline.report.holdout import holdout_table
from exp_pipeline.steps.after import drift, durability, holdout, weekly
from exp_pipeline.steps.context import day_of
from exp_pipeline.steps.opening import home_from
from exp_pipeline.steps.warehouse import build_warehouse
from exp_pipeline.store.lake import MANIFEST

_ALL = dg.AllPartitionMapping()
_WIDE = 800
# A tick reads no YAML.
_HOLDOUT = re.compile(r"^kind:\s*[\"']?holdout\b", re.MULTILINE)


@dg.multi_asset(
    specs=[
        spec(
            "warehouse",
            group="after",
            description="One small DuckDB file with documented views over the lake and tables of "
            "experiments, estimates, "
            "verdicts and decisions. It is built beside the live one and put in its place whole.",
            deps=[
                dg.AssetDep(name, partition_mapping=_ALL)
                for name in ("unit_days", "srm_daily", "guardrails_daily", "decision")
            ],
            grain="One file.",
        )
    ],
    name="build_warehouse",
    pool="warehouse",
)
def warehouse(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    with pipeline.open(context) as bench:
        written = build_warehouse(bench, lambda path: DuckDBResource(database=path).get_connection())
    return dg.MaterializeResult(asset_key="warehouse", metadata=metadata_of(written))


@dg.multi_asset(
    specs=[
        spec(
            "drift",
            group="after",
            description="The newest day's versions, speed, cost, tokens, safety flags and answers against "
            "the same weekday of its own weeks. What strays past line and chance opens an incident.",
            kinds=("duckdb", "json"),
            deps=[dg.AssetDep(name, partition_mapping=_ALL) for name in ("events", "turns", "sessions")],
            grain="One number, share or version of the newest day.",
            columns=result_columns(DriftFinding),
        )
    ],
    name="judge_drift",
)
def drift_judged(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    with pipeline.open(context) as bench:
        done = drift.judge(bench, datetime.now(UTC))
    rows = [one for one in done.findings if one.verdict in ("fail", "warn")]
    listed = "\n".join(f"- {DRIFT[one.verdict][0]}: {one.title}: {drift_seen(one)}" for one in rows)
    figure = drift_figure(done.findings)
    return dg.MaterializeResult(
        asset_key="drift",
        metadata={
            "dagster/row_count": len(done.findings),
            "day": str(done.day or "none"),
            "days_counted": done.counted,
            "incidents_changed": done.opened,
            "strays": dg.MetadataValue.md(listed or "Nothing strays."),
            "findings": report_table(figure.table, without=("seen",)),
            "changes_against_their_lines": svg_image(figure.title, drift_plot(figure, _WIDE)),
        },
    )


@dg.multi_asset(
    specs=[
        spec(
            "durability",
            group="after",
            description="An ended experiment's effect on its primary metric, measured again 2, 4 and 8 weeks "
            "after its end on the same units; a decay opens an incident.",
            partitions=parts.experiments,
            kinds=("duckdb", "json"),
            deps=["mad", "decision", dg.AssetDep("learner_days", partition_mapping=_ALL)],
            grain="One look after the end and treatment arm.",
            columns=result_columns(DurabilityRow),
        )
    ],
    name="measure_durability",
)
def durability_measured(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> dg.MaterializeResult[None]:
    with pipeline.open(context) as bench:
        done = durability.measure(bench, context.partition_key, datetime.now(UTC))
        brief = bench.catalog.briefs[context.partition_key]
        display = bench.catalog.metrics_of(brief)[brief.primary].display
    figure = durability_figure(done.rows, display)
    return dg.MaterializeResult(
        asset_key="durability",
        metadata={
            "dagster/row_count": len(done.rows),
            "decayed": sum(one.decayed for one in done.rows),
            "looks": report_table(figure.table),
            "change_since_the_end": svg_image(figure.title, durability_plot(figure, display, _WIDE)),
            "not_estimable": dg.MetadataValue.md(
                "\n".join(f"- {one.due} {one.arm}: {one.reason}" for one in done.rows if one.reason)
                or "None."
            ),
            "incidents_changed": done.changed,
        },
    )


@dg.multi_asset(
    specs=[
        spec(
            "holdout",
            group="after",
            description="Units that are held out of everything against all others, over the newest four "
            "weeks and since the holdout began: what all that was shipped did together. Harm, or another "
            "share than the declared one, opens an incident.",
            kinds=("duckdb", "json"),
            deps=[
                *(
                    dg.AssetDep(name, partition_mapping=_ALL)
                    for name in ("landed_events", "learner_days", "sessions", "exposures")
                ),
                dg.AssetDep("decision", partition_mapping=_ALL),
            ],
            grain="One metric and stretch of days of one holdout, at the end of one week.",
            columns=result_columns(HoldoutReading),
        )
    ],
    name="measure_holdout",
)
def holdout_measured(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> dg.MaterializeResult[None]:
    with pipeline.open(context) as bench:
        if not bench.catalog.holdouts():
            return dg.MaterializeResult(
                asset_key="holdout",
                metadata={"dagster/row_count": 0, "readings": dg.MetadataValue.md("There is no holdout.")},
            )
        done = holdout.measure(bench, datetime.now(UTC))
    rows = [row for one in done.measured for row in one.readings]
    metadata: dict[str, dg.MetadataValue | int | float | str | None] = {
        "dagster/row_count": len(rows),
        "week": ", ".join(sorted({one.week for one in done.measured})),
        "alarms": sum(len(one.alarms()) for one in done.measured),
        "contaminated_learners": sum(one.contaminated for one in done.measured),
        "incidents_changed": done.changed,
        "readings": dg.MetadataValue.md(holdout_table(done.measured)),
    }
    first = next((row for row in rows if row.effect is not None), None)
    if first is not None:
        metadata |= {"effect": first.effect, "ci_lower": first.ci_lower, "ci_upper": first.ci_upper}
        metadata["effect_of"] = f"{first.title}, {first.first} to {first.end - timedelta(days=1)}"
    return dg.MaterializeResult(asset_key="holdout", metadata=metadata)


@dg.multi_asset(
    specs=[
        spec(
            "weekly_review",
            group="after",
            description="The newest whole ISO week against the one before: north star, what drives it, "
            "guardrails and data quality, with incidents, decisions, ramps and flags of the week. All "
            "learners together, never by arm.",
            kinds=("duckdb", "html"),
            deps=[
                *(dg.AssetDep(name, partition_mapping=_ALL) for name in ("learner_days", "sessions")),
                dg.AssetDep("data_quality", partition_mapping=_ALL),
                "ramp_state",
                "flags",
            ],
            grain="One page.",
        )
    ],
    name="review_week",
)
def week_reviewed(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> dg.MaterializeResult[None]:
    with pipeline.open(context) as bench:
        made = weekly.write_weekly(bench, datetime.now(UTC))
    review = made.review
    moved = "\n".join(f"- {one.title}: {'better' if one.good else 'worse'}" for one in review.moved())
    return dg.MaterializeResult(
        asset_key="weekly_review",
        metadata={
            "week": review.week,
            "page": dg.MetadataValue.path(str(made.html)),
            "moved": dg.MetadataValue.md(moved or "Nothing moved clearly."),
            "changes": len(review.changes),
            "incidents": len(review.incidents),
            "decisions": len(review.decisions),
        },
    )


drift_watch = dg.define_asset_job(
    "drift_watch",
    selection=dg.AssetSelection.assets("drift"),
    description="What is served against its own weeks: versions, speed, cost, safety, answers.",
)
experiment_durability = dg.define_asset_job(
    "experiment_durability",
    selection=dg.AssetSelection.assets("durability"),
    description="An ended experiment's effect, measured again some weeks later.",
)
holdout_measurement = dg.define_asset_job(
    "holdout_measurement",
    selection=dg.AssetSelection.assets("holdout"),
    description="What all that was shipped did together, at the end of the newest whole week.",
)
week_in_review = dg.define_asset_job(
    "week_in_review",
    selection=dg.AssetSelection.assets("weekly_review"),
    description="The newest whole week against the one before, as a page.",
)


@dg.schedule(
    job=drift_watch,
    cron_schedule="30 5 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def drift_daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Every morning, after the day before was made; harmless to repeat."""
    if not _days_of("turns"):
        return dg.SkipReason("No day has been made yet.")
    return dg.RunRequest(run_key=f"drift-{context.scheduled_execution_time.date()}")


@dg.schedule(
    job=holdout_measurement,
    cron_schedule="40 5 * * 1",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def holdout_on_mondays(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Every Monday before the review, where the catalog has a holdout and a week is whole."""
    layers = sorted((home_from(os.environ).catalog / "layers").glob("*.y*ml"))
    if not any(_HOLDOUT.search(path.read_text(encoding="utf-8", errors="replace")) for path in layers):
        return dg.SkipReason("The catalog has no holdout.")
    days = _days_of("learner_days")
    if not days:
        return dg.SkipReason("No day has been made yet.")
    week = last_whole_week(days[-1])
    if not any(day < monday_of(week) + timedelta(days=7) for day in days):
        return dg.SkipReason("No week is whole yet.")
    return dg.RunRequest(run_key=f"holdout-{context.scheduled_execution_time.date()}-{week}")


@dg.schedule(
    job=week_in_review,
    cron_schedule="0 6 * * 1",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def weekly_on_mondays(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Every Monday at six: the newest week that is whole, where the data reach into it."""
    days = _days_of("learner_days")
    if not days:
        return dg.SkipReason("No day has been made yet.")
    week = last_whole_week(days[-1])
    first = monday_of(week)
    if not any(first <= day < first + timedelta(days=7) for day in days):
        return dg.SkipReason("No week is whole yet.")
    return dg.RunRequest(run_key=f"week-{context.scheduled_execution_time.date()}-{week}")


def _days_of(table: str) -> list[date]:
    """The days of a table that were made, oldest first, without reading any."""
    folder = home_from(os.environ).lake / table
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    return [day_of(name) for name in names if (folder / name / MANIFEST).is_file()]
