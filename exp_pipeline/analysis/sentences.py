"""Method, limits and next steps of a readout, said from its facts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from exp_pipeline.analysis.deciding.blinding import Blinding
from exp_pipeline.analysis.effects.methods import Comparison
from exp_pipeline.analysis.effects.stopping import SPENDING, STOPPING_NAMES
from exp_pipeline.analysis.population import left_out_sentence
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.analysis.wording import listed, margin_in_words
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.populations import UnitsLeftOut
from exp_pipeline.model.ramps import Stop
from exp_pipeline.model.readout import (
    Decision,
    Estimate,
    ExclusionCount,
    GuardrailResult,
    IntegrityCheck,
    PowerAchieved,
)


def method_sentences(
    brief: Brief,
    comparisons: Mapping[tuple[str, str], Comparison],
    titles: Mapping[str, str],
    blinding: Blinding,
) -> tuple[str, ...]:
    """How were the numbers made?"""
    by_sentence: dict[str, list[str]] = {}
    for (metric, _), comparison in comparisons.items():
        names = by_sentence.setdefault(comparison.sentence, [])
        if titles[metric] not in names:
            names.append(titles[metric])
    found = [
        "Every assigned unit counts in the arm it was first assigned to, exposed or not (ITT).",
        *(f"{listed(names)}: {sentence[0].lower()}{sentence[1:]}" for sentence, names in by_sentence.items()),
        f"Intervals are {100 * (1 - brief.alpha):g} %; guardrails one-sided at {100 * brief.alpha:g} %.",
    ]
    if len(brief.treatments()) > 1:
        found.append("The primary is corrected for the number of arms (Holm).")
    found += _of_plans(brief, titles)
    if blinding.many_looks and brief.stopping.rule in SPENDING and blinding.planned:
        found.append(
            f"Alpha is spent over the planned looks ({STOPPING_NAMES[brief.stopping.rule]}), so decisions "
            "rest on intervals that hold over all of them."
        )
    elif blinding.many_looks:
        found.append("Effects are looked at more than once, so decisions rest on always-valid intervals.")
    return tuple(found)


def _of_plans(brief: Brief, titles: Mapping[str, str]) -> Iterator[str]:
    """What the brief planned for many metrics, several arms and missing values."""
    named = {metric for family in brief.families for metric in family.metrics}
    for family in brief.families:
        after = family.after
        if after is None and brief.primary not in family.metrics:
            after = "the primary"
        gate = f" only where {after} has succeeded" if after is not None else ""
        metrics = listed(titles[metric] for metric in family.metrics)
        yield f"Family {family.name} ({metrics}) is tested together{gate}."
    if set(brief.secondary) - named:
        correction = "Holm" if brief.multiplicity == "holm" else "Benjamini-Hochberg"
        others = "Other secondary" if named else "Secondary"
        yield f"{others} metrics count only if the primary passes, and are corrected by {correction}."
    if brief.comparisons == "all" and len(brief.treatments()) > 1:
        yield "Treatment arms are compared with each other too, corrected among themselves (Holm)."
    if brief.missing_data == "bounds":
        yield (
            "Where units lack a value the primary is judged by bounds as well: whatever the missing are "
            "(shares), or for units that would have a value in either arm (Lee)."
        )
    elif brief.missing_data == "weights":
        yield "Where units lack a value, those seen stand for those lost who were like them beforehand."


def limits_of(
    brief: Brief,
    *,
    integrity: Sequence[IntegrityCheck],
    primary: MetricUnits,
    estimates: Sequence[Estimate],
    power: PowerAchieved | None,
    exclusions: Sequence[ExclusionCount],
    left_out: tuple[UnitsLeftOut, ...] = (),
    missing: Sequence[str] = (),
    blinding: Blinding,
    stops: Sequence[Stop] = (),
) -> tuple[str, ...]:
    """What can this readout not say?"""
    found = [_stopped(stop) for stop in stops]
    unknown = [check.title for check in integrity if check.verdict == "cannot_tell"]
    if unknown:
        found.append(f"Could not be checked with these data: {listed(unknown)}.")
    found += [f"{check.title}: {check.evidence}" for check in integrity if check.verdict == "warn"]
    kept_out = left_out_sentence(left_out)
    if kept_out is not None:
        found.append(kept_out)
    waiting = sum(primary.waiting.values())
    if waiting:
        found.append(
            f"{waiting:,} units have not had their {primary.metric.window_days or '?'} days and are left out "
            f"of {primary.metric.title}."
        )
    without = sum(primary.without_value.values())
    if without:
        found.append(f"{without:,} units have no value of {primary.metric.title} and are left out of it.")
    found += missing
    failed = sorted(
        {
            f"{row.title} in {row.arm} cannot be estimated: {row.reason}."
            for row in estimates
            if not row.estimable
        }
    )
    found += failed
    if power is not None and power.achieved_mde is not None and power.achieved_mde > power.planned_mde:
        found_size, planned_size = (
            margin_in_words(size, "absolute", primary.metric.display)
            for size in (power.achieved_mde, power.planned_mde)
        )
        found.append(
            f"The data find effects of {found_size} or more with {100 * brief.power:g} % power; "
            f"{planned_size} was planned."
        )
    rows = sum(count.rows for count in exclusions)
    if rows:
        found.append(f"{rows:,} rows did not become events: {_largest(exclusions)}.")
    if blinding.many_looks and not blinding.blinded:
        found.append("Fixed-horizon intervals are shown for reading; repeated looks make them too narrow.")
    if brief.randomisation_unit != brief.analysis_unit:
        found.append(
            f"Whole {brief.randomisation_unit} units were randomised: precision depends on their number."
        )
    return tuple(found)


def _stopped(stop: Stop) -> str:
    what = "paused" if stop.action == "pause" else "rolled back"
    if stop.until is None:
        until = "every unit has had control since then"
    elif stop.until == stop.since:
        until = "every unit had control for part of that day"
    else:
        until = f"every unit had control until {stop.until}"
    return (
        f"The ramp was {what} on {stop.since}: {until}, and days of it in a unit's window shrink the effects."
    )


def _largest(exclusions: Sequence[ExclusionCount]) -> str:
    ordered = sorted(exclusions, key=lambda count: (-count.rows, count.kind, count.reason))
    return listed(f"{count.rows:,} {count.kind} ({count.reason})" for count in ordered[:3])


def next_steps_of(
    brief: Brief,
    decision: Decision,
    *,
    integrity: Sequence[IntegrityCheck],
    guardrails: Sequence[GuardrailResult],
    power: PowerAchieved | None,
    blinding: Blinding,
    units_per_day: float | None,
) -> tuple[str, ...]:
    """What should happen now, and who watches what?"""
    outcome, found = decision.outcome, list[str]()
    if outcome in ("ship", "ship_scoped"):
        places = [
            f"{part.column} {part.value}"
            for choice in decision.arms
            if choice.arm == decision.arm
            for part in choice.segments
        ]
        what = f"{decision.arm} to {listed(places)} only" if places else f"{decision.arm}"
        if brief.rollout:
            stages = " to ".join(f"{100 * stage.traffic:g} %" for stage in brief.rollout)
            found.append(f"Ship {what} by the rollout of the brief: {stages} of all units.")
        else:
            found.append(f"Ship {what} in stages; the brief names none for its rollout.")
        watched = [row.title for row in guardrails if row.arm == decision.arm]
        if watched:
            found.append(f"Watch {listed(watched)} at every stage; roll back when a margin is broken.")
    if outcome == "investigate":
        failed = [check for check in integrity if check.verdict == "fail"]
        found += [f"Find the cause of: {check.title}. {check.evidence}" for check in failed]
        if not failed:
            found.append(decision.summary)
        found.append("Do not read effects until the cause is found and mended.")
    if outcome == "extend":
        if not blinding.horizon_reached:
            found.append(f"Let the experiment run to its horizon on {brief.end}.")
        elif power is not None and power.planned_units_per_arm:
            found.append(
                "Extend with a new end that was fixed before looking again; "
                f"{power.planned_units_per_arm:,} units an arm were needed, "
                f"{power.observed_units_per_arm:,} are there."
            )
            missing = (power.planned_units_per_arm - power.observed_units_per_arm) * len(brief.arms)
            if units_per_day and missing > 0:
                weeks = math.ceil(missing / (units_per_day * brief.traffic) / 7)
                found.append(f"At {units_per_day:,.0f} units a day that takes {weeks:,} more weeks.")
        else:
            found.append("Extend with a new end that was fixed before looking again.")
    if outcome == "iterate":
        found.append("Change the treatment and test it again; do not ship it as it is.")
    if outcome == "stop":
        found.append("Stop the experiment and return its units to control.")
    for choice in decision.arms:
        if choice.outcome in ("roll_back", "pause"):
            verb = "Roll back" if choice.outcome == "roll_back" else "Pause"
            found.append(f"{verb} {choice.arm} now: {choice.because}")
    unsafe = sorted({row.arm for row in guardrails if row.kill_triggered or row.status == "fail"})
    if outcome == "investigate" and unsafe:
        found.append(
            f"Guardrails are breached in {listed(unsafe)}: pause those arms while looking for the cause."
        )
    if outcome in ("roll_back", "pause", "investigate"):
        found.append(f"Tell {brief.owner} and {brief.on_call}.")
    return tuple(found)
