"""Findings of many days as the page of one: which are worst, since when, and how the numbers went before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from exp_pipeline.model.quality import QualityFinding, QualityLine, QualityPage, QualityPoint
from exp_pipeline.model.quality_rules import QUALITY_RULES, QualityRuleName
from exp_pipeline.model.readout import Verdict

HISTORY_DAYS = 28
_RANK: dict[Verdict, int] = {"fail": 0, "warn": 1, "pass": 2, "cannot_tell": 3}
_PLACE = {name: place for place, name in enumerate(QUALITY_RULES)}


def quality_page(day: date, findings: Sequence[QualityFinding], *, runbooks_at: str = "") -> QualityPage:
    """What does the page of a day say, given the findings of that day and of days before?

    Findings of later days, or older than 28 days, are left out. Raises ValueError where the day itself has
    none.
    """
    first = day - timedelta(days=HISTORY_DAYS - 1)
    by_rule: dict[QualityRuleName, dict[date, QualityFinding]] = {}
    for one in findings:
        if first <= one.day <= day:
            by_rule.setdefault(one.rule, {})[one.day] = one
    lines = [_line(day, days) for days in by_rule.values() if day in days]
    if not lines:
        raise ValueError(f"no data-quality rule was judged on {day}")
    lines.sort(key=lambda line: (_RANK[line.finding.verdict], -past_line(line), _PLACE[line.finding.rule]))
    return QualityPage(day=day, lines=tuple(lines), history_days=HISTORY_DAYS, runbooks_at=runbooks_at)


def past_line(line: QualityLine) -> float:
    """How far is a failing number past its line, as a share of the line? 0 where nothing fails."""
    value, threshold = line.finding.value, line.finding.threshold
    if line.finding.verdict not in ("warn", "fail") or value is None or threshold is None:
        return 0.0
    return abs(value - threshold) / max(abs(threshold), 1e-9)


def _line(day: date, days: dict[date, QualityFinding]) -> QualityLine:
    ordered = [days[one] for one in sorted(days)]
    standing = days[day]
    if standing.reason == "too_early":
        told = [one for one in ordered if one.verdict != "cannot_tell"]
        standing = told[-1] if told else standing
    points = tuple(
        QualityPoint(day=one.day, verdict=one.verdict, value=one.value, threshold=one.threshold)
        for one in ordered
    )
    return QualityLine(finding=standing, history=points, since=_since(standing, ordered))


def _since(standing: QualityFinding, ordered: Sequence[QualityFinding]) -> date | None:
    since = None
    for one in reversed([one for one in ordered if one.day <= standing.day]):
        if one.verdict == "pass":
            break
        if one.verdict in ("warn", "fail"):
            since = one.day
    return since if standing.verdict in ("warn", "fail") else None
