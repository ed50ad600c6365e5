"""Planning: what a brief lacks before its start, and how many units and weeks it needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

import polars as pl

from exp_pipeline.analysis.planning import Baseline, DurationPlan, Gap, Readiness, power_plan, readiness
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.metrics import Metric, definitions
from exp_pipeline.steps.backfill_needs import history_measures, history_window
from exp_pipeline.steps.behaviour import event_measures, session_measures
from exp_pipeline.steps.context import Window, Workbench, day_of, event_day
from exp_pipeline.steps.drawn import draw_of
from exp_pipeline.steps.experiment import brief_of, last_day
from exp_pipeline.steps.facts import offer_learner_days
from exp_pipeline.steps.recorded import recorded_definitions
from exp_pipeline.store.engine import quote
from exp_pipeline.transform import measures as measure_sql


@dataclass(frozen=True, slots=True)
class History:
    """What the days before an experiment tell: baseline of the primary, who comes by day, what has data.

    `units_per_day` is new units a day over `days` days that layer and holdout leave to the experiment, a
    `share` of all; it and `facts_seen` are None where there is no history. `lacking` days of it were not
    summed up with every measure.
    """

    days: int
    units: int
    units_per_day: float | None
    baseline: Baseline | None
    facts_seen: dict[str, int] | None
    share: float = 1.0
    lacking: int = 0


def history_of(bench: Workbench, brief: Brief) -> History:
    """What the learners' days before the brief's start say about its metrics.

    History begins after the last day that was not summed up with every measure of the brief as the catalog
    defines it: what was not counted is not 0.
    """
    wanted = definitions(history_measures(bench.catalog, brief)).items()
    manifests = bench.lake.manifests("learner_days", [event_day(one) for one in history_window(brief).days()])
    days: list[date] = []
    lacking = 0
    for manifest in manifests:
        if wanted <= recorded_definitions(manifest).items():
            days.append(day_of(manifest.partition))
        else:
            days, lacking = [], lacking + 1
    if not days:
        return History(0, 0, None, None, None, lacking=lacking)
    units = _units_before(bench, brief, Window.of(min(days), max(days)))
    metrics = bench.catalog.metrics_of(brief)
    seen = {name: _with_value(metric, units) for name, metric in metrics.items()}
    baseline = _baseline(brief, metrics[brief.primary], units)
    # New units a day: everybody seen in the history is met once when an experiment opens.
    share = bench.catalog.limits_of(brief).share(brief.name)
    expected = share * units.height / len(days) if units.height and share else None
    rate = brief.expected_units_per_day or expected
    return History(len(days), units.height, rate, baseline, seen, share, lacking)


def _units_before(bench: Workbench, brief: Brief, window: Window) -> pl.DataFrame:
    """One row per learner of the history: class, and every measure of the brief's metrics summed up."""
    offer_learner_days(bench, window)
    own = measure_sql.in_order(bench.catalog.measures_of(brief).values())
    over_events = {measure.name for measure in event_measures(bench)}
    over_sessions = {measure.name for measure in session_measures(bench)}
    columns = []
    for measure in own:
        alias = "l" if measure.name in over_events else "s"
        if measure.name in over_events | over_sessions:
            columns.append(f"{alias}.{quote(measure.name)}")
    bench.engine.build(
        "history_days",
        "select d.unit_key, d.event_date" + "".join(f", {column}" for column in columns) + " from "
        "(select unit_key, event_date from learner_day_sums "
        "union select unit_key, event_date from session_days) as d "
        "left join learner_day_sums as l on d.unit_key = l.unit_key and d.event_date = l.event_date "
        "left join session_days as s on d.unit_key = s.unit_key and d.event_date = s.event_date",
    )
    sums = ", ".join(measure_sql.added_up(measure, "h").sql(dialect="duckdb") for measure in own)
    classes = (
        "select learner_key as unit_key, max(class_id) as class_id from sessions "
        "where role = 'student' group by learner_key"
    )
    frame = bench.engine.frame(
        f"select c.class_id, h.unit_key{', ' + sums if sums else ''} from history_days as h "
        f"inner join ({classes}) as c on h.unit_key = c.unit_key "
        "group by c.class_id, h.unit_key order by h.unit_key"
    )
    for name in ("history_days", "learner_day_sums", "session_days"):
        bench.engine.drop(name)
    return frame


def _with_value(metric: Metric, units: pl.DataFrame) -> int:
    """How many learners of the history did what a metric is made of."""
    columns = [pl.col(name) for name in (metric.denominator or metric.numerator, *metric.measures()) if name]
    if not columns:
        return units.height
    if metric.estimand == "quantile":
        return units.filter(columns[0].list.len() > 0).height
    if metric.type in ("proportion", "mean", "retention"):
        return units.filter(columns[0].is_not_null()).height
    if not metric.adds_up:
        return units.filter(pl.all_horizontal(column.is_not_null() for column in columns)).height
    return units.filter(columns[0].fill_null(0) > 0).height


def _baseline(brief: Brief, metric: Metric, units: pl.DataFrame) -> Baseline | None:
    """Mean and spread of the primary over the history's learners; None where it cannot be told.

    A history of days has no moment of assignment, so metrics that count from it (retention, funnels, times,
    gains and what is composed of them) have no baseline here, nor have quantiles and lists.
    """
    if not metric.adds_up or metric.from_day is not None or metric.numerator is None or units.height < 2:
        return None
    if isinstance(units.schema[metric.numerator], pl.List):
        units = units.with_columns(pl.col(metric.numerator).list.len())
    if metric.denominator is not None and isinstance(units.schema[metric.denominator], pl.List):
        units = units.with_columns(pl.col(metric.denominator).list.len())
    number = pl.col(metric.numerator).cast(pl.Float64).fill_null(0.0)
    if metric.type == "proportion":
        values = units.select((number > 0).cast(pl.Float64).alias("value"))
        mean, spread = values["value"].mean(), None
    elif metric.denominator is not None:
        base = pl.col(metric.denominator).cast(pl.Float64).fill_null(0.0)
        parts = units.select(number.alias("num"), base.alias("den")).filter(pl.col("den") > 0)
        if parts.height < 2:
            return None
        ratio = float(parts["num"].sum()) / float(parts["den"].sum())
        # Delta method: the spread of a unit's linearised value around the pooled ratio.
        residual = (parts["num"] - ratio * parts["den"]) / (float(parts["den"].sum()) / parts.height)
        mean, spread = ratio, residual.std()
    else:
        values = units.select(number.alias("value"))
        mean, spread = values["value"].mean(), values["value"].std()
    if not isinstance(mean, float) or (spread is not None and not isinstance(spread, float)):
        return None
    scale = metric.per
    size, variation = None, 0.0
    if brief.randomisation_unit == "class":
        sizes = units.group_by("class_id").len()["len"].cast(pl.Float64).to_numpy()
        size = float(sizes.mean())
        variation = float(sizes.std(ddof=1)) / size if len(sizes) > 1 else 0.0
    return Baseline(
        mean=mean * scale,
        sd=None if spread is None else spread * scale,
        cluster_size=size,
        cluster_size_cv=variation,
    )


def check_readiness(bench: Workbench, experiment: str) -> Readiness:
    """May this experiment start? Every gap at once, judged on the days before its start."""
    brief = brief_of(bench, experiment)
    history = history_of(bench, brief)
    found = readiness(
        brief,
        bench.catalog.metrics_of(brief),
        baseline=history.baseline,
        units_per_day=history.units_per_day,
        facts_seen=history.facts_seen,
    )
    if history.lacking:
        told = f"{history.lacking} days of history lack measures: see `exp metrics needs {brief.name}`"
        found = replace(found, unchecked=(*found.unchecked, told))
    if brief.assignment == "table" and draw_of(bench.home, brief) is None:
        remedy = f"run `exp assign {brief.name} --units FILE`"
        gap = Gap("assignment", "the table of arms has not been drawn", remedy)
        return replace(found, gaps=(*found.gaps, gap))
    return found


def plan_power(bench: Workbench, experiment: str) -> tuple[History, DurationPlan | None]:
    """How many units and weeks the brief needs, from the days before its start; None where there are none."""
    brief = brief_of(bench, experiment)
    history = history_of(bench, brief)
    if history.baseline is None:
        return history, None
    metric = bench.catalog.metrics_of(brief)[brief.primary]
    return history, power_plan(brief, metric, history.baseline, units_per_day=history.units_per_day)


def started(bench: Workbench, brief: Brief) -> bool:
    """Whether the data has reached the first day of the experiment."""
    newest: date | None = last_day(bench)
    return newest is not None and newest >= brief.start
