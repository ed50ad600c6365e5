"""The ramp of an experiment: which stages are planned, which were reached, and when, as table and plot."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from exp_pipeline.model.brief import Brief, RampStage
from exp_pipeline.model.ramps import Phase, RampEntry
from exp_pipeline.report import numbers
from exp_pipeline.report.cells import NONE, without_empty_columns, words
from exp_pipeline.report.document import Cell, Column, Figure, Table
from exp_pipeline.report.rowplots import Row, row_text, rows_frame, strips, value_axis

_PHASES: dict[Phase, str] = {"ramp": "Experiment", "rollout": "Rollout"}
_ACTIONS = {"pause": "paused", "resume": "resumed", "roll_back": "rolled back", "close": "closed"}
_CHECKS = {
    "srm": "sample ratio",
    "guardrails": "no guardrail fails",
    "guardrails_powered": "every guardrail passes",
    "data_quality": "data quality",
    "fidelity": "fidelity",
}
# A stage without an end is drawn so many days long.
_OPEN_DAYS = 4


def ramp_table(brief: Brief, entries: Sequence[RampEntry] = ()) -> Table:
    """Through which stages does traffic go, when at the earliest, and which were reached when?

    `entries` are the transitions of this experiment's log, in their order; none are needed.
    """
    rows = []
    for phase, stages in (("ramp", brief.ramp), ("rollout", brief.rollout)):
        mine = [entry for entry in entries if entry.phase == phase]
        first = brief.start if phase == "ramp" else min((e.at.date() for e in mine), default=None)
        rows += _rows("ramp" if phase == "ramp" else "rollout", stages, first, mine)
    columns = (
        Column(key="phase", title="Of the"),
        Column(key="stage", title="Stage", numeric=True),
        Column(key="traffic", title="Traffic", numeric=True),
        Column(key="earliest", title="At the earliest"),
        Column(key="reached", title="Reached"),
        Column(key="dwell", title="Least days", numeric=True),
        Column(key="units", title="Least units", numeric=True),
        Column(key="checks", title="Checks before the next"),
        Column(key="approval", title="Entered"),
        Column(key="note", title="Note"),
    )
    table = without_empty_columns(
        Table(
            key="ramp",
            title="Rollout stages",
            columns=columns,
            rows=tuple(rows),
            empty="The brief plans no stages.",
        )
    )
    both = bool(brief.ramp) and bool(brief.rollout)
    if both or not rows:
        return table
    return table.model_copy(
        update={
            "columns": tuple(column for column in table.columns if column.key != "phase"),
            "rows": tuple({k: v for k, v in row.items() if k != "phase"} for row in table.rows),
        }
    )


def _rows(
    phase: Phase, stages: Sequence[RampStage], first: date | None, entries: Sequence[RampEntry]
) -> list[dict[str, Cell]]:
    rows, offset = [], 0
    for position, stage in enumerate(stages, start=1):
        entered = [e for e in entries if e.stage == position and e.action in ("advance", "ship")]
        others = [e for e in entries if e.stage == position and e.action in _ACTIONS]
        reached = NONE
        if entered and first is not None:
            day = entered[0].at.date()
            reached = Cell(text=day.isoformat(), value=(day - first).days)
        notes = [f"{_ACTIONS[e.action]} {e.at.date()} by {e.by}{_because(e)}" for e in others]
        earliest = f"day {offset}" if first is None else (first + timedelta(days=offset)).isoformat()
        rows.append(
            {
                "phase": words(_PHASES[phase]),
                "stage": Cell(text=str(position), value=position),
                "traffic": Cell(text=numbers.round_percent(stage.traffic), value=stage.traffic),
                "earliest": Cell(text=earliest, value=offset),
                "reached": reached,
                "dwell": Cell(text=str(stage.dwell_days), value=stage.dwell_days),
                "units": Cell(text=numbers.count(stage.minimum_units), value=stage.minimum_units),
                "checks": words(", ".join(_CHECKS[check] for check in stage.checks)),
                "approval": words("by a person" if stage.approval else "by the schedule"),
                "note": words("; ".join(notes)),
            }
        )
        offset += stage.dwell_days
    return rows


def _because(entry: RampEntry) -> str:
    return f" ({'; '.join(entry.reasons)})" if entry.reasons else ""


def draw_ramp(figure: Figure, width: int) -> str:
    """One bar a stage: where it may stand at the earliest, and, filled, where it stood."""
    rows = figure.table.rows
    drawn: list[Row] = []
    spans: list[tuple[float, float]] = []
    last = ""
    for place, row in enumerate(rows):
        phase = row["phase"].text if "phase" in row else ""
        start = float(row["earliest"].value or 0)
        following = rows[place + 1] if place + 1 < len(rows) else None
        goes_on = following is not None and ("phase" not in row or following["phase"].text == phase)
        end = float(following["earliest"].value or 0) if following is not None and goes_on else start
        spans.append(
            (start, end if goes_on else max(start + float(row["dwell"].value or 0), start + _OPEN_DAYS))
        )
        reached = row["reached"].text if "reached" in row and row["reached"].value is not None else ""
        said = f"reached {reached}" if reached else f"from {row['earliest'].text}"
        who = ", a person lets it in" if row["approval"].text == "by a person" and not reached else ""
        drawn.append(
            Row(
                f"{row['traffic'].text} of traffic",
                said + who,
                start,
                None,
                None,
                "accent",
                group=phase if phase != last else "",
            )
        )
        last = phase
    reaches = [
        float(row["reached"].value or 0)
        for row in rows
        if "reached" in row and row["reached"].value is not None
    ]
    high = max([end for _, end in spans] + [value + 1 for value in reaches])
    low = min([0.0, *reaches])
    drawing, frame = rows_frame(figure, drawn, (low, high), width, 10.0)
    for tick in value_axis(drawing, frame.scale, frame.bottom, lambda v, d: f"day {v:.0f}", "number"):
        for y1, y2 in strips(frame):
            drawing.line(frame.scale(tick), y1, frame.scale(tick), y2, "rule")
    for position, (one, (start, end)) in enumerate(zip(drawn, spans, strict=True)):
        y = row_text(drawing, frame, one, position)
        x = frame.scale(start)
        drawing.box(x, y - 8, max(frame.scale(end) - x, 3), 16, "accent-soft")
        drawing.outline(x, y - 8, max(frame.scale(end) - x, 3), 16, "accent")
        cells = rows[position]
        if "reached" in cells and cells["reached"].value is not None:
            at = frame.scale(float(cells["reached"].value))
            drawing.diamond(at, y, "good", 6)
    return drawing.svg()
