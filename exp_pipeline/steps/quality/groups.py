"""Counts of a day as the groups that a data-quality rule judges: the whole, by event, by platform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta

import polars as pl

from exp_pipeline.analysis.quality.days import ALL, Group
from exp_pipeline.contracts.deprecations import deprecations
from exp_pipeline.model.quality import QualityPolicy
from exp_pipeline.model.quality_rules import QualityRuleName
from exp_pipeline.steps.quality.counts import DayCounts

# Reasons that are no breach of a contract and have rules of their own.
_CONTRACT = (
    "missing:",
    "not_allowed:",
    "empty:",
    "out_of_range:",
    "rule:",
    "wrong_type:",
    "unknown_event",
    "malformed_version",
    "unsupported_version",
    "past_sunset",
)

_SHOWN_CHARACTERS = 60


def rows_on(frame: pl.DataFrame, day: date) -> pl.DataFrame:
    """The rows of one day."""
    return frame.filter(pl.col("event_date") == day) if frame.width else frame


def shown(value: object) -> str:
    """A value from outside as a short printable text."""
    text = "".join(sign if sign.isprintable() else "?" for sign in str(value))
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def cube(
    frame: pl.DataFrame, part: str, rows: str, by: tuple[str, ...], squared: str | None = None
) -> list[Group]:
    """The whole, then groups by each column, then by all; a column with one value makes no groups.

    `squared` names the column with sums of squares of what `part` adds up; without one each row adds 0 or 1.
    """
    if not frame.height:
        return []
    split = [name for name in by if frame[name].n_unique() > 1]
    levels = [(), *((name,) for name in split), *([tuple(split)] if len(split) > 1 else [])]
    groups = []
    for level in levels:
        sums = [pl.col(part).sum().alias("part"), pl.col(rows).sum().alias("rows")]
        if squared is not None:
            sums.append(pl.col(squared).sum().alias("squares"))
        table = frame.group_by(level).agg(sums).sort(level) if level else frame.select(sums)
        for row in table.iter_rows(named=True):
            name = " · ".join(shown(row[column]) for column in level) or ALL
            squares = None if squared is None else float(row["squares"])
            groups.append(Group(name, float(row["part"]), float(row["rows"]), squares=squares))
    return [group for group in groups if group.rows]


def beside(today: Sequence[Group], past: Sequence[Group]) -> list[Group]:
    """Groups of a day, each with the same group of the past beside it."""
    before = {group.name: group for group in past}
    return [
        replace(
            one,
            usual_part=before[one.name].part,
            usual_rows=before[one.name].rows,
            usual_squares=before[one.name].squares,
        )
        if one.name in before
        else one
        for one in today
    ]


def history(day: date, policy: QualityPolicy) -> list[date]:
    """The same weekday of the weeks before, newest first."""
    return [day - timedelta(weeks=back) for back in range(1, policy.weeks + 1)]


def volume_groups(volumes: pl.DataFrame, day: date, policy: QualityPolicy) -> list[Group]:
    """Numbers of events on the day and on the days before: all, by event, by platform, by both."""
    counted = volumes.filter(~pl.col("event_name").is_in(list(policy.volume_leaves_out)))
    there = set(volumes["event_date"].to_list())
    past = [one for one in history(day, policy) if one in there]
    series: dict[tuple[str, str], dict[date, int]] = {}
    for when, event, platform, rows in counted.filter(pl.col("event_date").is_in([day, *past])).iter_rows():
        for key in ((event, platform), (event, ""), ("", platform), ("", "")):
            days = series.setdefault(key, {})
            days[when] = days.get(when, 0) + rows
    one_platform = len({platform for _, platform in series if platform}) < 2
    groups = []
    for (event, platform), days in sorted(series.items()):
        if one_platform and platform:
            continue
        name = " · ".join(shown(part) for part in (event, platform) if part) or ALL
        # A group counts from the first day that had it: what is new has no past to be compared with.
        first = min(days)
        counts = tuple(days.get(one, 0) for one in past if one >= first)
        groups.append(Group(name, 0.0, float(days.get(day, 0)), past=counts, kind=event))
    return groups


def end_groups(sessions: pl.DataFrame, day: date, policy: QualityPolicy) -> list[Group]:
    """Sessions and those with an explicit end, beside the same weekday of earlier weeks."""
    today = cube(rows_on(sessions, day), "n_explicit", "n_ended", ("platform",))
    there = sessions.filter(pl.col("event_date").is_in(history(day, policy)))
    if there["event_date"].n_unique() < policy.minimum_weeks:
        return today
    return beside(today, cube(there, "n_explicit", "n_ended", ("platform",)))


def with_future(groups: list[Group], refusals: pl.DataFrame) -> list[Group]:
    """The groups, with rows that came from the future added to the whole."""
    future = int(refusals.filter(pl.col("reason") == "from_the_future")["n_rows"].sum())
    return [
        Group(one.name, one.part + future, one.rows + future) if one.name == ALL else one for one in groups
    ]


def empty_field_groups(counts: DayCounts, day: date, policy: QualityPolicy) -> list[Group]:
    """Empty fields by event: those that the policy names, and those for which rows were refused."""
    events = rows_on(counts.events, day)
    refused = rows_on(counts.refusals, day)
    kept = {
        name: rows for name, rows in events.group_by("event_name").agg(pl.col("n_rows").sum()).iter_rows()
    }
    all_refused = dict(refused.group_by("event_name").agg(pl.col("n_rows").sum()).iter_rows())
    missing = refused.filter(pl.col("reason").str.starts_with("missing:"))
    landed = sum(fates.get("landed", 0) for fates in counts.by_source[day].values())
    groups = [Group(ALL, float(missing["n_rows"].sum()), float(landed))]
    for event, fields in sorted(policy.critical.items()):
        for field in fields:
            if event in kept:
                empty = events.filter(pl.col("event_name") == event)[f"empty_{field}"].sum()
                groups.append(Group(f"{field} of {event}", float(empty), float(kept[event])))
    for (event, reason), rows in sorted(_summed(missing, "event_name", "reason").items()):
        if event in kept:
            whole = kept[event] + all_refused.get(event, 0)
            groups.append(Group(f"{reason.removeprefix('missing:')} of {event}", float(rows), float(whole)))
    return groups


def _summed(frame: pl.DataFrame, *by: str) -> dict[tuple[str, ...], int]:
    return {
        tuple(str(value) for value in row[:-1]): row[-1]
        for row in frame.group_by(by).agg(pl.col("n_rows").sum()).iter_rows()
    }


def _kind_of(reason: str) -> QualityRuleName:
    if reason == "too_late":
        return "too_late_rows"
    if reason == "conflicting_duplicate":
        return "conflicting_duplicates"
    return "contract_breaks" if reason.startswith(_CONTRACT) else "unreadable_rows"


def refused_groups(counts: DayCounts, day: date, name: QualityRuleName) -> list[Group]:
    """Refused rows of one kind: of all landed rows, by source, and where the rows tell it, by event.

    An event is named only where the day kept events of that name: a refused row's own word is not trusted.
    """
    refused = rows_on(counts.refusals, day).filter(pl.col("reason") != "from_the_future")
    kinds = [_kind_of(reason) == name for reason in refused["reason"].to_list()]
    mine = refused.filter(pl.Series(kinds, dtype=pl.Boolean))
    by_source = _summed(mine, "source")
    landed = {source: fates.get("landed", 0) for source, fates in counts.by_source[day].items()}
    groups = [Group(ALL, float(mine["n_rows"].sum()), float(sum(landed.values())))]
    if len(landed) > 1:
        groups += [
            Group(f"source {shown(source)}", float(by_source.get((source,), 0)), float(rows))
            for source, rows in sorted(landed.items())
        ]
    if name != "unreadable_rows":
        kept = _summed(rows_on(counts.events, day), "event_name")
        lost = _summed(refused, "event_name")
        for (event,), rows in sorted(kept.items()):
            whole = rows + lost.get((event,), 0)
            own = mine.filter(pl.col("event_name") == event)
            groups.append(Group(event + _top_reason(own), float(own["n_rows"].sum()), float(whole)))
    return [group for group in groups if group.rows]


def _top_reason(refused: pl.DataFrame) -> str:
    reasons = _summed(refused, "reason")
    if len(reasons) < 1 or set(reasons) <= {("too_late",), ("conflicting_duplicate",)}:
        return ""
    top = min(reasons, key=lambda reason: (-reasons[reason], reason))
    return f" ({shown(top[0])})"


def fate_groups(by_source: Mapping[str, Mapping[str, int]], fate: str) -> list[Group]:
    """Rows with a fate among all that landed: the whole, and by source."""
    groups = [
        Group(f"source {shown(source)}", float(fates.get(fate, 0)), float(fates.get("landed", 0)))
        for source, fates in sorted(by_source.items())
    ]
    whole = Group(ALL, sum(one.part for one in groups), sum(one.rows for one in groups))
    return [group for group in [whole, *(groups if len(groups) > 1 else [])] if group.rows]


def deprecated_groups(events: pl.DataFrame) -> list[Group]:
    """What is deprecated and still sent: each with the rows that use it."""
    rows = float(events["n_rows"].sum())
    used = [(one, float(events[f"uses_{place}"].sum())) for place, one in enumerate(deprecations())]
    return [Group(one.label, part, rows) for one, part in used if part]
