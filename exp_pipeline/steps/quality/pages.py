"""The pages of data quality: read back from the table of findings, written for people beside the readouts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from exp_pipeline.analysis.quality.history import HISTORY_DAYS, quality_page
from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.quality import QualityFinding, QualityPage
from exp_pipeline.model.quality_rules import QUALITY_RULES
from exp_pipeline.report.quality import quality_html, quality_index_html, quality_markdown
from exp_pipeline.steps.context import DAY, Window, Workbench, day_of, event_day
from exp_pipeline.store.files import write_text

FOLDER = "quality"


@dataclass(frozen=True, slots=True)
class PageFiles:
    """Where the pages of one day lie, and what they say."""

    page: QualityPage
    html: Path
    markdown: Path


def findings_between(bench: Workbench, first: date, last: date) -> list[QualityFinding]:
    """The findings that the lake holds of some days, both ends included, by day and rule."""
    bench.read_days("quality_so_far", "data_quality", Window.of(first, last))
    frame = bench.engine.frame("select * from quality_so_far order by event_date, rule, subject")
    return [
        QualityFinding(
            day=row["event_date"],
            rule=row["rule"],
            subject=row["subject"],
            value=row["value"],
            threshold=row["threshold"],
            unit=row["unit"],
            rows=row["n_rows"] or 0,
            verdict=row["verdict"],
            reason=row["reason"],
            owner=row["owner"],
            opens=row["opens"],
            evidence=row["evidence"],
            carriers=json.loads(row["carriers"] or "[]"),
        )
        for row in frame.iter_rows(named=True)
        # A day judged by an older version may hold a rule that is gone.
        if row["rule"] in QUALITY_RULES and row["unit"] is not None
    ]


def newest_judged_day(bench: Workbench) -> date:
    """The newest day that has findings. Raises ExpError where none has."""
    days = bench.lake.partitions("data_quality")
    if not days:
        raise ExpError("no day has been judged yet: materialize `data_quality` (`exp run`)")
    return day_of(days[-1])


def page_of(bench: Workbench, day: date) -> QualityPage:
    """The page of one day. Raises ExpError where the day was not judged."""
    if bench.lake.manifest("data_quality", event_day(day)) is None:
        raise ExpError(
            f"{day} was not judged: it has no events, or `data_quality` was not materialized for it "
            f"(`exp run --from {day} --to {day}`)"
        )
    found = findings_between(bench, day - DAY * (HISTORY_DAYS - 1), day)
    return quality_page(day, found, runbooks_at=bench.catalog.policies.quality.runbooks_at)


def newest_page(bench: Workbench, window: Window) -> QualityPage | None:
    """The page of the newest judged day of a window; None where no day of it was judged."""
    judged = [day for day in window.days() if bench.lake.manifest("data_quality", event_day(day)) is not None]
    return page_of(bench, judged[-1]) if judged else None


def write_pages(bench: Workbench, window: Window) -> list[PageFiles]:
    """Write the pages of the window's days and of later days whose history holds them, then the index.

    Gives the pages of the window's days, oldest first.
    """
    judged = [day_of(name) for name in bench.lake.partitions("data_quality")]
    if not judged:
        return []
    last = min(judged[-1], window.end + timedelta(days=HISTORY_DAYS - 2))
    touched = [day for day in judged if window.first <= day <= last]
    oldest = min([window.first, judged[-1]]) - DAY * (HISTORY_DAYS - 1)
    found = findings_between(bench, oldest, judged[-1])
    runbooks_at = bench.catalog.policies.quality.runbooks_at
    folder = bench.home.readouts / FOLDER
    written = []
    for day in touched:
        page = quality_page(day, found, runbooks_at=runbooks_at)
        files = PageFiles(page, folder / f"{day}.html", folder / f"{day}.md")
        write_text(files.html, quality_html(page))
        write_text(files.markdown, quality_markdown(page))
        if day < window.end:
            written.append(files)
    newest = quality_page(judged[-1], found, runbooks_at=runbooks_at)
    there = frozenset(day for day in judged if (folder / f"{day}.html").is_file())
    write_text(folder / "index.html", quality_index_html(newest, there))
    return written
