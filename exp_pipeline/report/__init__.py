"""Facts in, words and pictures out: memos, plots, the note for teachers, and the pages about all of them."""

from __future__ import annotations

from exp_pipeline.report.markdown import memo_markdown, summary_markdown
from exp_pipeline.report.memo import Memo, memo_json, memo_schema, render_memo
from exp_pipeline.report.overview.decision_log import decision_log_html
from exp_pipeline.report.overview.index import IndexEntry, index_entry, index_html
from exp_pipeline.report.overview.review_board import review_board_html
from exp_pipeline.report.pages import memo_html
from exp_pipeline.report.teachers import EducatorNote, educator_note

__all__ = [
    "EducatorNote",
    "IndexEntry",
    "Memo",
    "decision_log_html",
    "educator_note",
    "index_entry",
    "index_html",
    "memo_html",
    "memo_json",
    "memo_markdown",
    "memo_schema",
    "render_memo",
    "review_board_html",
    "summary_markdown",
]
