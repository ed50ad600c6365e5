"""The plots that run over time: the split of units, the cumulative effect, and the effect by week."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from exp_pipeline.model.readout import Readout
from exp_pipeline.report import numbers
from exp_pipeline.report.document import Cell, Figure
from exp_pipeline.report.numbers import Display
from exp_pipeline.report.svg import SMALL, Drawing, Scale, domain, fit, ticks, width_of

_STACK_BELOW = 560
_ARM_ROLES = ("calm", "accent", "warn", "good", "bad")
_ARM_DASHES = ("", "", "6 3", "2 3", "8 3 2 3")
_FLOOR_P = 1e-6
_PANEL = 150.0
# More points than this are drawn as a line with a band.
MOST_POINTS = 14
_WEEK_LABEL = 58.0


def draw_sample_ratio(readout: Readout, figure: Figure, width: int) -> str:
    """Two panels over the same days: share of each arm less its plan, and p-values on a log scale."""
    arms = [arm.name for arm in readout.brief.arms]
    planned = readout.brief.shares()
    rows = figure.table.rows
    days = [date.fromisoformat(row["day"].text) for row in rows]
    strays = [_stray(row, arms, planned) for row in rows]
    drawing = Drawing(_key(figure, width), width, 2 * _PANEL + 138, figure.title, figure.description)
    left, right = 64.0, width - 12.0
    across = _days(days, left, right)
    low, high = _trimmed([value for stray in strays if stray for value in stray.values()])
    top = 46.0
    drawing.text(0, 16, fit("Share of units less planned share", width), "ink", 13, bold=True)
    upward = Scale(low, high, top + _PANEL, top)
    _left_axis(drawing, upward, left, right, "share")
    x = left
    for position, arm in enumerate(arms):
        role, dash = _ARM_ROLES[position % 5], _ARM_DASHES[position % 5]
        points = [
            (across(float(day.toordinal())), upward(stray[arm]))
            for day, stray in zip(days, strays, strict=True)
            if stray is not None
        ]
        drawing.path(points, role, 2, dash)
        for point in points[-1:]:
            drawing.dot(*point, role, 3)
        name = fit(arm, width * 0.3, SMALL)
        drawing.line(x, 30, x + 18, 30, role, 2, dash)
        drawing.text(x + 23, 34, name, role, SMALL)
        x += 40 + width_of(name, SMALL)
    _day_axis(drawing, days, across, top + _PANEL)
    _p_panel(drawing, readout, rows, days, across, top + _PANEL + 64, left, right)
    return drawing.svg()


def _p_panel(
    drawing: Drawing,
    readout: Readout,
    rows: Sequence[dict[str, Cell]],
    days: list[date],
    across: Scale,
    top: float,
    left: float,
    right: float,
) -> None:
    alpha = readout.brief.srm_alpha
    drawing.text(0, top - 18, "p-value of the split", "ink", 13, bold=True)
    scale = Scale(math.log10(min(_FLOOR_P, alpha / 10)), 0.0, top + _PANEL, top)
    for exponent in range(math.ceil(scale.low), 1, 2):
        y = scale(exponent)
        drawing.line(left, y, right, y, "rule")
        drawing.text(
            left - 8,
            y + 4,
            "1" if exponent == 0 else f"{10.0**exponent:.{-exponent}f}",
            "muted",
            SMALL,
            "end",
        )
    y = scale(math.log10(alpha))
    drawing.line(left, y, right, y, "bad", 1.5, "5 4")
    drawing.text(right, y + 16, f"mismatch below {numbers.plain(alpha)}", "bad", SMALL, "end")
    for key, role, dash in (("sequential_p_value", "warn", "5 3"), ("p_value", "accent", "")):
        points = []
        for day, row in zip(days, rows, strict=True):
            value = row[key].value
            if value is not None:
                x, at = across(float(day.toordinal())), scale(math.log10(max(value, 1e-300)))
                points.append((x, at))
                if value < alpha:
                    drawing.cross(x, at, "bad")
        drawing.path(points, role, 2, dash)
        for point in points if len(points) == 1 else []:
            drawing.dot(*point, role, 3)
    drawing.line(right - 170, top - 22, right - 152, top - 22, "accent", 2)
    drawing.text(right - 147, top - 18, "daily", "accent", SMALL)
    if any(row["sequential_p_value"].value is not None for row in rows):
        drawing.line(right - 92, top - 22, right - 74, top - 22, "warn", 2, "5 3")
        drawing.text(right - 69, top - 18, "sequential", "warn", SMALL)
    _day_axis(drawing, days, across, top + _PANEL)


def draw_cumulative(readout: Readout, figure: Figure, display: Display, width: int) -> str:
    """One panel for each arm, axes shared: effect, interval, and the always-valid band where there is one."""
    rows = [row for row in figure.table.rows if row["absolute"].value is not None]
    arms = list(dict.fromkeys(row["arm"].text for row in rows))
    days = [date.fromisoformat(row["day"].text) for row in rows]
    gap = 62.0
    drawing = Drawing(
        _key(figure, width), width, 24 + (_PANEL + gap) * max(len(arms), 1), figure.title, figure.description
    )
    if not rows:
        drawing.text(0, 24, "No day has enough units to show.", "muted")
        return drawing.svg()
    left, right = 64.0, width - 12.0
    across = _days(days, left, right)
    low, high = _trimmed([v for row in rows for v in _edges(row)])
    banded = any(row["always_valid"].lower is not None for row in rows)
    _cumulative_legend(drawing, banded)
    for position, arm in enumerate(arms):
        top = 52.0 + (_PANEL + gap) * position
        mine = [row for row in rows if row["arm"].text == arm]
        upward = Scale(low, high, top + _PANEL, top)
        drawing.text(0, top - 8, fit(arm, width), "ink", 13, bold=True)
        at = [across(float(date.fromisoformat(row["day"].text).toordinal())) for row in mine]
        upper = [
            (x, upward(r["interval"].upper))
            for x, r in zip(at, mine, strict=True)
            if r["interval"].upper is not None
        ]
        lower = [
            (x, upward(r["interval"].lower))
            for x, r in zip(at, mine, strict=True)
            if r["interval"].lower is not None
        ]
        drawing.area([*upper, *reversed(lower)], "accent-soft")
        _left_axis(drawing, upward, left, right, display)
        for side in ("lower", "upper"):
            edge = [(x, getattr(r["always_valid"], side)) for x, r in zip(at, mine, strict=True)]
            drawing.path([(x, upward(value)) for x, value in edge if value is not None], "warn", 1.5, "5 4")
        line = [
            (x, upward(r["absolute"].value))
            for x, r in zip(at, mine, strict=True)
            if r["absolute"].value is not None
        ]
        drawing.path(line, "accent", 2.5)
        drawing.dot(*line[-1], "accent", 4)
        _day_axis(drawing, days, across, top + _PANEL)
    return drawing.svg()


@dataclass(frozen=True, slots=True)
class Steady:
    """Where an effect settles: from which week or day on, and at what."""

    since: int
    value: float


def draw_since(
    figure: Figure, unit: str, display: Display, width: int, steady: Mapping[str, Steady] | None = None
) -> str:
    """One panel for each arm, axes shared: effect and interval in each week or day since assignment.

    `unit` is "week" or "day". Many days become a line with a band, as points would hide each other.
    """
    rows = [row for row in figure.table.rows if "absolute" in row and row["absolute"].value is not None]
    arms = list(dict.fromkeys(row["arm"].text for row in rows))
    gap = 58.0
    height = 8 + (_PANEL + gap) * len(arms)
    drawing = Drawing(_key(figure, width), width, height, figure.title, figure.description)
    left, right = 64.0, width - 12.0
    places = [float(row[unit].value or 0) for row in rows]
    across = Scale(min(places) - 0.5, max(places) + 0.5, left, right)
    every = math.ceil(_WEEK_LABEL * (across.high - across.low) / (right - left))
    settled = steady or {}
    edges = [edge for row in rows for edge in (row["interval"].lower, row["interval"].upper)]
    held = [one.value for one in settled.values()]
    low, high = domain([0.0, *edges, *held]) if len(set(places)) <= MOST_POINTS else _trimmed([*edges, *held])
    for position, arm in enumerate(arms):
        top = 28.0 + (_PANEL + gap) * position
        upward = Scale(low, high, top + _PANEL, top)
        mine = [row for row in rows if row["arm"].text == arm]
        as_line = len(mine) > MOST_POINTS
        if as_line:
            _band(drawing, mine, unit, across, upward)
        drawing.text(0, top - 10, fit(arm, width), "ink", 13, bold=True)
        _left_axis(drawing, upward, left, right, display)
        at = [(across(float(row[unit].value or 0)), upward(row["absolute"].value or 0.0)) for row in mine]
        drawing.path(at, "accent" if as_line else "muted", 2.5 if as_line else 1.5, "" if as_line else "2 3")
        for (x, y), row in zip(at, mine, strict=True):
            if not as_line:
                _point(drawing, x, y, row, upward)
            if int(row[unit].value or 0) % every == 0:
                said = f"{unit} {row[unit].text}"
                inside = min(x, width - width_of(said, SMALL) / 2)
                drawing.text(inside, top + _PANEL + 19, said, "muted", SMALL, "middle")
        if arm in settled:
            _settles(drawing, settled[arm], across, upward, display, top - 10)
    return drawing.svg()


def _point(drawing: Drawing, x: float, y: float, row: dict[str, Cell], upward: Scale) -> None:
    ends = [end for end in (row["interval"].lower, row["interval"].upper) if end is not None]
    for end in ends if len(ends) == 2 else []:
        drawing.line(x, y, x, upward(end), "accent", 2.5)
        drawing.line(x - 6, upward(end), x + 6, upward(end), "accent", 2)
    drawing.dot(x, y, "accent", 5)


def _band(drawing: Drawing, rows: Sequence[dict[str, Cell]], unit: str, across: Scale, upward: Scale) -> None:
    known = [row for row in rows if row["interval"].lower is not None and row["interval"].upper is not None]
    upper = [(across(float(r[unit].value or 0)), upward(r["interval"].upper or 0.0)) for r in known]
    lower = [(across(float(r[unit].value or 0)), upward(r["interval"].lower or 0.0)) for r in known]
    drawing.area([*upper, *reversed(lower)], "accent-soft")


def _settles(
    drawing: Drawing, steady: Steady, across: Scale, upward: Scale, display: Display, words_at: float
) -> None:
    y = upward(steady.value)
    start = across(min(float(steady.since), across.high) - 0.5)
    drawing.line(start, y, across.end, y, "warn", 2, "6 4")
    drawing.line(across.end - 24, words_at - 4, across.end, words_at - 4, "warn", 2, "6 4")
    digits = numbers.decimals_for(display, None, steady.value)
    said = f"settles at {numbers.change(steady.value, display, digits)}"
    drawing.text(across.end - 32, words_at, said, "warn", SMALL, "end")


def _edges(row: dict[str, Cell]) -> tuple[float | None, ...]:
    band = row["always_valid"]
    return (row["interval"].lower, row["interval"].upper, row["absolute"].value, band.lower, band.upper)


def _cumulative_legend(drawing: Drawing, banded: bool) -> None:
    drawing.line(0, 14, 18, 14, "accent", 2.5)
    drawing.text(24, 18, "effect", "ink", SMALL)
    drawing.box(72, 8, 18, 12, "accent-soft")
    drawing.text(96, 18, "interval", "ink", SMALL)
    if banded:
        drawing.line(156, 14, 176, 14, "warn", 1.5, "5 4")
        drawing.text(182, 18, "always-valid band", "ink", SMALL)


def _stray(row: dict[str, Cell], arms: list[str], planned: dict[str, float]) -> dict[str, float] | None:
    counts = [row[f"arm_{position}"].value for position in range(len(arms))]
    known = [count for count in counts if count is not None]
    total = sum(known)
    if len(known) < len(arms) or total <= 0:
        return None
    return {arm: count / total - planned[arm] for arm, count in zip(arms, known, strict=True)}


def _trimmed(values: Sequence[float | None]) -> tuple[float, float]:
    """An axis not stretched by the wide intervals of the first days: 5 % are cut off at each end."""
    finite = sorted(value for value in values if value is not None and math.isfinite(value))
    cut = len(finite) // 20
    return domain([0.0, *finite[cut : len(finite) - cut]])


def _days(days: list[date], left: float, right: float) -> Scale:
    first, last = min(days).toordinal(), max(days).toordinal()
    if first == last:
        return Scale(first - 1, last + 1, left, right)
    return Scale(first, last, left, right)


def _day_axis(drawing: Drawing, days: list[date], across: Scale, y: float) -> None:
    drawing.line(across.start, y, across.end, y, "muted")
    distinct = sorted(set(days))
    picks = {distinct[0], distinct[-1]}
    if drawing.width >= _STACK_BELOW and len(distinct) > 4:
        picks.add(distinct[len(distinct) // 2])
    for day in sorted(picks):
        x = across(float(day.toordinal()))
        anchor = (
            "middle"
            if len(picks) == 1
            else "start"
            if day == distinct[0]
            else "end"
            if day == distinct[-1]
            else "middle"
        )
        drawing.line(x, y, x, y + 4, "muted")
        drawing.text(x, y + 19, day.isoformat(), "muted", SMALL, anchor)


def _left_axis(drawing: Drawing, scale: Scale, left: float, right: float, display: Display) -> None:
    marks = ticks(scale.low, scale.high, 5)
    step = marks[1] - marks[0] if len(marks) > 1 else None
    decimals = numbers.exact_decimals(display, step)
    if display == "share" and step is not None and abs(step * 100 - round(step * 100)) < 1e-9:
        decimals = 0
    for mark in marks:
        y = scale(mark)
        zero = abs(mark) < 1e-12
        drawing.line(left, y, right, y, "muted" if zero else "rule", 1.5 if zero else 1)
        drawing.text(left - 8, y + 4, numbers.change(mark, display, decimals), "muted", SMALL, "end")


def _key(figure: Figure, width: int) -> str:
    return f"{figure.key.replace('_', '-')}-{'narrow' if width < _STACK_BELOW else 'wide'}"
