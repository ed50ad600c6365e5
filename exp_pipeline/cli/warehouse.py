"""`warehouse`: builds the file for analysts and BI tools, or writes the page about it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exp_pipeline.cli.runs import open_bench
from exp_pipeline.cli.terminal import AsJson, HomeDir, home_of, print_json, say


def warehouse(
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", metavar="FILE", help="Write the page of its views and columns instead."),
    ] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Build the warehouse file now: after the data folder was moved, or without a run."""
    import duckdb

    from exp_pipeline.steps.warehouse import build_warehouse
    from exp_pipeline.steps.warehouse.page import warehouse_page

    place = home_of(home)
    with open_bench(place) as bench:
        if markdown is not None:
            markdown.write_text(warehouse_page(bench), encoding="utf-8")
            found: dict[str, object] = {"page": str(markdown)}
        else:
            written = build_warehouse(bench, duckdb.connect)
            found = {"warehouse": str(place.warehouse), "bytes": written.bytes, **written.facts}
    if as_json:
        print_json(found)
    elif markdown is not None:
        say(f"Wrote {markdown}")
    else:
        say(f"{place.warehouse}: {'built' if found['changed'] else 'as it was'}, {found['bytes']:,} bytes")
