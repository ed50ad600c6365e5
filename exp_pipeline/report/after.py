"""What goes on after shipping, in words, tables and plots: drift of what is served, effects that last."""

from __future__ import annotations

from collections.abc import Sequence

from exp_pipeline.model.after import DriftFinding, DurabilityRow
from exp_pipeline.model.metrics import Display
from exp_pipeline.model.readout import Verdict
from exp_pipeline.report import numbers
from exp_pipeline.report.cells import NONE, without_empty_columns, words
from exp_pipeline.report.document import Cell, Column, Figure, Table, Tone
from exp_pipeline.report.rowplots import Row, interval_mark, row_text, rows_frame, strips, upright, value_axis
from exp_pipeline.report.svg import domain

DRIFT: dict[Verdict, tuple[str, Tone]] = {
    "fail": ("strays", "bad"),
    "warn": ("near the line", "warn"),
    "pass": ("steady", "good"),
    "cannot_tell": ("cannot tell", "calm"),
}
# Of the findings with a number, so many are drawn, the worst first; the table holds all.
_DRAWN = 14
# What every version's title begins with, and a label has no room for.
_OF_RESPONSES = "share of responses of "
# Beyond so many lines an arrow says that it goes on.
_FAR = 5.0
_WORST = tuple(DRIFT)


def drift_figure(findings: Sequence[DriftFinding]) -> Figure:
    """How far does each thing that is watched stray from its own weeks? The worst first."""
    ordered = sorted(
        findings, key=lambda one: (_WORST.index(one.verdict), -abs(_times(one) or 0.0), one.subject)
    )
    days = sorted({str(one.day) for one in findings})
    columns = (
        Column(key="what", title="What"),
        Column(key="says", title="Says"),
        Column(key="change", title="Change", numeric=True),
        Column(key="line", title="Line", numeric=True),
        Column(key="chance", title="By chance", numeric=True),
        Column(key="today", title="That day", numeric=True),
        Column(key="usual", title="Usual", numeric=True),
        Column(key="seen", title="What was seen"),
    )
    rows = tuple(_drift_row(one) for one in ordered)
    strays = sum(one.verdict == "fail" for one in findings)
    return Figure(
        key="drift",
        title=f"Drift on {', '.join(days) or 'no day yet'}",
        description=f"{strays} of {len(findings)} things that are watched stray from the same weekday of "
        "their own weeks. A change is drawn as a multiple of the line from which on it is told, with what "
        "chance alone may have added or taken.",
        table=without_empty_columns(
            Table(key="drift", title="Drift", columns=columns, rows=rows, empty="Nothing was judged yet.")
        ),
    )


def _drift_row(one: DriftFinding) -> dict[str, Cell]:
    (label, tone), change, ends = DRIFT[one.verdict], one.change, _ends(one)
    return {
        "what": words(one.title),
        "says": Cell(text=label, tone=tone),
        "change": NONE
        if change is None
        else Cell(text=_drift_change(one, change), value=_times(one), lower=ends[0], upper=ends[1]),
        "line": words("" if one.threshold is None else _drift_change(one, one.threshold).removeprefix("+")),
        "chance": words(
            "" if one.noise is None else f"up to {_drift_change(one, one.noise).removeprefix('+')}"
        ),
        "today": words(_drift_level(one, one.value)),
        "usual": words(_drift_level(one, one.usual)),
        "seen": words(drift_seen(one)),
    }


def drift_seen(one: DriftFinding) -> str:
    """What was seen, without the thing's title in front; where it may all be chance, how far chance goes."""
    text = (one.evidence or one.reason).removeprefix(one.title).lstrip(" :,")
    low, high = _ends(one)
    if low is not None and high is not None and low <= 0.0 <= high and abs(_times(one) or 0.0) > 1.0:
        return f"{text}; chance alone may move it by {_drift_change(one, one.noise or 0.0).removeprefix('+')}"
    return text


def _times(one: DriftFinding) -> float | None:
    return one.change / one.threshold if one.change is not None and one.threshold else None


def _ends(one: DriftFinding) -> tuple[float | None, float | None]:
    """From where to where chance alone may have moved it from, as multiples of its line."""
    if one.change is None or one.noise is None or not one.threshold:
        return None, None
    if one.kind != "number":
        return (one.change - one.noise) / one.threshold, (one.change + one.noise) / one.threshold
    factor = 1.0 + one.noise
    low, high = (1.0 + one.change) / factor - 1.0, (1.0 + one.change) * factor - 1.0
    return low / one.threshold, high / one.threshold


def _drift_change(one: DriftFinding, change: float) -> str:
    return numbers.relative(change) if one.kind == "number" else numbers.change(change, "share", 1)


def _drift_level(one: DriftFinding, value: float | None) -> str:
    if value is None:
        return ""
    return numbers.plain(value) if one.kind == "number" else numbers.percent(value, 1)


def drift_plot(figure: Figure, width: int) -> str:
    """A dot for each change, as a multiple of its line; nothing where nothing has a number."""
    known = [row for row in figure.table.rows if row.get("change", NONE).value is not None][:_DRAWN]
    if not known:
        return ""
    rows = [
        Row(
            label=row["what"].text.removeprefix(_OF_RESPONSES),
            words=f"{row['change'].text}, line {row['line'].text}",
            value=row["change"].value,
            lower=row["change"].lower,
            upper=row["change"].upper,
            role=row["says"].tone or "calm",
        )
        for row in known
    ]
    ends = [end for row in rows for end in (row.value, row.lower, row.upper) if end is not None]
    low, high = domain([-1.2, 1.2, *(max(min(end, _FAR), -_FAR) for end in ends)])
    drawing, frame = rows_frame(figure, rows, (low, high), width, 10.0)
    value_axis(
        drawing,
        frame.scale,
        frame.bottom,
        lambda value, _: f"{numbers.plain(value)} \N{MULTIPLICATION SIGN}",
        "number",
    )
    for y1, y2 in strips(frame):
        drawing.line(frame.scale(0), y1, frame.scale(0), y2, "rule")
    for line in (-1.0, 1.0):
        upright(drawing, frame, line, "warn", "4 3")
    for position, row in enumerate(rows):
        interval_mark(drawing, frame.scale, row, row_text(drawing, frame, row, position))
    return drawing.svg()


def durability_figure(rows: Sequence[DurabilityRow], display: Display) -> Figure:
    """Is an experiment's effect still what it was at its end? The change of it, look by look."""
    columns = (
        Column(key="look", title="Weeks after the end", numeric=True),
        Column(key="arm", title="Arm"),
        Column(key="says", title="Says"),
        Column(key="then", title="Effect at the end", numeric=True),
        Column(key="now", title="Effect now", numeric=True),
        Column(key="change", title="Change", numeric=True),
        Column(key="interval", title="Interval", numeric=True),
        Column(key="kept", title="Kept", numeric=True),
        Column(key="units", title="Units in arm and control", numeric=True),
        Column(key="note", title="Note"),
    )
    title = rows[0].title if rows else "the primary metric"
    return Figure(
        key="durability",
        title=f"Does the effect on {title} last?",
        description="The effect some weeks after the end less the one at the end, on the same units; at zero "
        "it is what it was.",
        table=Table(
            key="durability",
            title="Lasting effect",
            columns=columns,
            rows=tuple(_durability_row(one, display) for one in rows),
            empty="No look is due yet.",
        ),
    )


def kept_share(one: DurabilityRow) -> float | None:
    """Which part of the effect is still there (1: all of it)? None where there was none, or none is known."""
    if not one.estimable or one.later is None or not one.gain:
        return None
    return one.later / one.gain


def durability_says(one: DurabilityRow) -> tuple[str, Tone]:
    """What does one look say of the effect?"""
    if not one.estimable:
        return "cannot tell", "calm"
    return ("decays", "bad") if one.decayed else ("no decay seen", "good")


def _durability_row(one: DurabilityRow, display: Display) -> dict[str, Cell]:
    label, tone = durability_says(one)
    width = None if one.ci_lower is None or one.ci_upper is None else one.ci_upper - one.ci_lower
    decimals = numbers.decimals_for(display, width, one.gain, one.later)
    kept = kept_share(one)

    def told(value: float | None) -> str:
        return "" if value is None else numbers.change(value, display, decimals)

    of = "" if one.against == "control" else " against the holdout"
    return {
        "look": Cell(text=str(one.days_after_end // 7), value=one.days_after_end // 7),
        "arm": words(f"{one.arm}{of}"),
        "says": Cell(text=label, tone=tone),
        "then": words(told(one.gain)),
        "now": words(told(one.later)),
        "change": NONE
        if one.change is None
        else Cell(text=told(one.change), value=one.change, lower=one.ci_lower, upper=one.ci_upper),
        "interval": words(
            "" if width is None else numbers.interval(one.ci_lower, one.ci_upper, display, decimals)
        ),
        "kept": NONE if kept is None else Cell(text=numbers.percent(kept, 0), value=kept),
        "units": words(
            f"{numbers.count(one.n_treatment)} / {numbers.count(one.n_control)}" if one.estimable else ""
        ),
        "note": words("; ".join(text for text in (one.reason, one.note) if text)),
    }


def durability_plot(figure: Figure, display: Display, width: int) -> str:
    """The change with its interval, a row a look and arm; nothing where none can be told."""
    known = [row for row in figure.table.rows if row["change"].value is not None]
    if not known:
        return ""
    rows = [
        Row(
            f"{row['arm'].text}, {row['look'].text} weeks after",
            f"{row['then'].text} then, {row['now'].text} now",
            row["change"].value, row["change"].lower, row["change"].upper,
            "bad" if row["says"].tone == "bad" else "accent",
        )
        for row in known
    ]  # fmt: skip
    span = domain([0.0, *(end for row in rows for end in (row.value, row.lower, row.upper))])
    drawing, frame = rows_frame(figure, rows, span, width, 10.0)

    def write(value: float, decimals: int) -> str:
        return numbers.change(value, display, decimals)

    value_axis(drawing, frame.scale, frame.bottom, write, display)
    upright(drawing, frame, 0.0, "muted", "4 3")
    for position, row in enumerate(rows):
        interval_mark(drawing, frame.scale, row, row_text(drawing, frame, row, position))
    return drawing.svg()
