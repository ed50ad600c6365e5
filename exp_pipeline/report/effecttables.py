"""The tables of effects: estimates, segments, guardrails, days, and other ways to estimate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from exp_pipeline.model.readout import CumulativePoint, NoveltyContrast, NoveltyPoint, RobustnessRow
from exp_pipeline.report import numbers
from exp_pipeline.report.cells import NONE, between, change, p_cell, without_empty_columns, words
from exp_pipeline.report.document import Cell, Column, Effect, GuardrailView, Table
from exp_pipeline.report.numbers import Display
from exp_pipeline.report.screening import WITHHELD, Screen


def primary_table(effects: Sequence[Effect]) -> Table:
    """The short table behind the plot of the primary effect."""
    rows = [
        {
            "arm": words(effect.arm),
            "absolute": effect.absolute,
            "interval": effect.interval,
            "control": effect.mean_control,
            "treatment": effect.mean_treatment,
            "relative": effect.relative,
            "p_value": effect.p_value,
            "n_control": effect.n_control,
            "n_treatment": effect.n_treatment,
            "notes": words(effect.reason),
        }
        for effect in effects
    ]
    columns = (
        Column(key="arm", title="Arm"),
        Column(key="absolute", title="Effect", numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="control", title="Control", numeric=True),
        Column(key="treatment", title="Arm value", numeric=True),
        Column(key="relative", title="Relative", numeric=True),
        Column(key="p_value", title="p", numeric=True),
        Column(key="n_control", title="n control", numeric=True),
        Column(key="n_treatment", title="n arm", numeric=True),
        Column(key="notes", title="Notes"),
    )
    return without_empty_columns(
        Table(key="primary", title="Primary effect by arm", columns=columns, rows=tuple(rows))
    )


def secondary_table(effects: Sequence[Effect]) -> Table:
    """The secondary metrics in one line each."""
    rows = [
        {
            "metric": words(effect.title),
            "arm": words(effect.arm),
            "absolute": effect.absolute,
            "interval": effect.interval,
            "p_adjusted": effect.p_adjusted,
            "notes": words("; ".join((*((effect.reason,) if effect.reason else ()), *effect.notes))),
        }
        for effect in effects
    ]
    columns = (
        Column(key="metric", title="Metric"),
        Column(key="arm", title="Arm"),
        Column(key="absolute", title="Effect", numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="p_adjusted", title="Adjusted p", numeric=True),
        Column(key="notes", title="Notes"),
    )
    return without_empty_columns(
        Table(key="secondary", title="Secondary metrics", columns=columns, rows=tuple(rows))
    )


def segments_table(effects: Sequence[Effect], floors: dict[str, Cell]) -> Table:
    """The primary effect in each declared segment, beside the floor it must not fall under."""
    rows = [
        {
            "segment": words(effect.segment or ""),
            "value": words(effect.segment_value or ""),
            "arm": words(effect.arm),
            "metric": words(effect.title),
            "absolute": effect.absolute,
            "interval": effect.interval,
            "floor": floors.get(effect.segment or "", NONE),
            "n_control": effect.n_control,
            "n_treatment": effect.n_treatment,
            "notes": words(effect.reason),
        }
        for effect in effects
    ]
    columns = (
        Column(key="segment", title="Segment"),
        Column(key="value", title="Value"),
        Column(key="arm", title="Arm"),
        Column(key="metric", title="Metric"),
        Column(key="absolute", title="Effect", numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="floor", title="Floor", numeric=True),
        Column(key="n_control", title="n control", numeric=True),
        Column(key="n_treatment", title="n arm", numeric=True),
        Column(key="notes", title="Notes"),
    )
    return without_empty_columns(
        Table(key="segments", title="Effect by segment", columns=columns, rows=tuple(rows))
    )


def effects_table(key: str, title: str, effects: Iterable[Effect], note: str = "") -> Table:
    """Every estimate with everything an engineer checks: both scales, units, method, p-values."""
    rows = [
        {
            "metric": words(effect.title),
            "role": words(effect.role),
            "arm": words(effect.arm),
            "absolute": effect.absolute,
            "interval": effect.interval,
            "control": effect.mean_control,
            "treatment": effect.mean_treatment,
            "relative": effect.relative,
            "relative_interval": effect.relative_interval,
            "always_valid": effect.always_valid,
            "p_value": effect.p_value,
            "p_adjusted": effect.p_adjusted,
            "n_control": effect.n_control,
            "n_treatment": effect.n_treatment,
            "waiting": effect.waiting,
            "clusters": effect.clusters,
            "method": words(effect.method),
            "level": words(numbers.round_percent(effect.interval_level)),
            "notes": words("; ".join((*((effect.reason,) if effect.reason else ()), *effect.notes))),
        }
        for effect in effects
    ]
    columns = (
        Column(key="metric", title="Metric"),
        Column(key="role", title="Role"),
        Column(key="arm", title="Arm"),
        Column(key="absolute", title="Effect", numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="level", title="Level", numeric=True),
        Column(key="control", title="Control", numeric=True),
        Column(key="treatment", title="Arm value", numeric=True),
        Column(key="relative", title="Relative", numeric=True),
        Column(key="relative_interval", title="Relative interval, %", numeric=True),
        Column(key="always_valid", title="Always-valid", numeric=True),
        Column(key="p_value", title="p", numeric=True),
        Column(key="p_adjusted", title="Adjusted p", numeric=True),
        Column(key="n_control", title="n control", numeric=True),
        Column(key="n_treatment", title="n arm", numeric=True),
        Column(key="waiting", title="Waiting", numeric=True),
        Column(key="clusters", title="Clusters", numeric=True),
        Column(key="method", title="Method"),
        Column(key="notes", title="Notes"),
    )
    return without_empty_columns(Table(key=key, title=title, columns=columns, rows=tuple(rows), note=note))


def guardrails_table(views: Sequence[GuardrailView]) -> Table:
    """Each guardrail's harm, bound and margin, and what follows."""
    rows = [
        {
            "guardrail": words(view.title),
            "arm": words(view.arm),
            "status": Cell(text=view.label, tone=view.tone),
            "harm": view.harm,
            "bound": view.bound,
            "margin": view.margin,
            "margin_used": view.margin_used,
            "bound_used": view.bound_used,
            "p_value": view.p_value,
            "basis": words(view.basis),
            "kill": words(view.kill),
            "reason": words(view.reason),
        }
        for view in views
    ]
    columns = (
        Column(key="guardrail", title="Guardrail"),
        Column(key="arm", title="Arm"),
        Column(key="status", title="Status"),
        Column(key="harm", title="Harm", numeric=True),
        Column(key="bound", title="One-sided bound", numeric=True),
        Column(key="margin", title="Margin", numeric=True),
        Column(key="margin_used", title="Harm, of margin", numeric=True),
        Column(key="bound_used", title="Bound, of margin", numeric=True),
        Column(key="p_value", title="p", numeric=True),
        Column(key="basis", title="Judged on"),
        Column(key="kill", title="Kill rule"),
        Column(key="reason", title="Reason"),
    )
    return without_empty_columns(
        Table(key="guardrails", title="Guardrails", columns=columns, rows=tuple(rows))
    )


def cumulative_table(
    points: Sequence[CumulativePoint], display: Display, decimals: int, screen: Screen
) -> Table:
    """What was the primary effect on the data up to each day?"""
    rows = []
    for point in points:
        few = screen.small(point.n_control, point.n_treatment)
        shown = not few and point.absolute is not None
        rows.append(
            {
                "day": Cell(text=point.day.isoformat()),
                "arm": words(point.arm),
                "n_control": Cell(text=WITHHELD)
                if few and point.n_control >= screen.minimum
                else screen.units(point.n_control),
                "n_treatment": Cell(text=WITHHELD)
                if few and point.n_treatment >= screen.minimum
                else screen.units(point.n_treatment),
                "absolute": change(point.absolute if shown else None, display, decimals),
                "interval": between(point.ci_lower, point.ci_upper, display, decimals) if shown else NONE,
                "always_valid": between(point.always_valid_lower, point.always_valid_upper, display, decimals)
                if shown
                else NONE,
            }
        )
    columns = (
        Column(key="day", title="Up to the end of"),
        Column(key="arm", title="Arm"),
        Column(key="n_control", title="n control", numeric=True),
        Column(key="n_treatment", title="n arm", numeric=True),
        Column(key="absolute", title="Effect", numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="always_valid", title="Always-valid interval", numeric=True),
    )
    return Table(
        key="cumulative", title="Primary effect by day, cumulative", columns=columns, rows=tuple(rows)
    )


def novelty_table(points: Sequence[NoveltyPoint], display: Display, decimals: int, screen: Screen) -> Table:
    """What was the primary effect in each week since a unit's assignment?"""
    rows = []
    for point in points:
        few = screen.small(point.n_control, point.n_treatment)
        shown = not few and point.absolute is not None
        rows.append(
            {
                "week": Cell(text=str(point.week), value=point.week),
                "arm": words(point.arm),
                "n_control": _unless_beside_few(point.n_control, few, screen),
                "n_treatment": _unless_beside_few(point.n_treatment, few, screen),
                "absolute": change(point.absolute if shown else None, display, decimals),
                "interval": between(point.ci_lower, point.ci_upper, display, decimals) if shown else NONE,
                "note": words(point.reason),
            }
        )
    columns = (
        Column(key="week", title="Week", numeric=True),
        Column(key="arm", title="Arm"),
        Column(key="n_control", title="n control", numeric=True),
        Column(key="n_treatment", title="n arm", numeric=True),
        Column(key="absolute", title="Effect", numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="note", title="Note"),
    )
    return without_empty_columns(
        Table(
            key="novelty",
            title="Primary effect by week since assignment",
            columns=columns,
            rows=tuple(rows),
            note="Week 0 is the day of assignment and the six days after it. "
            "A week holds the units that have had all of it.",
        )
    )


def novelty_contrast_table(
    rows: Sequence[NoveltyContrast], display: Display, decimals: int, screen: Screen
) -> Table:
    """Is the effect of the last complete week unlike that of the first, on the same units?"""
    printed = []
    for row in rows:
        few = screen.small(row.n_control, row.n_treatment)
        printed.append(
            {
                "arm": words(row.arm),
                "weeks": words("" if row.late_week is None else f"{row.early_week}, {row.late_week}"),
                "early": change(None if few else row.early, display, decimals),
                "late": change(None if few else row.late, display, decimals),
                "absolute": change(None if few else row.absolute, display, decimals),
                "interval": NONE if few else between(row.ci_lower, row.ci_upper, display, decimals),
                "p_value": p_cell(None if few else row.p_value),
                "n_control": _unless_beside_few(row.n_control, few, screen),
                "n_treatment": _unless_beside_few(row.n_treatment, few, screen),
                "note": words(row.reason),
            }
        )
    columns = (
        Column(key="arm", title="Arm"),
        Column(key="weeks", title="Weeks"),
        Column(key="early", title="First week", numeric=True),
        Column(key="late", title="Last week", numeric=True),
        Column(key="absolute", title="Last less first", numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="p_value", title="p", numeric=True),
        Column(key="n_control", title="n control", numeric=True),
        Column(key="n_treatment", title="n arm", numeric=True),
        Column(key="note", title="Note"),
    )
    return without_empty_columns(
        Table(
            key="novelty_contrasts",
            title="Does the effect last: last complete week against the first",
            columns=columns,
            rows=tuple(printed),
            note="Both weeks on the same units: those that have had the last one whole.",
        )
    )


def _unless_beside_few(n: int, few: bool, screen: Screen) -> Cell:
    """A number of units; held back where the arm beside it is small."""
    return Cell(text=WITHHELD) if few and n >= screen.minimum else screen.units(n)


def robustness_table(rows: Sequence[RobustnessRow], display: Display, decimals: int, screen: Screen) -> Table:
    """Does the primary effect survive being estimated another way?"""
    printed = []
    for row in rows:
        few = screen.small(row.n)
        printed.append(
            {
                "arm": words(row.arm),
                "variant": words(row.variant),
                "absolute": change(None if few else row.absolute, display, decimals),
                "interval": NONE if few else between(row.ci_lower, row.ci_upper, display, decimals),
                "p_value": p_cell(None if few else row.p_value),
                "n": screen.units(row.n),
                "note": words(row.note),
            }
        )
    columns = (
        Column(key="arm", title="Arm"),
        Column(key="variant", title="Estimated as"),
        Column(key="absolute", title="Effect", numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="p_value", title="p", numeric=True),
        Column(key="n", title="n", numeric=True),
        Column(key="note", title="Note"),
    )
    return Table(
        key="robustness", title="Robustness of the primary effect", columns=columns, rows=tuple(printed)
    )
