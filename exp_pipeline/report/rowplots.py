"""Plots of rows: a label, marks on a shared axis, and the numbers in words; on a phone words stand above."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from exp_pipeline.report import numbers
from exp_pipeline.report.document import Figure
from exp_pipeline.report.numbers import Display
from exp_pipeline.report.svg import FONT, SMALL, Drawing, Scale, fit, ticks, width_of

STACK_BELOW = 560
GROUP = 24.0


@dataclass(frozen=True)
class Row:
    """One row: where its mark and its interval stand, and how it is said.

    `mark` is a short bar of its own (a floor), `second` another estimate below the first (value, ends).
    """

    label: str
    words: str
    value: float | None
    lower: float | None
    upper: float | None
    role: str
    hollow: bool = False
    mark: float | None = None
    group: str = ""
    second: tuple[float, float | None, float | None] | None = None


@dataclass(frozen=True)
class Frame:
    """Where labels, marks and words of a plot of rows stand."""

    stacked: bool
    scale: Scale
    top: float
    tops: tuple[float, ...]
    row_height: float
    bottom: float
    left_width: float
    right_start: float


def rows_frame(
    figure: Figure, rows: list[Row], span: tuple[float, float], width: int, top: float
) -> tuple[Drawing, Frame]:
    """Where everything stands: a drawing with its frame, as high as its rows need."""
    stacked = width < STACK_BELOW
    two = any(row.second is not None for row in rows)
    row_height = (72.0 if two else 60.0) if stacked else (44.0 if two else 38.0)
    longest = max(width_of(row.label) for row in rows)
    words = max(width_of(row.words, SMALL) for row in rows)
    left = 12.0 if stacked else min(max(longest * 1.08 + 18, 90.0), width * 0.36)
    right = 12.0 if stacked else min(max(words + 20, 110.0), width * 0.36)
    tops, y = [], top
    for row in rows:
        y += GROUP if row.group else 0.0
        tops.append(y)
        y += row_height
    kind = "narrow" if stacked else "wide"
    drawing = Drawing(
        f"{figure.key.replace('_', '-')}-{kind}", width, y + 30, figure.title, figure.description
    )
    scale = Scale(span[0], span[1], left, width - right)
    return drawing, Frame(stacked, scale, top, tuple(tops), row_height, y, left, width - right + 14)


def row_text(drawing: Drawing, frame: Frame, row: Row, position: int) -> float:
    """Write a row's label and words; the answer is the height at which its mark stands."""
    y = frame.tops[position]
    if position:
        edge = y - (GROUP if row.group else 0.0)
        drawing.line(0, edge, drawing.width, edge, "rule")
    if row.group:
        drawing.text(0, y - 5, fit(row.group, drawing.width), "muted", SMALL)
    if frame.stacked:
        drawing.text(0, y + 18, fit(row.label, drawing.width * 0.98), "ink", FONT, bold=True)
        drawing.text(0, y + 34, fit(row.words, drawing.width * 0.98, SMALL), "muted", SMALL)
        return y + 47
    middle = y + frame.row_height / 2 - (4.0 if row.second is not None else 0.0)
    drawing.text(0, middle + 4.5, fit(row.label, frame.left_width - 10), "ink", FONT, bold=True)
    drawing.text(
        frame.right_start,
        middle + 4.5,
        fit(row.words, drawing.width - frame.right_start, SMALL),
        "ink",
        SMALL,
    )
    return middle


def strips(frame: Frame) -> list[tuple[float, float]]:
    """The heights that lines across rows may take: all of it, or on a phone only where no words stand."""
    if not frame.stacked:
        return [(frame.top - 4, frame.bottom)]
    return [(top + 38, top + frame.row_height - 3) for top in frame.tops]


def upright(drawing: Drawing, frame: Frame, value: float, role: str, dash: str = "") -> None:
    """A line across all rows at one value."""
    x = frame.scale(value)
    for y1, y2 in strips(frame):
        drawing.line(x, y1, x, y2, role, 1.5, dash)


def interval_mark(drawing: Drawing, scale: Scale, row: Row, y: float) -> None:
    """A point with its interval; arrows where it goes on beyond the axis."""
    if row.value is None:
        return
    if row.second is not None:
        second, lower, upper = row.second
        below = y + 11
        if lower is not None and upper is not None:
            drawing.line(scale(lower), below, scale(upper), below, "muted", 1.5)
        drawing.diamond(scale(second), below, "muted", 4, hollow=True)
    ends = [end for end in (row.lower, row.upper) if end is not None]
    if len(ends) == 2 and ends[0] != ends[1]:
        drawing.line(scale(ends[0]), y, scale(ends[1]), y, row.role, 3)
        for end in ends:
            if not scale.holds(end):
                drawing.arrow(scale(end), y, end > scale.high, row.role)
            elif end != row.value:
                drawing.line(scale(end), y - 6, scale(end), y + 6, row.role, 2)
    if scale.holds(row.value):
        drawing.dot(scale(row.value), y, row.role, hollow=row.hollow)
    else:
        drawing.arrow(scale(row.value), y, row.value > scale.high, row.role)


def value_axis(
    drawing: Drawing, scale: Scale, y: float, write: Callable[[float, int], str], display: Display
) -> list[float]:
    """The axis below the rows, written as `write` says; gives the values at which it has ticks."""
    marks = ticks(scale.low, scale.high, 3 if scale.end - scale.start < 330 else 5)
    step = marks[1] - marks[0] if len(marks) > 1 else None
    decimals = numbers.exact_decimals(display, step)
    if display == "share" and step is not None and abs(step * 100 - round(step * 100)) < 1e-9:
        decimals = 0
    drawing.line(scale.start, y, scale.end, y, "muted")
    for mark in marks:
        x, said = scale(mark), write(mark, decimals)
        half = width_of(said, SMALL) / 2
        drawing.line(x, y, x, y + 4, "muted")
        drawing.text(min(max(x, half), drawing.width - half), y + 18, said, "muted", SMALL, "middle")
    return marks
