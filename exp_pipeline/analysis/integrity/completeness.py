"""Does each kind of event arrive from every arm, and if not: on which day, platform, version does it lack?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from exp_pipeline.analysis.inputs import ReadoutInputs
from exp_pipeline.analysis.integrity.causes import UNKNOWN, context_of, in_words
from exp_pipeline.analysis.integrity.sample_ratios import counts_by_arm
from exp_pipeline.analysis.units import Units
from exp_pipeline.analysis.wording import listed, p_in_words, share_in_words
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import Cause, IntegrityCheck, Verdict
from exp_pipeline.stats.effects.means import difference_in_proportions
from exp_pipeline.stats.gates.locating import SMALLEST_GROUP, RatioFit, locate
from exp_pipeline.stats.multiplicity import holm
from exp_pipeline.stats.results import Effect

# Without these events a learner's time cannot be seen at all; a gap between arms is a fault in logging.
SKELETON_EVENTS = frozenset(
    {"experiment_exposed", "tutor_session_started", "tutor_turn_submitted", "tutor_turn_response_shown"}
)
# A skeleton event that reaches fewer than half as many units in one arm is missing, not rare.
HALF = 0.5
_PLACES = ("platform", "app_version", "event_date")


@dataclass(frozen=True, slots=True)
class _Drop:
    """A skeleton event that lacks in an arm, and what is said of it."""

    event: str
    arm: str
    said: str


def outcome_events(inputs: ReadoutInputs) -> frozenset[str]:
    """Events of which the primary or a secondary metric is made: their counts by arm tell an effect."""
    names = [
        name
        for metric in (inputs.brief.primary, *inputs.brief.secondary)
        if metric in inputs.metrics
        for name in inputs.metrics[metric].measures()
    ]
    known = [inputs.measures[name] for name in names if name in inputs.measures]
    sessions = {"tutor_session_started"} if any(one.over == "sessions" for one in known) else set()
    return frozenset({event for one in known for event in one.events} | sessions)


def completeness_check(
    completeness: pl.DataFrame | None,
    units: Units,
    brief: Brief,
    days: pl.DataFrame | None = None,
    outcomes: frozenset[str] = frozenset(),
) -> IntegrityCheck:
    """Does each kind of event arrive from as many units in each arm?

    completeness: arm, event_name, events, units. days: arm, event_name, event_date, platform, app_version,
    events. Judged by the share of assigned units that have the event. A skeleton event (exposure, session,
    turn, response) that reaches less than half as many units in one arm fails, and one of which less than
    half as many come on some day, platform or version. Any other difference that chance does not explain is a
    warning, for a change may well make learners do something more or less often; so is a smaller gap in a
    skeleton event. Of `outcomes`, events that an outcome is made of, no count by arm is told.
    """
    name, title = "completeness", "Event completeness by arm"
    if completeness is None or not completeness.height:
        return IntegrityCheck(
            name=name, title=title, verdict="cannot_tell", evidence="No events were counted by arm."
        )
    assigned = counts_by_arm(units.frame, brief)
    seen: dict[str, dict[str, int]] = {}
    events: dict[str, float] = {}
    totals = completeness.group_by("event_name", "arm").agg(pl.col("units", "events").cast(pl.Int64).sum())
    for event, arm, count, rows in totals.sort("event_name", "arm").iter_rows():
        seen.setdefault(event, {})[arm] = count
        events[event] = events.get(event, 0.0) + rows
    limit = brief.srm_alpha / max(1, len(seen) * len(brief.treatments()))
    faults: list[_Drop] = []
    oddities: list[str] = []
    for event, by_arm in seen.items():
        for arm in (treatment.name for treatment in brief.treatments()):
            pair = [
                (min(by_arm.get(side, 0), assigned[side]), assigned[side]) for side in (brief.control, arm)
            ]
            if not pair[0][1] or not pair[1][1]:
                continue
            gap = difference_in_proportions(*pair[0], *pair[1])
            sure = (
                gap.p_value < limit
                if isinstance(gap, Effect)
                else pair[0][0] / pair[0][1] != pair[1][0] / pair[1][1]
            )
            if not sure:
                continue
            shares = [found / whole for found, whole in pair]
            less = brief.control if shares[0] < shares[1] else arm
            p = f" ({p_in_words(gap.p_value)})" if isinstance(gap, Effect) else ""
            missing = event in SKELETON_EVENTS and min(shares) < HALF * max(shares)
            # Shares of other events may come close to an outcome, so only skeleton events show theirs.
            told = event in SKELETON_EVENTS and event not in outcomes
            said = (
                f"{event} came from {share_in_words(*pair[0])} units in {brief.control} and "
                f"{share_in_words(*pair[1])} in {arm}{p}"
                if told
                else f"{event} came from fewer than half as many units in {less}"
                if missing
                else f"{event} is uneven between the arms"
            )
            if missing:
                faults.append(_Drop(event, less, said))
            else:
                oddities.append(said)
    usable = days is not None and bool(days.height) and min(assigned.values()) > 0
    cells = {
        event: _cells(days, event, events[event] / max(1, sum(seen[event].values())), brief)
        for event in sorted(SKELETON_EVENTS & seen.keys())
        if days is not None and usable
    }
    gone = {(drop.event, drop.arm) for drop in faults}
    faults += [drop for drop in _local_drops(cells, assigned, brief) if (drop.event, drop.arm) not in gone]
    verdict: Verdict = "fail" if faults else "warn" if oddities else "pass"
    told_all = "; ".join([*(drop.said for drop in faults), *oddities])
    evidence = (
        f"{told_all}." if told_all else f"{len(seen)} kinds of event came from as many units in each arm."
    )
    numbers: dict[str, float | int | str] = {
        "kinds": len(seen),
        "missing": len(faults),
        "uneven": len(oddities),
    }
    causes = tuple(
        _cause(rank, drop, cells.get(drop.event), assigned, brief, drop.event not in outcomes)
        for rank, drop in enumerate(faults, start=1)
    )
    return IntegrityCheck(
        name=name, title=title, verdict=verdict, evidence=evidence, numbers=numbers, causes=causes
    )


def _cells(days: pl.DataFrame, event: str, events_per_unit: float, brief: Brief) -> pl.DataFrame:
    """Events of one kind by day, platform and version, one column an arm, as if each unit had sent one.

    A unit's events come together, so they are as much evidence as their number divided by a unit's events.
    """
    rows = days.filter(pl.col("event_name") == event).with_columns(
        pl.col("platform", "app_version").fill_null(UNKNOWN)
    )
    weight = max(events_per_unit, 1.0)
    return (
        rows.group_by(_PLACES)
        .agg(
            (pl.col("events").filter(pl.col("arm") == arm).sum().cast(pl.Float64) / weight).alias(
                f"arm {arm}"
            )
            for arm in brief.shares()
        )
        .sort(_PLACES)
    )


def _local_drops(cells: Mapping[str, pl.DataFrame], assigned: Mapping[str, int], brief: Brief) -> list[_Drop]:
    """Skeleton events of which, somewhere, less than half as many come from one arm as from control."""
    p: dict[str, float] = {}
    drops: dict[str, _Drop] = {}
    for event, table in cells.items():
        for column in _PLACES:
            by_value = table.group_by(column).agg(pl.col("^arm .*$").sum()).sort(column)
            for row in by_value.iter_rows(named=True):
                for arm in (treatment.name for treatment in brief.treatments()):
                    pair = {side: row[f"arm {side}"] for side in (brief.control, arm)}
                    if sum(pair.values()) < SMALLEST_GROUP:
                        continue
                    rates = {side: count / assigned[side] for side, count in pair.items()}
                    less = min(rates, key=lambda side: rates[side])
                    if rates[less] >= HALF * max(rates.values()):
                        continue
                    fit = RatioFit(tuple(float(assigned[side]) for side in pair))
                    p_value = fit.others_p_value(np.array(list(pair.values())))
                    label = f"{event} {column} {row[column]} {arm}"
                    p[label] = 1.0 if p_value is None else p_value
                    drops[label] = _Drop(
                        event, less, f"{event} came less than half as often from {less} in some places"
                    )
    corrected = holm(p)
    found: dict[tuple[str, str], _Drop] = {}
    for label in sorted(corrected, key=lambda one: (corrected[one], one)):
        if corrected[label] < brief.srm_alpha:
            found.setdefault((drops[label].event, drops[label].arm), drops[label])
    return list(found.values())


def _cause(
    rank: int,
    drop: _Drop,
    cells: pl.DataFrame | None,
    assigned: Mapping[str, int],
    brief: Brief,
    told: bool,
) -> Cause:
    """Where an event lacks in an arm, and by how much against control (of control: against the others)."""
    where = f"{drop.event} in {drop.arm}"
    action = f"First: compare how {drop.arm} and the others log {drop.event} there."
    if cells is None:
        return Cause(rank=rank, where=where, evidence=f"{drop.said}. {action}")
    against = (
        [arm for arm in brief.shares() if arm != drop.arm] if drop.arm == brief.control else [brief.control]
    )
    mine = cells[f"arm {drop.arm}"].to_numpy()
    theirs = cells.select(pl.sum_horizontal(f"arm {arm}" for arm in against)).to_series().to_numpy()
    planned = (float(assigned[drop.arm]), float(sum(assigned[arm] for arm in against)))
    places = locate(
        np.column_stack([mine, theirs]),
        context_of(cells, ("platform", "app_version")),
        RatioFit(planned),
        fits_above=brief.srm_alpha,
        most=1,
    )
    if not places:
        return Cause(rank=rank, where=f"{where}, everywhere alike", evidence=f"{drop.said}. {action}")
    place = places[0]
    where += ", " + ", ".join(in_words(one) for one in place.conditions)
    expected = place.counts[1] * planned[0] / planned[1]
    lost = 1.0 - place.counts[0] / expected if expected else 0.0
    size = (
        f"{100 * lost:.0f} % fewer {drop.event} there than from {listed(against)}, for as many units"
        if told
        else f"{drop.event} comes less often there than from {listed(against)}, for as many units"
    )
    return Cause(rank=rank, where=where, evidence=f"{size}. {action}", share=round(place.share, 4))
