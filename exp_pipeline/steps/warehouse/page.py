"""The warehouse as a page of documentation: every view and table with its grain and its columns."""

from __future__ import annotations

from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.warehouse.build import shown_of
from exp_pipeline.steps.warehouse.results import ABOUT
from exp_pipeline.store.warehouse import ShownTable, ShownView

_HEAD = """# The warehouse

`data/marts/warehouse.duckdb` is one small DuckDB file for analysts and BI tools: views over the lake's files,
and tables of results. Every view, table and column carries its words in the file too (`comment on`); table
`columns` lists them. The file is built beside the live one and put in its place whole, so nobody waits for a
lock; open it read-only:

```python
import duckdb

with duckdb.connect("data/marts/warehouse.duckdb", read_only=True) as warehouse:
    print(warehouse.sql("select experiment, outcome, summary from experiments"))
```

From Python with blinding and frames: `Workspace().query(...)` ([workspace.md](workspace.md)). The asset
`warehouse` builds it after every run; `exp warehouse` builds it now. This page is written by
`exp warehouse --markdown docs/warehouse.md` from the definitions, of the shipped catalog.
"""


def warehouse_page(bench: Workbench) -> str:
    """The warehouse of this home's catalog in Markdown: what it hides, then every relation and column."""
    content, _ = shown_of(bench)
    parts = [_HEAD]
    parts += [f"**{topic.capitalize()}.** {words}\n" for topic, words in ABOUT.items()]
    parts.append("## Tables of results\n")
    parts += [_relation(table) for table in content.tables]
    parts.append("## Views over the lake\n")
    parts += [_relation(view) for view in content.views]
    return "\n".join(parts)


def _relation(one: ShownView | ShownTable) -> str:
    lines = [
        f"### `{one.name}`\n",
        f"Grain: {one.description}\n",
        "| column | type | meaning |",
        "| --- | --- | --- |",
    ]
    for column in one.columns:
        words = " ".join(column.description.split()).replace("|", "\\|")
        lines.append(f"| `{column.name}` | {column.sql_type} | {words} |")
    return "\n".join([*lines, ""])
