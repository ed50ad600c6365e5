"""Daily verdicts: sample ratios, guardrails, data quality; a failed one is visible on its asset."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import dagster as dg
import polars as pl

from exp_pipeline.defs import partitions as parts
from exp_pipeline.defs import quality_checks
from exp_pipeline.defs.resources import PipelineResource
from exp_pipeline.defs.specs import report, spec, window_of
from exp_pipeline.notify.routing import channels_from
from exp_pipeline.steps.again.staleness import Staleness
from exp_pipeline.steps.context import Window, Workbench, Written, event_day
from exp_pipeline.steps.experiments.readouts import mark_stale
from exp_pipeline.steps.operating import daily, watch
from exp_pipeline.steps.quality import days as quality


@dg.multi_asset(
    specs=[
        spec(
            "srm_daily",
            group="integrity",
            description="Units so far by arm against the planned shares, with a p-value that may be "
            "looked at every day.",
            table="srm_daily",
            partitions=parts.event_days,
            deps=["assignments", "enrollments"],
        ),
        spec(
            "guardrails_daily",
            group="integrity",
            description="Every guardrail on all data so far, judged by bounds that hold at every look, "
            "with its kill rule.",
            table="guardrails_daily",
            partitions=parts.event_days,
            deps=["unit_days"],
        ),
        spec(
            "data_quality",
            group="integrity",
            description="Every data-quality rule of the day against its line, with the groups that carry "
            "it: volume, responses, empty fields, duplicates, quarantine, orphans, arrival, receipts. "
            "Compares with the same weekday of earlier weeks.",
            table="data_quality",
            partitions=parts.event_days,
            deps=["events", "quarantine", "turns", "sessions", "assignments"],
        ),
    ],
    name="judge_days",
    # Their inputs differ, and Dagster launches a backfill of outputs that stand or fall together only where
    # it finds equal days for each along every way through the graph.
    can_subset=True,
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[
        dg.AssetCheckSpec(
            "sample_ratio",
            asset="srm_daily",
            description="No experiment's arms stray from their planned shares (sequential test).",
        ),
        dg.AssetCheckSpec(
            "guardrails",
            asset="guardrails_daily",
            description="No guardrail is breached and no kill rule acts.",
        ),
        *quality_checks.SPECS,
    ],
)
def judged(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    window = window_of(context)
    wanted = [name for name in _JUDGES if dg.AssetKey(name) in context.selected_asset_keys]
    with pipeline.open(context) as bench:
        for name in wanted:
            report(context, _JUDGES[name][0](bench, window))
        if quality_checks.ASSET in wanted:
            quality_checks.publish_pages(context, bench, window)
        checks = [one for name in wanted for one in _JUDGES[name][1](bench, window)]
        now = datetime.now(UTC)
        locked = watch.lock_started(bench, now)
        channels = channels_from(os.environ, bench.home.notifications)
        followed = watch.follow_verdicts(bench, window, now, channels)
        stale = mark_stale(bench)
    for one in stale.new:
        context.instance.report_runless_asset_event(_no_longer_fresh(one))
    told = ", ".join(one.experiment for one in stale.found)
    context.log.info("readouts that the lake has moved away from: %s", told or "none")
    context.log.info("briefs that stand locked: %s", ", ".join(locked) or "none")
    context.log.info("incidents: %s", ", ".join(f"{count} {name}" for name, count in followed.items()))
    for name in wanted:
        yield dg.MaterializeResult(asset_key=name)
    yield from checks


def _no_longer_fresh(one: Staleness) -> dg.AssetCheckEvaluation:
    """What the check on a memo would say now, shown at once and not when somebody makes the memo again."""
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("memo"),
        check_name="fresh",
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"experiment": one.experiment, "snapshot": one.snapshot, "changed": one.sentence()},
    )


def _newest(bench: Workbench, table: str, window: Window) -> pl.DataFrame:
    """The rows of the newest day of the window that has any."""
    for day in reversed(window.days()):
        manifest = bench.lake.manifest(table, event_day(day))
        if manifest is not None and manifest.rows:
            bench.read("verdicts", table, [manifest])
            return bench.engine.frame("select * from verdicts")
    return pl.DataFrame()


def _result(
    asset: str, check: str, failed: list[str], *, looked_at: int, severity: dg.AssetCheckSeverity
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=check,
        asset_key=asset,
        passed=not failed,
        severity=severity,
        metadata={
            "verdicts": looked_at,
            "failed": len(failed),
            "details": dg.MetadataValue.md(
                "\n".join(f"- {line}" for line in failed[:12]) or "Nothing failed."
            ),
        },
    )


def _srm(bench: Workbench, window: Window) -> list[dg.AssetCheckResult]:
    frame = _newest(bench, "srm_daily", window)
    failed = []
    for row in (
        frame.unique("experiment", keep="first", maintain_order=True).iter_rows(named=True)
        if frame.height
        else ()
    ):
        brief = bench.catalog.briefs[row["experiment"]]
        p = row["sequential_p_value"]
        if p is not None and p < brief.srm_alpha:
            failed.append(
                f"{brief.name} on {row['event_date']}: sequential p = {p:.2g}, below {brief.srm_alpha:g}"
            )
    severity = dg.AssetCheckSeverity.ERROR
    return [_result("srm_daily", "sample_ratio", failed, looked_at=frame.height, severity=severity)]


def _guardrails(bench: Workbench, window: Window) -> list[dg.AssetCheckResult]:
    frame = _newest(bench, "guardrails_daily", window)
    failed = [
        f"{row['experiment']} / {row['arm']} on {row['event_date']}: {row['metric']} {row['status']}"
        + (", kill rule acts" if row["kill_triggered"] else "")
        for row in (frame.iter_rows(named=True) if frame.height else ())
        if row["status"] == "fail" or row["kill_triggered"]
    ]
    severity = dg.AssetCheckSeverity.ERROR
    return [_result("guardrails_daily", "guardrails", failed, looked_at=frame.height, severity=severity)]


_JUDGES: dict[
    str,
    tuple[
        Callable[[Workbench, Window], list[Written]], Callable[[Workbench, Window], list[dg.AssetCheckResult]]
    ],
] = {
    "srm_daily": (daily.judge_sample_ratios, _srm),
    "guardrails_daily": (daily.judge_guardrails, _guardrails),
    "data_quality": (quality.judge_quality, quality_checks.check_results),
}
