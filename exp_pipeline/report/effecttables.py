"""The tables of effects: estimates, segments, guardrails, days, and other ways to estimate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from exp_pipeline.model.readout import CumulativePoint, RobustnessRow, ShrunkenEffect
from exp_pipeline.report import numbers
from exp_pipeline.report.cells import NONE, between, change, p_cell, without_empty_columns, words
from exp_pipeline.report.document import Cell, Column, Effect, GuardrailView, Table
from exp_pipeline.report.numbers import Display
from exp_pipeline.report.screening import Screen


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


def segments_table(
    effects: Sequence[Effect],
    floors: dict[str, Cell],
    shrunken: Sequence[ShrunkenEffect],
    display: Display,
    decimals: int,
    screen: Screen,
) -> Table:
    """The primary effect in each declared segment, beside its floor and what it is once it has learnt."""
    learnt = {
        (row.segment, row.value, row.arm): row
        for row in shrunken
        if not row.suppressed and not screen.hides(row.segment, row.value)
    }

    def of_others(effect: Effect) -> dict[str, Cell]:
        row = learnt.get((effect.segment or "", effect.segment_value or "", effect.arm))
        if row is None or not effect.shown:
            return {"shrunken": NONE, "shrunken_interval": NONE}
        return {
            "shrunken": change(row.shrunken, display, decimals),
            "shrunken_interval": between(row.shrunken_lower, row.shrunken_upper, display, decimals),
        }

    rows = [
        {
            "segment": words(effect.segment or ""),
            "value": words(effect.segment_value or ""),
            "arm": words(effect.arm),
            "metric": words(effect.title),
            "absolute": effect.absolute,
            "interval": effect.interval,
            "floor": floors.get(effect.segment or "", NONE),
            "control": effect.mean_control,
            "treatment": effect.mean_treatment,
            **of_others(effect),
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
        Column(key="control", title="Control", numeric=True),
        Column(key="treatment", title="Arm value", numeric=True),
        Column(key="shrunken", title="Shrunken", numeric=True),
        Column(key="shrunken_interval", title="Its interval", numeric=True),
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
        Table(key="guardrails", title="Guardrails against their margins", columns=columns, rows=tuple(rows))
    )


def cumulative_table(
    points: Sequence[CumulativePoint], display: Display, decimals: int, screen: Screen
) -> Table:
    """What was the primary effect on the data up to each day?"""
    rows = []
    apart = _days_apart(points, screen)
    for point, known in zip(points, apart, strict=True):
        few = screen.small(point.n_control, point.n_treatment)
        shown = not few and point.absolute is not None
        rows.append(
            {
                "day": Cell(text=point.day.isoformat()),
                "arm": words(point.arm),
                "n_control": screen.beside(point.n_control, few or not known),
                "n_treatment": screen.beside(point.n_treatment, few or not known),
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


def _days_apart(points: Sequence[CumulativePoint], screen: Screen) -> list[bool]:
    """Which days' counts may be printed, so that none tells how few units came between two of them?"""
    shown = [True] * len(points)
    for arm in {point.arm for point in points}:
        places = [place for place, point in enumerate(points) if point.arm == arm]
        apart = screen.days_shown([(points[p].n_control, points[p].n_treatment) for p in places])
        for place, stands in zip(places, apart, strict=True):
            shown[place] = stands
    return shown


def robustness_table(rows: Sequence[RobustnessRow], display: Display, decimals: int, screen: Screen) -> Table:
    """Does the primary effect survive being estimated another way?"""
    return _other_ways(
        "robustness", "Robustness of the primary effect", rows, display, decimals, screen, _KINDS_NOTE
    )


def bounds_table(rows: Sequence[RobustnessRow], display: Display, decimals: int, screen: Screen) -> Table:
    """Between what does the primary effect lie, whatever the units that were lost would have done?"""
    return _other_ways(
        "bounds",
        "Bounds for units that were lost",
        rows,
        display,
        decimals,
        screen,
        "A bound has no point: the effect may lie anywhere in it.",
    )


_KINDS = {
    "headline": "the estimate",
    "sensitivity": "another way",
    "diagnostic": "a diagnostic",
    "bounds": "bounds",
}
_KINDS_NOTE = (
    "Another way is a defensible analysis of the same question; a diagnostic answers another question, or is "
    "known to err."
)


def _other_ways(
    key: str,
    title: str,
    rows: Sequence[RobustnessRow],
    display: Display,
    decimals: int,
    screen: Screen,
    note: str,
) -> Table:
    whole = {arm: max(row.n for row in rows if row.arm == arm) for arm in {row.arm for row in rows}}
    printed = []
    for row in rows:
        few = screen.small(row.n)
        # Beside the whole, a count without few units tells how few they are.
        gives_away = screen.small(whole[row.arm] - row.n)
        printed.append(
            {
                "arm": words(row.arm),
                "variant": words(row.variant),
                "kind": NONE if key == "bounds" else words(_KINDS[row.kind]),
                "absolute": change(None if few else row.absolute, display, decimals),
                "interval": NONE if few else between(row.ci_lower, row.ci_upper, display, decimals),
                "p_value": p_cell(None if few else row.p_value),
                "n": screen.beside(row.n, gives_away),
                "note": words("; ".join(part for part in (row.note, row.why) if part)),
            }
        )
    columns = (
        Column(key="arm", title="Arm"),
        Column(key="variant", title="Estimated as"),
        Column(key="kind", title="Kind"),
        Column(key="absolute", title="Effect", numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="p_value", title="p", numeric=True),
        Column(key="n", title="n", numeric=True),
        Column(key="note", title="Note"),
    )
    return without_empty_columns(Table(key=key, title=title, columns=columns, rows=tuple(printed), note=note))
