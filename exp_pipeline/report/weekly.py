"""The weekly review as a page: how the product moved, what was changed, what broke, what was decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from exp_pipeline.model.base import Noun
from exp_pipeline.model.quality_rules import QUALITY_RULES
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


def metric_line(row: WeekMetric, titles: Mapping[str, str] | None = None) -> MetricLine:
    """How does the line of one metric read? titles: of metrics by name, for the one that it drives."""
    width = None if row.ci_lower is None or row.ci_upper is None else row.ci_upper - row.ci_lower
    decimals = numbers.decimals_for(row.display, width, row.value, row.before)
    tone: Tone = "calm"
    label = "no clear change"
    if row.moved:
        label, tone = ("better", "good") if row.good else ("worse", "bad")
    elif row.change is None:
        label = "no change" if row.before is not None and row.before == row.value else "not compared"
    told = row.value is not None
    return MetricLine(
        title=row.title,
        drives=f"drives: {(titles or {}).get(row.drives, row.drives.replace('_', ' '))}"
        if row.drives
        else "",
        value=numbers.level(row.value, row.display, decimals) if told else "",
        before=numbers.level(row.before, row.display, decimals) if row.before is not None else "",
        change=numbers.change(row.change, row.display, decimals) if row.change is not None else "",
        interval=numbers.interval(row.ci_lower, row.ci_upper, row.display, decimals)
        if row.ci_lower is not None
        else "",
        units=numbers.count(row.units) if told else "",
        label=label,
        tone=tone,
        reason="" if label == "no change" else row.reason,
    )


def weekly_html(review: WeekReview, weeks: Sequence[str] = (), *, root: str = "", below: str = "") -> str:
    """The page of a week.

    weeks: those that have a page, newest first. root: the way from this page to the folder of all pages;
    below: from it to the folder of the weeks. Raises nothing of its own: a week without anything is a page.
    """
    titles = {row.metric: row.title for row in review.metrics}
    told = [row for row in review.metrics if row.value is not None]
    groups = [
        (title, [metric_line(row, titles) for row in told if row.kind == kind])
        for kind, title in _KINDS.items()
    ]
    untold: dict[str, list[str]] = {}
    for row in review.metrics:
        if row.value is None:
            untold.setdefault(row.reason.partition(": ")[0], []).append(row.title)
    moved = review.moved()
    named = {one.rule for one in review.quality} | {one.rule for one in review.incidents}
    return render(
        "weekly.html.j2",
        review=review,
        groups=[(title, lines) for title, lines in groups if lines],
        untold=[(reason[:1].upper() + reason[1:], "; ".join(names)) for reason, names in untold.items()],
        untold_count=len(review.metrics) - len(told),
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
        rules={name: _rule(name) for name in sorted(named)},
        decisions=[
            (
                f"{one.at:%Y-%m-%d}",
                one.experiment,
                one.arm or "all arms",
                OUTCOMES[one.outcome],
                one.kind,
                one.by,
            )
            for one in review.decisions
        ],
        links=[(f"{root}{PAGES[name][0]}", PAGES[name][1], name == "weekly") for name in _BESIDE],
        weeks=[(f"{below}{one}.html", one) for one in weeks if one != review.week],
    )


def _summary(review: WeekReview) -> str:
    """The week in two sentences: what moved, then what happened."""
    compared = sum(row.change is not None for row in review.metrics)
    better, worse = ([row.title for row in review.moved() if row.good is good] for good in (True, False))
    moves = [f"{word}: {listed(names)}" for word, names in (("Better", better), ("Worse", worse)) if names]
    first = "; ".join(moves) or (
        "No number moved clearly against the week before" if compared else "No number could be compared"
    )
    opened = sum("opened" in one.what for one in review.incidents)
    counts = (
        (opened, "incident was opened", "incidents were opened"),
        (len(review.changes), "ramp or flag was changed", "ramps and flags were changed"),
        (len(review.decisions), "decision was logged", "decisions were logged"),
    )
    happened = [f"{number} {one if number == 1 else more}" for number, one, more in counts if number]
    second = listed(happened) or "No incident was opened, nothing was changed, nothing was decided"
    return f"{first}. {second}."


def _rule(name: str) -> str:
    """How is a rule called?"""
    for known, rule in QUALITY_RULES.items():
        if known == name:
            return rule.title
    return "Sample ratio" if name == "srm" else name.replace("_", " ").capitalize()


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
