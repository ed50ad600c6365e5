"""The plots of a memo as SVG that takes the page's colours; each draws only what the memo's tables print.

Every function takes a readout and gives one SVG element, or "" where there is nothing to draw. `width` is in
CSS pixels: below 560 labels stand above the marks, for a phone. Blinded effects and small cells are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from exp_pipeline.model.ramps import RampEntry
from exp_pipeline.model.readout import Readout
from exp_pipeline.report import numbers
from exp_pipeline.report.document import Effect, Figure, GuardrailView, MemoDocument
from exp_pipeline.report.facts import memo_document, primary_display, threshold_value
from exp_pipeline.report.groupplots import draw_sample_ratio_groups, draw_tradeoffs
from exp_pipeline.report.ramps import draw_ramp
from exp_pipeline.report.rowplots import (
    STACK_BELOW,
    Row,
    interval_mark,
    row_text,
    rows_frame,
    strips,
    upright,
    value_axis,
)
from exp_pipeline.report.svg import SMALL, domain, ticks, width_of
from exp_pipeline.report.timeplots import Steady, draw_cumulative, draw_sample_ratio, draw_since

WIDE = 720
NARROW = 348


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


def novelty_days(readout: Readout, width: int = WIDE) -> str:
    """Does the effect last, day by day since each unit's assignment?"""
    return _novelty_days(readout, memo_document(readout), width)


def sample_ratio_groups(readout: Readout, width: int = WIDE) -> str:
    """On which platform, in which stratum or segment did the split of units stray from the plan?"""
    return _sample_ratio_groups(readout, memo_document(readout), width)


def tradeoffs(readout: Readout, width: int = WIDE) -> str:
    """Which metrics gain and which lose, all on one scale with better on the right?"""
    return _tradeoffs(readout, memo_document(readout), width)


def ramp(readout: Readout, transitions: Sequence[RampEntry] = (), width: int = WIDE) -> str:
    """Which stages of traffic are planned for when, and which were reached?"""
    return _ramp(readout, memo_document(readout, transitions), width)


def all_plots(readout: Readout, document: MemoDocument) -> dict[str, tuple[str, str]]:
    """Every plot of a memo by key: one for wide pages and one for phones."""
    drawn: dict[str, Callable[[Readout, MemoDocument, int], str]] = {
        "forest": _forest,
        "segments": _segments,
        "guardrails": _guardrails,
        "sample_ratio": _sample_ratio,
        "cumulative": _cumulative,
        "novelty": _novelty,
        "novelty_days": _novelty_days,
        "sample_ratio_groups": _sample_ratio_groups,
        "tradeoffs": _tradeoffs,
        "ramp": _ramp,
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
    rows: list[Row] = []
    last = ""
    for effect, row in zip(document.segments, figure.table.rows, strict=True):
        label = f"{effect.segment_value}" + (f", {effect.arm}" if several else "")
        group = (effect.segment or "").replace("_", " ")
        new_group = group if not rows or group != last else ""
        last = group
        floor = row["floor"].value if "floor" in row else None
        learnt = row.get("shrunken")
        second = None
        if learnt is not None and learnt.value is not None:
            ends = row["shrunken_interval"]
            second = (float(learnt.value), ends.lower, ends.upper)
        rows.append(replace(_effect_row(effect, label, floor), group=new_group, second=second))
    return _effects(readout, document, figure, rows, width, None)


def _effect_row(effect: Effect, label: str, mark: float | None = None) -> Row:
    role = {True: "good", False: "bad", None: "accent"}[effect.favourable]
    words = (
        f"{effect.absolute.text} ({effect.interval.text})" if effect.shown else effect.reason.split(":")[0]
    )
    value = effect.absolute.value
    return Row(
        label, words, value, effect.interval.lower, effect.interval.upper, role, not effect.confirmatory, mark
    )


def _effects(
    readout: Readout,
    document: MemoDocument,
    figure: Figure,
    rows: list[Row],
    width: int,
    threshold: float | None,
) -> str:
    display = primary_display(readout)
    better_right = (
        next((e.direction for e in readout.estimates if e.role == "primary"), "increase") == "increase"
    )
    bounds = [0.0, threshold]
    for row in rows:
        bounds += [row.value, row.lower, row.upper, row.mark, *(row.second or ())]
    drawing, frame = rows_frame(figure, rows, domain(bounds), width, 40.0 if threshold is not None else 24.0)
    bottom = frame.bottom
    value_axis(drawing, frame.scale, bottom, lambda value, d: numbers.change(value, display, d), display)
    upright(drawing, frame, 0.0, "muted")
    left, right = ("worse", "better") if better_right else ("better", "worse")
    head = frame.top - 12
    drawing.text(frame.scale.start, head, f"\N{LEFTWARDS ARROW} {left}", "muted", SMALL)
    drawing.text(frame.scale.end, head, f"{right} \N{RIGHTWARDS ARROW}", "muted", SMALL, "end")
    if threshold is not None:
        x = frame.scale(threshold)
        upright(drawing, frame, threshold, "warn", "5 4")
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
        y = row_text(drawing, frame, row, position)
        interval_mark(drawing, frame.scale, row, y)
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
    rows: list[Row] = []
    ordered = sorted(document.guardrails, key=lambda view: arms.index(view.arm))
    for position, view in enumerate(ordered):
        first = several and (position == 0 or ordered[position - 1].arm != view.arm)
        rows.append(replace(_guardrail_row(view), group=view.arm if first else ""))
    reach = [value for row in rows for value in (row.value, row.upper) if value is not None]
    low, high = max(min([-0.5, *reach]), -2.0), min(max([1.6, *reach]), 3.0)
    drawing, frame = rows_frame(figure, rows, (low - 0.1, high + 0.1), width, 24.0)
    bottom, scale = frame.bottom, frame.scale
    for y1, y2 in strips(frame):
        drawing.box(scale(1.0), y1, scale.end - scale(1.0), y2 - y1, "bad-soft")
    for tick in ticks(scale.low, scale.high, 4 if width < STACK_BELOW else 6):
        x = scale(tick)
        drawing.line(x, bottom, x, bottom + 4, "muted")
        drawing.text(x, bottom + 18, numbers.percent(tick, 0), "muted", SMALL, "middle")
    drawing.line(scale.start, bottom, scale.end, bottom, "muted")
    upright(drawing, frame, 0.0, "muted")
    upright(drawing, frame, 1.0, "bad", "5 4")
    drawing.text(scale(0) + 4, frame.top - 12, "no change", "muted", SMALL, "end")
    drawing.text(scale(1) - 4, frame.top - 12, "beyond margin", "bad", SMALL)
    for position, row in enumerate(rows):
        y = row_text(drawing, frame, row, position)
        interval_mark(drawing, scale, row, y)
    return drawing.svg()


def _guardrail_row(view: GuardrailView) -> Row:
    role = {"good": "good", "bad": "bad", "warn": "warn", "calm": "calm"}[view.tone]
    words = f"{view.harm.text} of {view.margin.text}: {view.label.lower()}"
    harm, bound = view.margin_used.value, view.bound_used.value
    return Row(view.title, words, harm, harm, bound, role, view.basis == "point")


def _sample_ratio(readout: Readout, document: MemoDocument, width: int) -> str:
    if "sample_ratio" not in document.figures:
        return ""
    return draw_sample_ratio(readout, document.figures["sample_ratio"], width)


def _cumulative(readout: Readout, document: MemoDocument, width: int) -> str:
    if "cumulative" not in document.figures:
        return ""
    return draw_cumulative(readout, document.figures["cumulative"], primary_display(readout), width)


def _novelty(readout: Readout, document: MemoDocument, width: int) -> str:
    if "novelty" not in document.figures:
        return ""
    steady = {
        row.arm: Steady(row.steady_from_week or 0, row.steady)
        for row in readout.novelty_trend
        if row.estimable and row.steady is not None
    }
    return draw_since(document.figures["novelty"], "week", primary_display(readout), width, steady)


def _novelty_days(readout: Readout, document: MemoDocument, width: int) -> str:
    if "novelty_days" not in document.figures:
        return ""
    # Where an effect settles is told of weeks: what a learner does in a day is another quantity.
    return draw_since(document.figures["novelty_days"], "day", primary_display(readout), width)


def _sample_ratio_groups(readout: Readout, document: MemoDocument, width: int) -> str:
    if "sample_ratio_groups" not in document.figures:
        return ""
    return draw_sample_ratio_groups(readout, document.figures["sample_ratio_groups"], width)


def _tradeoffs(readout: Readout, document: MemoDocument, width: int) -> str:
    return draw_tradeoffs(document.figures["tradeoffs"], width) if "tradeoffs" in document.figures else ""


def _ramp(readout: Readout, document: MemoDocument, width: int) -> str:
    return draw_ramp(document.figures["ramp"], width) if "ramp" in document.figures else ""
