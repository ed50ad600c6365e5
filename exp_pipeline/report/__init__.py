"""Facts in, words and pictures out: the memo as HTML, Markdown and JSON, its plots, and the index."""

from __future__ import annotations

from exp_pipeline.report.index import IndexEntry, index_entry, index_html
from exp_pipeline.report.markdown import memo_markdown, summary_markdown
from exp_pipeline.report.memo import Memo, memo_json, memo_schema, render_memo
from exp_pipeline.report.pages import memo_html

__all__ = [
    "IndexEntry",
    "Memo",
    "index_entry",
    "index_html",
    "memo_html",
    "memo_json",
    "memo_markdown",
    "memo_schema",
    "render_memo",
    "summary_markdown",
]
