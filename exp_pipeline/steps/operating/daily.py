"""What is judged every day of experiments: sample ratios and guardrails (`quality` judges the data)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import date

import polars as pl

from exp_pipeline.analysis.daily import daily_guardrails, daily_sample_ratio
from exp_pipeline.analysis.population import CONTEXT, context_columns
from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.metrics import Measure, definitions
from exp_pipeline.steps.assignment.exposure import build_units
from exp_pipeline.steps.context import Window, Workbench, Written, event_day
from exp_pipeline.steps.ingest.day_files import write_alone
from exp_pipeline.steps.origins import recording, unit_digests
from exp_pipeline.steps.recorded import recorded_definitions
from exp_pipeline.store.engine import quote, text_literal
from exp_pipeline.store.lake import Manifest, NewFile
from exp_pipeline.transform import measures as measure_sql
from exp_pipeline.transform import metrics as metric_sql
from exp_pipeline.transform import queries


def judge_sample_ratios(bench: Workbench, window: Window) -> list[Written]:
    """For each day and running experiment: units so far by arm, and the SRM p-values up to that day."""
    started = time.monotonic()
    build_units(bench)
    bench = recording(bench, ("srm_daily",), window, unit_digests(bench))
    rows: list[dict[str, object]] = []
    for brief in _briefs(bench):
        unit = "unit_id" if brief.randomisation_unit == brief.analysis_unit else "cluster_id"
        counted = bench.engine.frame(
            f"select assigned_date as day, arm, count(*) as units from (select {unit}, "
            "min(assigned_date) as assigned_date, min_by(arm, assigned_at) as arm from units "
            f"where experiment = $experiment and version = $version group by {unit}) "
            "group by all order by all",
            {"experiment": brief.name, "version": brief.version},
        )
        by_day: dict[date, dict[str, int]] = {
            day: {} for day in window.days() if brief.start <= day < brief.end
        }
        for day, arm, units in counted.iter_rows():
            by_day.setdefault(day, {})[arm] = units
        shares = brief.shares()
        for seen in daily_sample_ratio(by_day, shares):
            if window.first <= seen.day < window.end:
                rows += [
                    {
                        "experiment": brief.name,
                        "version": brief.version,
                        "event_date": seen.day,
                        "arm": arm,
                        "units": seen.counts.get(arm, 0),
                        "planned_share": share,
                        "p_value": seen.p_value,
                        "sequential_p_value": seen.sequential_p_value,
                    }
                    for arm, share in shares.items()
                ]
    return _write(bench, "srm_daily", rows, window, started)


def judge_guardrails(bench: Workbench, window: Window) -> list[Written]:
    """For each day and running experiment: every guardrail on all data so far, with its kill rule."""
    started = time.monotonic()
    build_units(bench)
    bench = recording(bench, ("guardrails_daily",), window, unit_digests(bench))
    rows: list[dict[str, object]] = []
    for brief in _briefs(bench):
        days = [day for day in window.days() if brief.start <= day < brief.end]
        if not brief.guardrails or not days:
            continue
        made = bench.read_days(
            "days_so_far",
            "unit_days",
            Window.of(brief.start, days[-1]),
            more=measure_sql.column_types(bench.catalog.measures_of(brief).values()),
        )
        measures = _as_defined(bench.catalog.measures_of(brief), made)
        own = "".join(f", {quote(measure.name)}" for measure in measure_sql.in_order(measures.values()))
        facts = bench.engine.frame(
            f"select unit_id, event_date{own} from days_so_far "
            "where experiment = $experiment and version = $version "
            "order by unit_id, event_date",
            {"experiment": brief.name, "version": brief.version},
        )
        here = _guarded_units(bench, brief)
        metrics = bench.catalog.metrics_of(brief)
        for day in days:
            for result in daily_guardrails(brief, metrics, here, facts, upto=day, measures=measures):
                rows.append(
                    {
                        "experiment": brief.name,
                        "version": brief.version,
                        "event_date": day,
                        "metric": result.metric,
                        "arm": result.arm,
                        "status": result.status,
                        "harm": result.harm,
                        "harm_bound": result.harm_bound,
                        "margin": result.margin,
                        "kill_triggered": result.kill_triggered,
                    }
                )
    return _write(bench, "guardrails_daily", rows, window, started)


def _as_defined(measures: Mapping[str, Measure], made: Sequence[Manifest]) -> dict[str, Measure]:
    """Those measures that every day holds by today's definition; a guardrail over another cannot be told."""
    wanted = definitions(measures.values())
    held = [recorded_definitions(manifest) for manifest in made]
    return {name: one for name, one in measures.items() if all(day.get(name) == wanted[name] for day in held)}


def _guarded_units(bench: Workbench, brief: Brief) -> pl.DataFrame:
    """Who is in an experiment, with whom each metric lets count."""
    from sqlglot import exp

    query = (
        exp.select("u.unit_id", "u.arm", "u.assigned_date", "u.cluster_id")
        .select(*(exp.column(name, "u").as_(f"{CONTEXT}{name}") for name in context_columns(brief)))
        .select(*metric_sql.included_columns(bench.catalog.dataset_metrics(brief)))
        .from_("units as u")
        .where("u.experiment = $experiment and u.version = $version", dialect=queries.DIALECT)
        .order_by("u.unit_id")
    )
    here = {"experiment": brief.name, "version": brief.version}
    return bench.engine.frame(queries.query_text(query), here)


def _briefs(bench: Workbench) -> list[Brief]:
    return [brief for _, brief in sorted(bench.catalog.briefs.items()) if brief.table is None]


def _write(
    bench: Workbench, table: str, rows: Sequence[dict[str, object]], window: Window, started: float
) -> list[Written]:
    """Write rows by day; a day whose events exist gets a partition, if only an empty one."""
    columns = table_columns(table)
    kinds = {
        "VARCHAR": pl.String,
        "BIGINT": pl.Int64,
        "DOUBLE": pl.Float64,
        "BOOLEAN": pl.Boolean,
        "DATE": pl.Date,
    }
    schema = {name: kinds[kind] for name, kind in columns.items()}
    frame = pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)
    bench.engine.offer_frame("judged", frame)
    names = ", ".join(quote(name) for name in columns)
    written = []
    for day in window.days():
        if bench.lake.manifest("events", event_day(day)) is None:
            continue
        path = bench.lake.staging(table, event_day(day))
        count = write_alone(
            bench.engine,
            f"select {names} from judged where event_date = {text_literal(day.isoformat())}::date "
            "order by all",
            path,
        )
        written.append(bench.commit(table, event_day(day), [NewFile(path, "all", count)], started))
        started = time.monotonic()
    bench.engine.drop("judged")
    return written
