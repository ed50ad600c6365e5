"""Plots for the Dagster UI, which shows pictures only where they are data addresses in Markdown."""

from __future__ import annotations

from base64 import b64encode

import dagster as dg


def svg_image(title: str, svg: str) -> dg.MarkdownMetadataValue:
    """A plot as Markdown, or a sentence where there is nothing to draw."""
    if not svg:
        return dg.MetadataValue.md("Nothing to draw.")
    return dg.MetadataValue.md(f"![{title}](data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})")
