"""The plots of a memo as SVG that takes the page's colours; each draws only what the memo's tables print.

Every function takes a readout and gives one SVG element, or "" where there is nothing to draw. `width` is in
CSS pixels: below 560 labels stand above the marks, for a phone. Blinded effects and small cells are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from exp_pipeline.model.readout import Readout
from exp_pipeline.report import numbers
from exp_pipeline.report.document import Effect, Figure, GuardrailView, MemoDocument
from exp_pipeline.report.facts import memo_document, threshold_value
from exp_pipeline.report.numbers import Display
from exp_pipeline.report.svg import FONT, SMALL, Drawing, Scale, domain, fit, ticks, width_of
from exp_pipeline.report.timeplots import draw_cumulative, draw_novelty, draw_sample_ratio

WIDE = 720
NARROW = 348
_STACK_BELOW = 560
_GROUP = 24.0


@dataclass(frozen=True)
class _Row:
    label: str
    words: str
    value: float | None
    lower: float | None
    upper: float | None
    role: str
    hollow: bool = False
    mark: float | None = None
    group: str = ""


@dataclass(frozen=True)
class _Frame:
    """Where labels, marks and words of a plot of rows stand."""

    stacked: bool
    scale: Scale
    top: float
    tops: tuple[float, ...]
    row_height: float
    bottom: float
    left_width: float
    right_start: float


def forest(readout: Readout, width: int = WIDE) -> str:
    """Where does the primary effect of each arm lie, against zero and the practical threshold?"""
    return _forest(readout, memo_document(readout), width)


def segments(readout: Readout, width: int = WIDE) -> str:
    """Where does the primary effect lie in each declared segment, against zero and the floor?"""
    return _segments(readout, memo_document(readout), width)


def guardrails(readout: Readout, width: int = WIDE) -> str:
    """How much of each guardrail's margin does the harm use up, and how far may it reach?"""
    return _guardrails(readout, memo_document(readout), width)


def sample_ratio(readout: Readout, width: int = WIDE) -> str:
    """How far did the split of units stray from the plan, day by day, and how surprising is that?"""
    return _sample_ratio(readout, memo_document(readout), width)


def cumulative(readout: Readout, width: int = WIDE) -> str:
    """How did the primary effect and its interval develop, day by day?"""
    return _cumulative(readout, memo_document(readout), width)


def novelty(readout: Readout, width: int = WIDE) -> str:
    """Does the effect last, week by week since each unit's assignment?"""
    return _novelty(readout, memo_document(readout), width)


def all_plots(readout: Readout, document: MemoDocument) -> dict[str, tuple[str, str]]:
    """Every plot of a memo by key: one for wide pages and one for phones."""
    drawn: dict[str, Callable[[Readout, MemoDocument, int], str]] = {
        "forest": _forest,
        "segments": _segments,
        "guardrails": _guardrails,
        "sample_ratio": _sample_ratio,
        "cumulative": _cumulative,
        "novelty": _novelty,
    }
    return {
        key: (drawn[key](readout, document, WIDE), drawn[key](readout, document, NARROW))
        for key in document.figures
    }


def _forest(readout: Readout, document: MemoDocument, width: int) -> str:
    if "forest" not in document.figures:
        return ""
    rows = [_effect_row(effect, effect.arm) for effect in document.primary]
    return _effects(readout, document, document.figures["forest"], rows, width, threshold_value(readout))


def _segments(readout: Readout, document: MemoDocument, width: int) -> str:
    if "segments" not in document.figures:
        return ""
    figure = document.figures["segments"]
    several = len({effect.arm for effect in document.segments}) > 1
    rows: list[_Row] = []
    last = ""
    for effect, row in zip(document.segments, figure.table.rows, strict=True):
        label = f"{effect.segment_value}" + (f", {effect.arm}" if several else "")
        group = effect.segment or ""
        new_group = group if not rows or group != last else ""
        last = group
        floor = row["floor"].value if "floor" in row else None
        rows.append(replace(_effect_row(effect, label, floor), group=new_group))
    return _effects(readout, document, figure, rows, width, None)


def _effect_row(effect: Effect, label: str, mark: float | None = None) -> _Row:
    role = {True: "good", False: "bad", None: "accent"}[effect.favourable]
    words = (
        f"{effect.absolute.text} ({effect.interval.text})" if effect.shown else effect.reason.split(":")[0]
    )
    value = effect.absolute.value
    return _Row(
        label, words, value, effect.interval.lower, effect.interval.upper, role, not effect.confirmatory, mark
    )


def _effects(
    readout: Readout,
    document: MemoDocument,
    figure: Figure,
    rows: list[_Row],
    width: int,
    threshold: float | None,
) -> str:
    display: Display = next((e.display for e in readout.estimates if e.role == "primary"), "number")
    better_right = (
        next((e.direction for e in readout.estimates if e.role == "primary"), "increase") == "increase"
    )
    bounds = [0.0, threshold]
    for row in rows:
        bounds += [row.value, row.lower, row.upper, row.mark]
    drawing, frame = _rows_frame(figure, rows, domain(bounds), width, 40.0 if threshold is not None else 24.0)
    bottom = frame.bottom
    _value_axis(drawing, frame.scale, bottom, lambda value, d: numbers.change(value, display, d), display)
    _upright(drawing, frame, 0.0, "muted")
    left, right = ("worse", "better") if better_right else ("better", "worse")
    head = frame.top - 12
    drawing.text(frame.scale.start, head, f"\N{LEFTWARDS ARROW} {left}", "muted", SMALL)
    drawing.text(frame.scale.end, head, f"{right} \N{RIGHTWARDS ARROW}", "muted", SMALL, "end")
    if threshold is not None:
        x = frame.scale(threshold)
        _upright(drawing, frame, threshold, "warn", "5 4")
        exact = numbers.exact_decimals(display, threshold)
        said = f"threshold {numbers.change(threshold, display, exact)}"
        half = width_of(said, SMALL) / 2
        drawing.text(
            min(max(x, frame.scale.start + half), frame.scale.end - half),
            head - 16,
            said,
            "warn",
            SMALL,
            "middle",
        )
    for position, row in enumerate(rows):
        y = _row_text(drawing, frame, row, position)
        _interval(drawing, frame.scale, row, y)
        if row.mark is not None:
            x = frame.scale(row.mark)
            drawing.line(x, y - 9, x, y + 9, "warn", 2.5)
    return drawing.svg()


def _guardrails(readout: Readout, document: MemoDocument, width: int) -> str:
    if "guardrails" not in document.figures:
        return ""
    figure = document.figures["guardrails"]
    arms = list(dict.fromkeys(guardrail.arm for guardrail in readout.guardrails))
    several = len(arms) > 1
    rows: list[_Row] = []
    ordered = sorted(document.guardrails, key=lambda view: arms.index(view.arm))
    for position, view in enumerate(ordered):
        first = several and (position == 0 or ordered[position - 1].arm != view.arm)
        rows.append(replace(_guardrail_row(view), group=view.arm if first else ""))
    reach = [value for row in rows for value in (row.value, row.upper) if value is not None]
    low, high = max(min([-0.5, *reach]), -2.0), min(max([1.6, *reach]), 3.0)
    drawing, frame = _rows_frame(figure, rows, (low - 0.1, high + 0.1), width, 24.0)
    bottom, scale = frame.bottom, frame.scale
    for y1, y2 in _strips(frame):
        drawing.box(scale(1.0), y1, scale.end - scale(1.0), y2 - y1, "bad-soft")
    for tick in ticks(scale.low, scale.high, 4 if width < _STACK_BELOW else 6):
        x = scale(tick)
        drawing.line(x, bottom, x, bottom + 4, "muted")
        drawing.text(x, bottom + 18, numbers.percent(tick, 0), "muted", SMALL, "middle")
    drawing.line(scale.start, bottom, scale.end, bottom, "muted")
    _upright(drawing, frame, 0.0, "muted")
    _upright(drawing, frame, 1.0, "bad", "5 4")
    drawing.text(scale(0) + 4, frame.top - 12, "no change", "muted", SMALL, "end")
    drawing.text(scale(1) - 4, frame.top - 12, "beyond margin", "bad", SMALL)
    for position, row in enumerate(rows):
        y = _row_text(drawing, frame, row, position)
        _interval(drawing, scale, row, y)
    return drawing.svg()


def _guardrail_row(view: GuardrailView) -> _Row:
    role = {"good": "good", "bad": "bad", "warn": "warn", "calm": "calm"}[view.tone]
    words = f"{view.harm.text} of {view.margin.text}: {view.label.lower()}"
    harm, bound = view.margin_used.value, view.bound_used.value
    return _Row(view.title, words, harm, harm, bound, role, view.basis == "point")


def _sample_ratio(readout: Readout, document: MemoDocument, width: int) -> str:
    if "sample_ratio" not in document.figures:
        return ""
    return draw_sample_ratio(readout, document.figures["sample_ratio"], width)


def _cumulative(readout: Readout, document: MemoDocument, width: int) -> str:
    if "cumulative" not in document.figures:
        return ""
    display: Display = next((e.display for e in readout.estimates if e.role == "primary"), "number")
    return draw_cumulative(readout, document.figures["cumulative"], display, width)


def _novelty(readout: Readout, document: MemoDocument, width: int) -> str:
    if "novelty" not in document.figures:
        return ""
    display: Display = next((e.display for e in readout.estimates if e.role == "primary"), "number")
    return draw_novelty(document.figures["novelty"], display, width)


def _rows_frame(
    figure: Figure, rows: list[_Row], span: tuple[float, float], width: int, top: float
) -> tuple[Drawing, _Frame]:
    stacked = width < _STACK_BELOW
    row_height = 60.0 if stacked else 38.0
    longest = max(width_of(row.label) for row in rows)
    words = max(width_of(row.words, SMALL) for row in rows)
    left = 12.0 if stacked else min(max(longest * 1.08 + 18, 90.0), width * 0.36)
    right = 12.0 if stacked else min(max(words + 20, 110.0), width * 0.36)
    tops, y = [], top
    for row in rows:
        y += _GROUP if row.group else 0.0
        tops.append(y)
        y += row_height
    kind = "narrow" if stacked else "wide"
    drawing = Drawing(
        f"{figure.key.replace('_', '-')}-{kind}", width, y + 30, figure.title, figure.description
    )
    scale = Scale(span[0], span[1], left, width - right)
    return drawing, _Frame(stacked, scale, top, tuple(tops), row_height, y, left, width - right + 14)


def _row_text(drawing: Drawing, frame: _Frame, row: _Row, position: int) -> float:
    """Write a row's label and words; the answer is the height at which its mark stands."""
    y = frame.tops[position]
    if position:
        edge = y - (_GROUP if row.group else 0.0)
        drawing.line(0, edge, drawing.width, edge, "rule")
    if row.group:
        drawing.text(0, y - 5, fit(row.group, drawing.width), "muted", SMALL)
    if frame.stacked:
        drawing.text(0, y + 18, fit(row.label, drawing.width * 0.98), "ink", FONT, bold=True)
        drawing.text(0, y + 34, fit(row.words, drawing.width * 0.98, SMALL), "muted", SMALL)
        return y + 47
    middle = y + frame.row_height / 2
    drawing.text(0, middle + 4.5, fit(row.label, frame.left_width - 10), "ink", FONT, bold=True)
    drawing.text(
        frame.right_start,
        middle + 4.5,
        fit(row.words, drawing.width - frame.right_start, SMALL),
        "ink",
        SMALL,
    )
    return middle


def _strips(frame: _Frame) -> list[tuple[float, float]]:
    """The heights that lines across rows may take: all of it, or on a phone only where no words stand."""
    if not frame.stacked:
        return [(frame.top - 4, frame.bottom)]
    return [(top + 38, top + frame.row_height - 3) for top in frame.tops]


def _upright(drawing: Drawing, frame: _Frame, value: float, role: str, dash: str = "") -> None:
    x = frame.scale(value)
    for y1, y2 in _strips(frame):
        drawing.line(x, y1, x, y2, role, 1.5, dash)


def _interval(drawing: Drawing, scale: Scale, row: _Row, y: float) -> None:
    if row.value is None:
        return
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


def _value_axis(
    drawing: Drawing, scale: Scale, y: float, write: Callable[[float, int], str], display: Display
) -> None:
    marks = ticks(scale.low, scale.high, 3 if scale.end - scale.start < 330 else 5)
    step = marks[1] - marks[0] if len(marks) > 1 else None
    decimals = numbers.exact_decimals(display, step)
    if display == "share" and step is not None and abs(step * 100 - round(step * 100)) < 1e-9:
        decimals = 0
    drawing.line(scale.start, y, scale.end, y, "muted")
    for mark in marks:
        x = scale(mark)
        drawing.line(x, y, x, y + 4, "muted")
        drawing.text(x, y + 18, write(mark, decimals), "muted", SMALL, "middle")
