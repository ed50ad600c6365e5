"""How did the product's numbers move from one week to the next? All learners together, never by arm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl

from exp_pipeline.model.metrics import Measure, Metric
from exp_pipeline.model.weekly import WeekKind, WeekMetric, WeekQuality
from exp_pipeline.stats.effects.paired import paired_difference
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect

KINDS: tuple[WeekKind, ...] = ("north-star", "output", "input", "guardrail")
LEAST_UNITS = 10
LEVEL = 0.95
WEEK = timedelta(days=7)
_ADDED = ("count", "sum")


def monday_of(week: str) -> date:
    """The first day of an ISO week such as 2026-W12. Raises ValueError for anything else."""
    try:
        return datetime.strptime(f"{week}-1", "%G-W%V-%u").date()
    except ValueError:
        raise ValueError(f"week must be an ISO week such as 2026-W12, got {week!r}") from None


def week_of(day: date) -> str:
    """The ISO week of a day, such as 2026-W12."""
    year, week, _ = day.isocalendar()
    return f"{year}-W{week:02d}"


def last_whole_week(newest: date) -> str:
    """The newest ISO week whose Sunday the data have reached."""
    return week_of(newest - timedelta(days=(newest.weekday() + 1) % 7))


def refused(metric: Metric, measures: Mapping[str, Measure]) -> str:
    """Why has a metric no number of a week? Empty where it has one."""
    if not metric.adds_up or metric.type == "retention":
        return (
            f"told only within an experiment, from each learner's start on: a {metric.type.replace('_', ' ')}"
        )
    for name in metric.measures():
        if name not in measures:
            return f"not summed up by day here, because no experiment asks for it: measure {name}"
        if measures[name].aggregate not in _ADDED:
            return f"does not add up over days: measure {name} ({measures[name].aggregate})"
    return ""


def without_number(metric: Metric, reason: str) -> WeekMetric:
    """The line of a metric that cannot be told."""
    return WeekMetric(
        metric=metric.name,
        title=metric.title,
        kind=metric.kind,
        drives=metric.drives or "",
        display=metric.display,
        reason=reason,
    )


def week_metric(metric: Metric, sums: pl.DataFrame) -> WeekMetric:
    """What was a metric in a week, and by how much did it move since the one before?

    sums: one row a learner active in either week: now, before (whether active), num, den, num_before,
    den_before (0 where nothing happened). Means and shares are per active learner, ratios are of sums. The
    interval takes learners as drawn, each with both weeks (delta method for ratios, paired t).
    """
    row = without_number(metric, "")
    active = {name: sums[name].cast(pl.Float64).to_numpy() for name in ("now", "before")}
    n_now, n_before = (int(active[name].sum()) for name in ("now", "before"))
    row = row.model_copy(update={"units": n_now, "units_before": n_before})
    if n_now < LEAST_UNITS:
        return row.model_copy(update={"reason": f"fewer than {LEAST_UNITS} learners were active", "units": 0})
    parts = {}
    for week, end in (("now", ""), ("before", "_before")):
        num = sums[f"num{end}"].cast(pl.Float64).fill_null(0.0).to_numpy()
        den = sums[f"den{end}"].cast(pl.Float64).fill_null(0.0).to_numpy()
        if metric.estimand == "proportion":
            num = (num > 0).astype(float)
        parts[week] = (num * active[week], (den if metric.denominator else np.ones(len(num))) * active[week])
    if parts["now"][1].sum() == 0.0:
        return row.model_copy(update={"reason": "nothing to divide by: its denominator is zero in this week"})
    scale = metric.per
    values = {week: num.sum() / den.sum() for week, (num, den) in parts.items() if den.sum() > 0}
    row = row.model_copy(update={"value": float(values["now"] * scale)})
    if n_before < LEAST_UNITS or "before" not in values:
        return row.model_copy(
            update={"reason": "the week before has too few learners to compare with", "units_before": 0}
        )
    n = len(active["now"])
    linear = [
        values[week] + (num - values[week] * den) * (n / den.sum())
        for week, (num, den) in ((name, parts[name]) for name in ("before", "now"))
    ]
    answer = paired_difference(
        Moments.from_array(np.column_stack(linear), ["before", "now"]),
        control="before",
        treatment="now",
        level=LEVEL,
    )
    row = row.model_copy(update={"before": float(values["before"] * scale)})
    if not isinstance(answer, Effect):
        return row.model_copy(update={"reason": answer.reason})
    low, high = answer.ci_lower * scale, answer.ci_upper * scale
    moved = low > 0 or high < 0
    rises = answer.absolute > 0
    return row.model_copy(
        update={
            "change": float(answer.absolute * scale),
            "ci_lower": float(low),
            "ci_upper": float(high),
            "relative": float(values["now"] / values["before"] - 1.0) if values["before"] > 0 else None,
            "moved": moved,
            "good": (rises == (metric.direction == "increase")) if moved else None,
        }
    )


def in_order(rows: Iterable[WeekMetric]) -> tuple[WeekMetric, ...]:
    """The north star first, then what is believed to move it, then guardrails; each by title."""
    return tuple(sorted(rows, key=lambda row: (KINDS.index(row.kind), row.title, row.metric)))


def week_quality(verdicts: Sequence[tuple[date, str, str]], first: date) -> tuple[WeekQuality, ...]:
    """On how many days did each data-quality rule warn or fail, in the week and in the one before?

    verdicts: day, rule, verdict, one a rule and day. Rules that passed on every day of both are left out.
    """
    counts: dict[str, dict[str, int]] = {}
    for day, rule, verdict in verdicts:
        end = "" if day >= first else "_before"
        if verdict == "cannot_tell" or not first - WEEK <= day < first + WEEK:
            continue
        own = counts.setdefault(rule, {})
        own[f"told{end}"] = own.get(f"told{end}", 0) + 1
        if verdict != "pass":
            word = "failed" if verdict == "fail" else "warned"
            own[f"{word}{end}"] = own.get(f"{word}{end}", 0) + 1
    names = ("failed", "warned", "told", "failed_before", "warned_before", "told_before")
    rows = [
        WeekQuality.model_validate({"rule": rule, **{name: own.get(name, 0) for name in names}})
        for rule, own in counts.items()
    ]
    told = [row for row in rows if row.failed + row.warned + row.failed_before + row.warned_before]
    return tuple(sorted(told, key=lambda row: (-row.failed, -row.warned, row.rule)))
