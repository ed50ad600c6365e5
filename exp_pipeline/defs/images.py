"""Plots for the Dagster UI, which shows pictures only where they are data addresses in Markdown."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from urllib.parse import quote

import dagster as dg

from exp_pipeline.model.metrics import Display
from exp_pipeline.model.readout import Estimate
from exp_pipeline.report import numbers

# The UI renders Markdown below this length in its place, and longer Markdown behind a link.
INLINE_CHARACTERS = 1000
_LEFT, _WIDTH, _ROW = 240, 320, 24


def svg_image(title: str, svg: str) -> dg.MarkdownMetadataValue:
    """A plot as Markdown, or a sentence where there is nothing to draw."""
    if not svg:
        return dg.MetadataValue.md("Nothing to draw.")
    return dg.MetadataValue.md(f"![{title}](data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})")


def trend(title: str, values: Sequence[tuple[int, float]], limit: float | None) -> dg.MarkdownMetadataValue:
    """Numbers by day (as ordinals) as a line small enough to stand in the page, the limit dashed."""
    heights = [value for _, value in values] + ([limit] if limit is not None else [])
    low, high = min(heights), max(heights)
    first, last = values[0][0], values[-1][0]

    def across(day: int) -> int:
        return round(4 + 292 * (day - first) / ((last - first) or 1))

    def up(value: float) -> int:
        return round(56 - 50 * (value - low) / ((high - low) or 1.0))

    path = "L".join(f"{across(day)} {up(value)}" for day, value in values)
    dashed = f"<path stroke-dasharray='3' d='M4 {up(limit)}H296'/>" if limit is not None else ""
    svg = (
        "<svg xmlns='http://www.w3.org/2000/svg' width='300' height='60' fill='none' stroke='#357'>"
        f"<path d='M{path}'/>{dashed}<path stroke-width='7' stroke-linecap='round' "
        f"d='M{across(last)} {up(values[-1][1])}h0'/></svg>"
    )
    return dg.MetadataValue.md(f"![{title}](data:image/svg+xml,{quote(svg, safe='=:/,+')})")


def glance(estimates: Sequence[Estimate]) -> dg.MarkdownMetadataValue | None:
    """The primary effects as a picture small enough to stand in the page: one interval an arm, zero dashed.

    None where nothing can be drawn: no primary effect is shown, or more arms than fit.
    """
    rows = []
    display: Display = "number"
    for row in estimates:
        if row.role == "primary" and None not in (row.absolute, row.ci_lower, row.ci_upper):
            display = row.display
            rows.append(
                (row.arm, float(row.absolute or 0), float(row.ci_lower or 0), float(row.ci_upper or 0))
            )
    if not rows:
        return None
    low = min(0.0, *(row[2] for row in rows))
    high = max(0.0, *(row[3] for row in rows))
    scale = _WIDTH / ((high - low) or 1.0)

    def across(value: float) -> int:
        return round(_LEFT + (value - low) * scale)

    marks, lines, dots = [], [], []
    for position, (arm, value, lower, upper) in enumerate(rows):
        y = _ROW * position + 14
        spread = numbers.decimals_for(display, upper - lower)
        marks.append(f"<text y='{y + 4}'>{escape(arm[:20])} {numbers.change(value, display, spread)}</text>")
        lines.append(f"M{across(lower)} {y}H{across(upper)}")
        dots.append(f"M{across(value)} {y}h0")
    height = _ROW * len(rows) + 4
    svg = (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_LEFT + _WIDTH + 9}' height='{height + 14}' "
        f"font-family='sans-serif' font-size='13' stroke-linecap='round'>{''.join(marks)}"
        f"<g stroke='#357'><path d='{''.join(lines)}'/><path stroke-width='9' d='{''.join(dots)}'/>"
        f"<path stroke-dasharray='3' d='M{across(0)} 0V{height}'/></g>"
        f"<text x='{across(0) - 4}' y='{height + 11}'>0</text></svg>"
    )
    text = f"![Primary effects](data:image/svg+xml,{quote(svg, safe='=:/,+')})"
    return dg.MetadataValue.md(text) if len(text) < INLINE_CHARACTERS else None
