"""The plots over groups and metrics: the split of units by platform, and gains against costs."""

from __future__ import annotations

import math

from exp_pipeline.model.readout import Readout
from exp_pipeline.report import numbers
from exp_pipeline.report.document import Figure
from exp_pipeline.report.rowplots import (
    STACK_BELOW,
    Row,
    interval_mark,
    row_text,
    rows_frame,
    upright,
    value_axis,
)
from exp_pipeline.report.svg import SMALL, Drawing, domain, fit, width_of

ARM_ROLES = ("calm", "accent", "warn", "good", "bad")
# Within so many standard deviations of the plan a split is as chance would make it.
_USUAL = 1.96


def draw_sample_ratio_groups(readout: Readout, figure: Figure, width: int) -> str:
    """One row a group: each arm's share less its plan, over the range that chance allows."""
    arms = [arm.name for arm in readout.brief.arms]
    shares = readout.brief.shares()
    alpha = readout.brief.srm_alpha
    rows: list[Row] = []
    strays: list[list[float]] = []
    usual: list[float] = []
    last = ""
    for cells in figure.table.rows:
        counts = [cells[f"arm_{place}"].value for place in range(len(arms))]
        known = [float(count) for count in counts if count is not None]
        if len(known) < len(arms) or sum(known) <= 0:
            continue
        total = sum(known)
        strays.append([count / total - shares[arm] for count, arm in zip(known, arms, strict=True)])
        usual.append(_USUAL * max(math.sqrt(shares[arm] * (1 - shares[arm]) / total) for arm in arms))
        p = cells["p_adjusted"].value if "p_adjusted" in cells else None
        bad = p is not None and p < alpha
        said = f"p {numbers.p_value(p)}" if p is not None else "not tested"
        column = cells["column"].text.replace("_", " ")
        rows.append(
            Row(
                cells["value"].text,
                f"{said}{': does not fit' if bad else ''}",
                0.0,
                None,
                None,
                "bad" if bad else "calm",
                group=column if column != last else "",
            )
        )
        last = column
    if not rows:
        return ""
    span = domain([0.0, *(s for group in strays for s in group), *usual, *(-u for u in usual)])
    drawing, frame = rows_frame(figure, rows, span, width, 62.0 if width < STACK_BELOW else 44.0)
    _legend(drawing, arms)
    value_axis(drawing, frame.scale, frame.bottom, lambda v, d: numbers.change(v, "share", d), "share")
    upright(drawing, frame, 0.0, "muted")
    for position, row in enumerate(rows):
        y = row_text(drawing, frame, row, position)
        left, right = frame.scale(-usual[position]), frame.scale(usual[position])
        drawing.box(left, y - 8, right - left, 16, "bad-soft" if row.role == "bad" else "sunken")
        for place, stray in enumerate(strays[position]):
            mark(drawing, frame.scale(stray), y, place)
    return drawing.svg()


def mark(drawing: Drawing, x: float, y: float, place: int) -> None:
    """The mark of an arm: another shape for each, so that nobody needs its colour."""
    role = ARM_ROLES[place % len(ARM_ROLES)]
    shape = place % 4
    if shape == 0:
        drawing.dot(x, y, role, 4.5, hollow=True)
    elif shape == 1:
        drawing.dot(x, y, role, 4.5)
    elif shape == 2:
        drawing.diamond(x, y, role, 6)
    else:
        drawing.cross(x, y, role)


def _legend(drawing: Drawing, arms: list[str]) -> None:
    x = 6.0
    for place, arm in enumerate(arms):
        name = fit(arm, drawing.width * 0.28, SMALL)
        mark(drawing, x, 10, place)
        drawing.text(x + 11, 14, name, "ink", SMALL)
        x += 30 + width_of(name, SMALL)
    said = "as chance makes it"
    below = x + 24 + width_of(said, SMALL) > drawing.width
    x, y = (0.0, 22.0) if below else (x, 4.0)
    drawing.box(x, y, 18, 12, "sunken")
    drawing.text(x + 24, y + 10, said, "ink", SMALL)


def draw_tradeoffs(figure: Figure, width: int) -> str:
    """One row a metric: its relative change, turned so that better lies on the right."""
    rows: list[Row] = []
    arms = list(dict.fromkeys(cells["arm"].text for cells in figure.table.rows))
    for arm in arms:
        first = len(arms) > 1
        for cells in figure.table.rows:
            value = cells["relative"].value if "relative" in cells else None
            if cells["arm"].text != arm or value is None:
                continue
            way = 1.0 if cells["wanted"].text == "more" else -1.0
            bounds = cells.get("relative_interval")
            ends = [way * end for end in (bounds.lower, bounds.upper) if end is not None] if bounds else []
            ends.sort()
            role = {"Gain": "good", "Cost": "bad"}.get(cells["reads"].text, "accent")
            rows.append(
                Row(
                    cells["metric"].text,
                    f"{cells['relative'].text}: {cells['reads'].text.lower()}",
                    way * value,
                    ends[0] if len(ends) == 2 else None,
                    ends[1] if len(ends) == 2 else None,
                    role,
                    group=arm if first else "",
                )
            )
            first = False
    if not rows:
        return ""
    reach = [v for row in rows for v in (row.value, row.lower, row.upper) if v is not None]
    # One wild metric must not flatten the others: axes end at 100 % either way.
    span = domain([0.0, *(min(max(v, -1.0), 1.0) for v in reach)])
    drawing, frame = rows_frame(figure, rows, span, width, 24.0)
    value_axis(
        drawing, frame.scale, frame.bottom, lambda v, d: numbers.relative(abs(v), 0).lstrip("+"), "share"
    )
    upright(drawing, frame, 0.0, "muted")
    stacked = width < STACK_BELOW
    worse, better = ("worse", "better") if stacked else ("worse than control", "better than control")
    drawing.text(frame.scale.start, frame.top - 12, f"\N{LEFTWARDS ARROW} {worse}", "muted", SMALL)
    drawing.text(frame.scale.end, frame.top - 12, f"{better} \N{RIGHTWARDS ARROW}", "muted", SMALL, "end")
    for position, row in enumerate(rows):
        interval_mark(drawing, frame.scale, row, row_text(drawing, frame, row, position))
    return drawing.svg()
