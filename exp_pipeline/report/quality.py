"""The daily page of data quality: every rule on one day, worst first, as HTML and Markdown; the index."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date

from markupsafe import Markup

from exp_pipeline.model.base import Noun
from exp_pipeline.model.quality import Carrier, QualityFinding, QualityLine, QualityPage, QualityPoint
from exp_pipeline.model.quality_rules import QUALITY_RULES, QualityRuleName, Unit
from exp_pipeline.model.readout import Verdict
from exp_pipeline.report import numbers
from exp_pipeline.report.document import Text, Tone
from exp_pipeline.report.markdown import escaped, inline
from exp_pipeline.report.pages import render
from exp_pipeline.report.svg import Drawing, Scale, domain

LABELS: dict[Verdict, tuple[str, Tone]] = {
    "fail": ("Fail", "bad"),
    "warn": ("Warning", "warn"),
    "pass": ("Pass", "good"),
    "cannot_tell": ("Not judged", "calm"),
}
# How a number of rules with a verdict reads, for one and for more.
_TALLY = {
    "Fail": ("fails", "fail"),
    "Warning": ("warning", "warnings"),
    "Pass": ("passes", "pass"),
    "Not judged": ("not judged", "not judged"),
}
WIDE, NARROW, SMALL = (800.0, 120.0), (310.0, 110.0), (150.0, 34.0)
NO_NUMBER = "\N{EN DASH}"


class GroupView(Noun):
    """One group of rows that was judged, as a line of a table."""

    group: Text
    number: Text
    part: Text
    rows: Text
    usual: Text
    label: Text
    tone: Tone


class RuleView(Noun):
    """One rule on the page, in words."""

    name: QualityRuleName
    title: Text
    question: Text
    label: Text
    tone: Tone
    day: date
    number: Text
    line: Text
    since: Text
    evidence: Text
    owner: Text
    first_look: Text
    runbook: Text
    runbook_href: str
    waits: bool
    groups: tuple[GroupView, ...]
    has_usual: bool


class DayView(Noun):
    """The page in words, from which its forms are printed."""

    day: date
    title: Text
    tone: Tone
    summary: Text
    counts: tuple[tuple[Text, Tone, int], ...]
    failing: tuple[RuleView, ...]
    passing: tuple[RuleView, ...]
    unjudged: tuple[RuleView, ...]


def quality_html(page: QualityPage, *, index: str = "index.html") -> str:
    """One day's page, standing alone: no script, no network. `index` is the address of the list of days."""
    view = day_view(page)
    lines = {line.finding.rule: line for line in page.lines}
    return render(
        "quality.html.j2",
        view=view,
        wide={one.name: Markup(history_plot(lines[one.name], *WIDE)) for one in view.failing},
        narrow={one.name: Markup(history_plot(lines[one.name], *NARROW)) for one in view.failing},
        small={one.name: Markup(history_plot(lines[one.name], *SMALL)) for one in view.passing},
        index=index,
        history_days=page.history_days,
    )


def quality_markdown(page: QualityPage) -> str:
    """One day's page as Markdown, with the same words and numbers."""
    view = day_view(page)
    out = [f"# {escaped(view.title)}", escaped(view.summary)]
    for one in view.failing:
        out.append(f"## {one.label}: {escaped(one.title)}")
        facts = [
            f"{escaped(one.evidence)}.",
            f"Number: {inline(one.number)}, line: {inline(one.line)}, {inline(one.since)}",
            f"First look: {inline(one.first_look)}",
            f"Runbook: `{one.runbook}`, owner: {inline(one.owner)}",
        ]
        out.append("\n".join(f"- {fact}" for fact in facts))
        if one.groups:
            out.append(_groups_table(one))
    if view.passing:
        out.append("## Pass")
        rows = [
            f"| {inline(one.title)} | {inline(one.number)} | {inline(one.line)} | {inline(one.evidence)} |"
            for one in view.passing
        ]
        out.append(
            "\n".join(["| Rule | Number | Line | What was seen |", "| --- | ---: | ---: | --- |", *rows])
        )
    if view.unjudged:
        out.append("## Not judged")
        out.append("\n".join(f"- {inline(one.title)}: {inline(one.evidence)}" for one in view.unjudged))
    return "\n\n".join(out) + "\n"


def quality_index_html(newest: QualityPage, written: Collection[date]) -> str:
    """The history of the newest day at a glance: a row a rule, a square a day.

    A square leads to its day's page where `written` names the day.
    """
    days = sorted({point.day for line in newest.lines for point in line.history})
    order = list(QUALITY_RULES)
    rows = []
    for line in sorted(newest.lines, key=lambda one: order.index(one.finding.rule)):
        by_day = {point.day: point for point in line.history}
        cells = []
        for day in days:
            point = by_day.get(day)
            label, tone = LABELS["cannot_tell" if point is None else point.verdict]
            cells.append(
                {
                    "href": f"{day}.html" if day in written else "",
                    "day": day,
                    "label": label,
                    "tone": tone,
                    "number": in_unit(None if point is None else point.value, line.finding.unit),
                }
            )
        plot = Markup(history_plot(line, *SMALL))
        rows.append({"view": rule_view(line, newest), "cells": cells, "plot": plot})
    return render("quality_index.html.j2", days=days, rows=rows, newest=day_view(newest))


def day_view(page: QualityPage) -> DayView:
    """The page in words."""
    views = [rule_view(line, page) for line in page.lines]
    tally = {label: sum(one.label == label for one in views) for label, _ in LABELS.values()}
    counts = tuple((_TALLY[label][tally[label] != 1], tone, tally[label]) for label, tone in LABELS.values())
    failing = tuple(one for one in views if one.tone in ("bad", "warn"))
    if failing:
        worst = failing[0]
        summary = f"Worst: {worst.title.lower()}. {worst.evidence}."
    elif all(one.tone == "calm" for one in views):
        summary = "No rule could be judged; the reasons stand below."
    else:
        summary = "Every rule that could be judged passes."
    return DayView(
        day=page.day,
        title=f"Data quality on {page.day:%A}, {page.day.day} {page.day:%B %Y}",
        tone=failing[0].tone if failing else "calm" if summary.startswith("No") else "good",
        summary=summary,
        counts=counts,
        failing=failing,
        passing=tuple(one for one in views if one.tone == "good"),
        unjudged=tuple(one for one in views if one.tone == "calm"),
    )


def rule_view(line: QualityLine, page: QualityPage) -> RuleView:
    """One rule in words."""
    found = line.finding
    rule = QUALITY_RULES[found.rule]
    label, tone = LABELS[found.verdict]
    return RuleView(
        name=found.rule,
        title=rule.title,
        question=rule.question,
        label=label,
        tone=tone,
        day=found.day,
        number=in_unit(found.value, found.unit),
        line=_line_of(found),
        since=_since(line, page),
        evidence=found.evidence,
        owner=found.owner,
        first_look=rule.first_look,
        runbook=rule.runbook,
        runbook_href=page.runbooks_at + rule.runbook.removeprefix("docs/runbooks/")
        if page.runbooks_at
        else "",
        waits=found.day != page.day,
        groups=tuple(_group(one, found.unit) for one in _shown(found)) if tone in ("bad", "warn") else (),
        has_usual=any(one.usual is not None for one in found.carriers),
    )


def _shown(found: QualityFinding) -> list[Carrier]:
    """The groups that fail, the whole, and two that do not, to compare with."""
    failing = [one for one in found.carriers if one.verdict in ("warn", "fail")]
    others = [one for one in found.carriers if one.verdict not in ("warn", "fail")]
    others.sort(key=lambda one: one.group != "all")
    return [*failing, *others[:2]]


def in_unit(value: float | None, unit: Unit) -> str:
    """A rule's number in words ("0.42 %", "3 values", "12 days"), a dash where there is none."""
    if value is None:
        return NO_NUMBER
    if unit == "share":
        return numbers.percent(value, 2 if abs(value) < 0.01 and value else 1)
    word = {"values": "value", "days": "day"}[unit]
    return f"{numbers.count(round(value))} {word}{'' if round(value) == 1 else 's'}"


def _line_of(found: QualityFinding) -> str:
    if found.threshold is None:
        return NO_NUMBER
    least = QUALITY_RULES[found.rule].bad == "below"
    most = "below" if found.unit == "values" else "at most"
    return f"{'at least' if least else most} {in_unit(found.threshold, found.unit)}"


def _since(line: QualityLine, page: QualityPage) -> str:
    if line.since is None:
        return ""
    days = (line.finding.day - line.since).days + 1
    if line.since == min(point.day for point in line.history) and days >= page.history_days:
        return f"since {line.since} or longer"
    return f"since {line.since} ({'first day' if days == 1 else f'{days} days'})"


def _group(one: Carrier, unit: Unit) -> GroupView:
    label, tone = LABELS[one.verdict]
    return GroupView(
        group="all" if one.group == "all" else one.group,
        number=in_unit(one.value, "share" if unit == "values" else unit),
        part=numbers.count(round(one.part)),
        rows=numbers.count(round(one.rows)),
        usual=NO_NUMBER if one.usual is None else numbers.plain(one.usual),
        label=label,
        tone=tone,
    )


def _groups_table(view: RuleView) -> str:
    lines = ["| Group | Number | Of rows | Verdict |", "| --- | ---: | ---: | --- |"]
    lines += [
        f"| {inline(one.group)} | {inline(one.number)} | {one.rows} | {one.label} |" for one in view.groups
    ]
    return "\n".join(lines)


def history_plot(line: QualityLine, width: float, height: float) -> str:
    """A rule's number over the days: a line, its limit dashed, days that warn or fail marked."""
    unit = line.finding.unit
    told = [point for point in line.history if point.value is not None]
    if not told:
        return ""
    title = f"{QUALITY_RULES[line.finding.rule].title}, {told[0].day} to {told[-1].day}"
    bad = sum(point.verdict in ("warn", "fail") for point in told)
    description = f"{len(told)} days; {bad} of them warn or fail; newest {in_unit(told[-1].value, unit)}."
    drawing = Drawing(f"h{int(width)}-{line.finding.rule}", width, height, title, description)
    labelled = height > 60
    left, right = (58.0, width - 10) if labelled else (5.0, width - 6)
    top, bottom = (10.0, height - 24) if labelled else (5.0, height - 5)
    limits = [point.threshold for point in told]
    low, high = domain([*(point.value for point in told), *limits], 0.12)
    low = max(low, 0.0) if unit == "share" else low
    across = Scale(
        float(line.history[0].day.toordinal()), float(line.history[-1].day.toordinal() + 1e-9), left, right
    )
    up = Scale(low, high, bottom, top)
    last_limit = _plotted_limit(told)
    if last_limit is not None:
        drawing.line(left, up(last_limit), right, up(last_limit), "muted", 1, "4 3")
        if labelled:
            drawing.text(left - 8, up(last_limit) + 4, in_unit(last_limit, unit), "muted", 12, "end")
    for run in _runs(told):
        drawing.path([(across(p.day.toordinal()), up(p.value or 0.0)) for p in run], "accent", 1.6)
    for point in told:
        if point.verdict in ("warn", "fail") or point is told[-1]:
            tone = LABELS[point.verdict][1]
            drawing.dot(across(point.day.toordinal()), up(point.value or 0.0), tone, 3.4 if labelled else 2.4)
    if labelled:
        drawing.text(left, height - 6, f"{line.history[0].day.day} {line.history[0].day:%b}", "muted", 12)
        drawing.text(
            right, height - 6, f"{line.history[-1].day.day} {line.history[-1].day:%b}", "muted", 12, "end"
        )
    return drawing.svg()


def _plotted_limit(told: Sequence[QualityPoint]) -> float | None:
    """The line that a warning is given at: a day that fails was held against the further one."""
    near = [point.threshold for point in told if point.verdict != "fail"]
    return near[-1] if near else told[-1].threshold


def _runs(points: Sequence[QualityPoint]) -> list[list[QualityPoint]]:
    """Points of days that follow one another; a gap stays a gap."""
    runs: list[list[QualityPoint]] = []
    for point in points:
        if runs and (point.day - runs[-1][-1].day).days == 1:
            runs[-1].append(point)
        else:
            runs.append([point])
    return runs
