"""Did the arms get their planned shares: assigned, exposed, analysed, and group by group?"""

from __future__ import annotations

from datetime import date

import polars as pl

from exp_pipeline.analysis.daily import daily_sample_ratio
from exp_pipeline.analysis.integrity.causes import ratio_causes
from exp_pipeline.analysis.units import SEGMENT, MetricUnits, Units
from exp_pipeline.analysis.wording import listed, p_in_words
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import IntegrityCheck, SampleRatioDay, Verdict
from exp_pipeline.stats.gates.srm import SampleRatio, sample_ratio
from exp_pipeline.stats.multiplicity import holm

# How many offending groups are named in the evidence; all of them are counted.
_NAMED = 3


def randomised(units: Units, frame: pl.DataFrame) -> pl.DataFrame:
    """Which rows stand for what was randomised: each unit, or each cluster once?

    A cluster found in two arms counts where its first unit was assigned.
    """
    if not units.clustered:
        return frame
    return (
        frame.sort("assigned_at", "unit_id", nulls_last=True)
        .unique(subset="cluster", keep="first", maintain_order=True)
        .sort("cluster")
    )


def counts_by_arm(frame: pl.DataFrame, brief: Brief) -> dict[str, int]:
    """How many rows has each declared arm?"""
    counts = dict(frame.group_by("arm").len().iter_rows())
    return {arm: int(counts.get(arm, 0)) for arm in brief.shares()}


def sample_ratio_days(units: Units, brief: Brief) -> tuple[SampleRatioDay, ...]:
    """Did the arms get their planned shares, seen at the end of each day of assignment?"""
    rows = randomised(units, units.frame).drop_nulls("assigned_date")
    by_day: dict[date, dict[str, int]] = {}
    for day, arm, count in rows.group_by("assigned_date", "arm").len().iter_rows():
        by_day.setdefault(day, {})[arm] = int(count)
    return daily_sample_ratio(by_day, brief.shares())


def sample_ratio_checks(units: Units, primary: MetricUnits, brief: Brief) -> tuple[IntegrityCheck, ...]:
    """Do assigned, exposed and analysed units fit the planned shares, overall and by group?

    Each of the three is judged at the brief's `srm_alpha`; groups (stratum, and every segment frozen at
    assignment) together at the same level, by Holm. Where clusters were randomised, clusters are counted.
    """
    frame = units.frame
    exposed = frame.filter(pl.col("exposed").fill_null(False))
    return (
        _overall(
            "sample_ratio_assigned", "Sample ratio of assigned units", units, frame, brief, units.foreign
        ),
        _overall("sample_ratio_exposed", "Sample ratio of exposed units", units, exposed, brief),
        _overall("sample_ratio_analysed", "Sample ratio of analysed units", units, primary.frame, brief),
        _by_group(units, brief),
    )


def _overall(
    name: str,
    title: str,
    units: Units,
    frame: pl.DataFrame,
    brief: Brief,
    foreign: tuple[tuple[str, int], ...] = (),
) -> IntegrityCheck:
    rows = randomised(units, frame)
    counts = counts_by_arm(rows, brief)
    answer = sample_ratio(counts, brief.shares())
    what = (
        f"randomised {brief.randomisation_unit} units ({len(frame):,} learners)"
        if units.clustered
        else "units"
    )
    numbers: dict[str, float | int | str] = {f"n_{arm}": count for arm, count in counts.items()}
    if answer.p_value is None:
        return IntegrityCheck(
            name=name,
            title=title,
            verdict="cannot_tell",
            evidence=f"Nothing to test: {answer.flags[0]}.",
            numbers=numbers,
        )
    if answer.statistic is not None:
        numbers["statistic"] = answer.statistic
    numbers["p_value"] = answer.p_value
    verdict: Verdict = "fail" if answer.p_value < brief.srm_alpha else "pass"
    evidence = f"{_found(answer)} {what}; {p_in_words(answer.p_value)} against the limit {brief.srm_alpha:g}."
    if foreign:
        verdict = "fail"
        strangers = listed(f"{count:,} in {arm!r}" for arm, count in foreign)
        evidence += f" Units in arms that the brief does not know: {strangers}."
    # The word behind "sample_ratio_": assigned, exposed or analysed.
    logged = f"{name.rpartition('_')[2]} units"
    causes = (
        ratio_causes(rows, brief.shares(), brief.srm_alpha, logged)
        if answer.p_value < brief.srm_alpha
        else ()
    )
    return IntegrityCheck(
        name=name, title=title, verdict=verdict, evidence=evidence, numbers=numbers, causes=causes
    )


def _found(answer: SampleRatio) -> str:
    parts = [
        f"{answer.observed[arm]:,} {arm} (planned {answer.expected[arm]:,.1f})" for arm in answer.observed
    ]
    return listed(parts)


def _by_group(units: Units, brief: Brief) -> IntegrityCheck:
    name, title = "sample_ratio_groups", "Sample ratio by day, stratum and segment"
    found = _groups(randomised(units, units.frame))
    places = {" ".join(place): place for place in found}
    results = {group: sample_ratio(found[place], brief.shares()) for group, place in places.items()}
    corrected = holm(
        {group: result.p_value for group, result in results.items() if result.p_value is not None}
    )
    if not corrected:
        return IntegrityCheck(
            name=name,
            title=title,
            verdict="cannot_tell",
            evidence="There are no days, strata or segments to compare.",
        )
    worst = sorted(corrected, key=lambda group: (corrected[group], group))
    broken = [group for group in worst if corrected[group] < brief.srm_alpha]
    numbers: dict[str, float | int | str] = {
        "groups": len(corrected),
        "broken": len(broken),
        "worst_group": worst[0],
        "worst_p_adjusted": corrected[worst[0]],
    }
    if not broken:
        evidence = (
            f"{len(corrected)} groups fit their planned shares; the worst, {worst[0]}, has "
            f"{p_in_words(corrected[worst[0]])} after Holm."
        )
        return IntegrityCheck(name=name, title=title, verdict="pass", evidence=evidence, numbers=numbers)
    shown = "; ".join(
        f"{group}: {_found(results[group])}, {p_in_words(corrected[group])}"
        f"{_of_the_others(places[group], found, brief)}"
        for group in broken[:_NAMED]
    )
    evidence = (
        f"{len(broken)} of {len(corrected)} groups do not fit their planned shares (after Holm): {shown}."
    )
    causes = ratio_causes(randomised(units, units.frame), brief.shares(), brief.srm_alpha, "assigned units")
    return IntegrityCheck(
        name=name, title=title, verdict="fail", evidence=evidence, numbers=numbers, causes=causes
    )


def _groups(rows: pl.DataFrame) -> dict[tuple[str, str], dict[str, int]]:
    """Counts by arm of every group, by what it is a group of and its name."""
    columns = {"assigned_date": "day", "stratum": "stratum"} | {
        column: column.removeprefix(SEGMENT) for column in sorted(rows.columns) if column.startswith(SEGMENT)
    }
    found: dict[tuple[str, str], dict[str, int]] = {}
    for column, what in columns.items():
        counted = rows.drop_nulls(column).group_by(column, "arm").len().sort(column, "arm")
        for group, arm, count in counted.iter_rows():
            found.setdefault((what, str(group)), {})[arm] = int(count)
    return found


def _of_the_others(place: tuple[str, str], found: dict[tuple[str, str], dict[str, int]], brief: Brief) -> str:
    """Whether the other groups of the same kind, put together, fit: then this one carries the mismatch."""
    rest = dict.fromkeys(brief.shares(), 0)
    for other, counts in found.items():
        if other[0] == place[0] and other != place:
            rest = {arm: count + counts.get(arm, 0) for arm, count in rest.items()}
    p_value = sample_ratio(rest, brief.shares()).p_value
    if p_value is None:
        return ""
    return " (all others fit)" if p_value >= brief.srm_alpha else f" (the others: {p_in_words(p_value)})"
