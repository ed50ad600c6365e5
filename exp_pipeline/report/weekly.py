"""The weekly review as a page: how the product moved, what was changed, what broke, what was decided."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from exp_pipeline.model.base import Noun
from exp_pipeline.model.weekly import WeekIncident, WeekMetric, WeekReview
from exp_pipeline.report import numbers
from exp_pipeline.report.document import Text, Tone
from exp_pipeline.report.holdout import holdout_facts, holdout_line
from exp_pipeline.report.overview.listing import PAGES, PageName
from exp_pipeline.report.pages import render
from exp_pipeline.report.wording import OUTCOMES, listed

_KINDS = {"north-star": "North star", "output": "Outputs", "input": "Inputs", "guardrail": "Guardrails"}
_BESIDE: tuple[PageName, ...] = ("index", "decisions", "reviews", "weekly")


class MetricLine(Noun):
    """One metric as it is read. `tone` says whether a move is to the better; quiet where nothing moved."""

    title: Text
    drives: Text
    value: Text
    before: Text
    change: Text
    interval: Text
    units: Text
    label: Text
    tone: Tone
    reason: Text


def metric_line(row: WeekMetric) -> MetricLine:
    """How does the line of one metric read?"""
    width = None if row.ci_lower is None or row.ci_upper is None else row.ci_upper - row.ci_lower
    decimals = numbers.decimals_for(row.display, width, row.value, row.before)
    tone: Tone = "calm"
    label = "no clear change"
    if row.moved:
        label, tone = ("better", "good") if row.good else ("worse", "bad")
    elif row.change is None:
        label = "not compared"
    told = row.value is not None
    return MetricLine(
        title=row.title,
        drives=f"drives {row.drives}" if row.drives else "",
        value=numbers.level(row.value, row.display, decimals) if told else "",
        before=numbers.level(row.before, row.display, decimals) if row.before is not None else "",
        change=numbers.change(row.change, row.display, decimals) if row.change is not None else "",
        interval=numbers.interval(row.ci_lower, row.ci_upper, row.display, decimals)
        if row.ci_lower is not None
        else "",
        units=numbers.count(row.units) if told else "",
        label=label,
        tone=tone,
        reason=row.reason,
    )


def weekly_html(review: WeekReview, weeks: Sequence[str] = (), *, root: str = "", below: str = "") -> str:
    """The page of a week.

    weeks: those that have a page, newest first. root: the way from this page to the folder of all pages;
    below: from it to the folder of the weeks. Raises nothing of its own: a week without anything is a page.
    """
    groups = [
        (title, [metric_line(row) for row in review.metrics if row.kind == kind and row.value is not None])
        for kind, title in _KINDS.items()
    ]
    moved = review.moved()
    return render(
        "weekly.html.j2",
        review=review,
        groups=[(title, lines) for title, lines in groups if lines],
        untold=[(row.title, row.reason) for row in review.metrics if row.value is None],
        summary=_summary(review),
        tone=_tone(review),
        holdouts=[
            (one, holdout_facts(one), [holdout_line(row) for row in one.readings]) for one in review.holdouts
        ],
        moved=listed([row.title for row in moved]),
        moved_count=len(moved),
        compared=sum(row.change is not None for row in review.metrics),
        changes=[(_moment(one.at), one.kind, one.what, one.by) for one in review.changes],
        incidents=[(one, _incident(one)) for one in review.incidents],
        decisions=[
            (f"{one.at:%Y-%m-%d}", one.experiment, one.arm or "all", OUTCOMES[one.outcome], one.kind, one.by)
            for one in review.decisions
        ],
        links=[(f"{root}{PAGES[name][0]}", PAGES[name][1], name == "weekly") for name in _BESIDE],
        weeks=[(f"{below}{one}.html", one) for one in weeks if one != review.week],
    )


def _summary(review: WeekReview) -> str:
    better = sum(row.good is True for row in review.moved())
    worse = sum(row.good is False for row in review.moved())
    opened = sum("opened" in one.what for one in review.incidents)
    parts = [
        f"{better} metric{'' if better == 1 else 's'} better, {worse} worse than the week before",
        f"{opened} incident{'' if opened == 1 else 's'} opened",
        f"{len(review.changes)} change{'' if len(review.changes) == 1 else 's'} to ramps and flags",
        f"{len(review.decisions)} entr{'y' if len(review.decisions) == 1 else 'ies'} in the decision log",
    ]
    return "; ".join(parts) + "."


def _tone(review: WeekReview) -> Tone:
    stars = [row for row in review.moved() if row.kind in ("north-star", "guardrail")]
    if any(row.good is False for row in stars):
        return "bad"
    if any(one.severity == "page" and one.what in ("opened", "open") for one in review.incidents):
        return "warn"
    return "good" if any(row.good for row in stars) else "calm"


def _incident(one: WeekIncident) -> str:
    since = f"since {_moment(one.opened_at)}"
    return since if one.resolved_at is None else f"{since}, closed {_moment(one.resolved_at)}"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"
