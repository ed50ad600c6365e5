"""Durability: an ended experiment's effect, measured again on its own units some weeks later."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from exp_pipeline.analysis.after.durability import (
    Look,
    base_row,
    durability_row,
    looks_of,
    missing_days,
    refused,
    stretch_of,
)
from exp_pipeline.analysis.effects.estimates import Setting
from exp_pipeline.analysis.inputs import ReadoutInputs
from exp_pipeline.analysis.units import frame_of_units, units_of_metric
from exp_pipeline.model.after import DurabilityRow
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.incidents import Finding
from exp_pipeline.model.metrics import definitions
from exp_pipeline.model.ramps import RampEntry
from exp_pipeline.steps.context import DAY, Window, Workbench, day_of, event_day
from exp_pipeline.steps.experiments.chain import brief_of, readout_inputs
from exp_pipeline.steps.experiments.past_units import build_history_days
from exp_pipeline.steps.experiments.sealed_readouts import readout_of
from exp_pipeline.steps.operating.incidents import record_findings
from exp_pipeline.steps.operating.ramp_log import entries_of
from exp_pipeline.steps.recorded import recorded_definitions
from exp_pipeline.store.engine import quote
from exp_pipeline.store.files import write_text
from exp_pipeline.store.home import Home
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.state import state_log

HIDDEN = "effects are hidden: the horizon is not reached, or integrity fails"
HELD_OUT = (
    "held-out units were never in this experiment: what everything that was shipped did together is told by "
    "`exp holdout`; log both sides of the holdout as an experiment of its own (holdout: exempt) to have this "
    "one told alone"
)


@dataclass(frozen=True, slots=True)
class Durability:
    """Every look that is due, soonest first, and how many incidents it changed."""

    experiment: str
    rows: tuple[DurabilityRow, ...]
    changed: int


def durability_file(home: Home, experiment: str) -> Path:
    """Where the rows of an experiment stand."""
    return Marts(home.marts).folder(experiment).parents[1] / "after" / f"durability-{experiment}.json"


def durability_rows(home: Home, experiment: str) -> tuple[DurabilityRow, ...]:
    """The looks of an experiment that were measured; nothing before the first."""
    path = durability_file(home, experiment)
    rows = json.loads(path.read_bytes()) if path.is_file() else []
    return tuple(DurabilityRow.model_validate(one) for one in rows)


def due_looks(brief: Brief, newest: date | None) -> tuple[Look, ...]:
    """The looks whose days the data have reached; newest: the newest day that is there."""
    return tuple(one for one in looks_of(brief) if newest is not None and one.due <= newest + DAY)


def measure(bench: Workbench, experiment: str, now: datetime) -> Durability:
    """Measure every look of an experiment that is due; a decay opens an incident, its end closes it.

    What cannot be measured is a row that says why. A look that was measured stays when its days are gone
    since. Raises ExpError where there is no such brief.
    """
    brief = brief_of(bench, experiment)
    known = [day_of(one) for one in bench.lake.partitions("learner_days")]
    looks = due_looks(brief, known[-1] if known else None)
    snapshot = Marts(bench.home.marts).current(experiment)
    if not looks or snapshot is None:
        return Durability(experiment, durability_rows(bench.home, experiment), 0)
    before = {(one.arm, one.against, one.due): one for one in durability_rows(bench.home, experiment)}
    rows = []
    for row in _measured(bench, snapshot, looks, known, experiment):
        last = before.get((row.arm, row.against, row.due))
        kept = not row.estimable and row.reason != HIDDEN and last is not None and last.estimable
        rows.append(last if kept and last is not None else row)
    text = json.dumps([one.model_dump(mode="json") for one in rows], indent=1, sort_keys=True) + "\n"
    write_text(durability_file(bench.home, experiment), text)
    found = [_finding(brief, one) for one in rows if one.estimable]
    changed = record_findings(state_log(bench.home), found, now)
    return Durability(experiment, tuple(rows), len(changed))


def _measured(
    bench: Workbench, snapshot: str, looks: Sequence[Look], known: Sequence[date], experiment: str
) -> list[DurabilityRow]:
    inputs = readout_inputs(bench, experiment, snapshot)
    brief, metric = inputs.brief, inputs.metrics[inputs.brief.primary]
    arms = [arm.name for arm in brief.treatments()]
    rows = [(look, base_row(brief, metric, look, arm, snapshot)) for look in looks for arm in arms]
    if readout_of(bench, experiment, snapshot).blinded or inputs.as_of < brief.end - DAY:
        found = [_refused(row, HIDDEN) for _, row in rows]
    else:
        found = _rows(bench, inputs, snapshot, rows, known)
    if bench.catalog.limits_of(brief).holdout is not None:
        held = [base_row(brief, metric, look, arm, snapshot) for look in looks for arm in arms]
        found += [_refused(row.model_copy(update={"against": "holdout"}), HELD_OUT) for row in held]
    return found


def _refused(row: DurabilityRow, reason: str) -> DurabilityRow:
    return row.model_copy(update={"estimable": False, "reason": reason})


def _rows(
    bench: Workbench,
    inputs: ReadoutInputs,
    snapshot: str,
    rows: Sequence[tuple[Look, DurabilityRow]],
    known: Sequence[date],
) -> list[DurabilityRow]:
    brief, metric = inputs.brief, inputs.metrics[inputs.brief.primary]
    facts = _facts(bench, inputs, rows[-1][0])
    reason = refused(brief, metric, facts, inputs.measures)
    if reason:
        return [_refused(row, reason) for _, row in rows]
    units = frame_of_units(inputs.mad, brief)
    primary = units_of_metric(units, metric, brief)
    setting = Setting(brief, snapshot, inputs.lock, units.clustered)
    rollout, ended = _served(bench, brief)
    found = []
    for look, row in rows:
        why = _unusable(bench, inputs, look, known, rollout)
        if why:
            found.append(_refused(row, why))
            continue
        lacking = missing_days(look.first, look.due, known)
        notes = [ended] if ended else []
        notes += [f"{len(lacking)} of its {look.days} days hold no events"] if lacking else []
        made = durability_row(setting, primary, facts, look, row.arm)
        found.append(made.model_copy(update={"note": "; ".join(notes)}))
    return found


def _unusable(
    bench: Workbench, inputs: ReadoutInputs, look: Look, known: Sequence[date], rollout: Sequence[RampEntry]
) -> str:
    """Why the days of a look cannot be compared with the experiment's; empty where they can."""
    brief = inputs.brief
    begun = [one for one in rollout if one.at.astimezone(UTC).date() < look.due]
    if begun:
        since, newest = begun[0].at.astimezone(UTC).date(), begun[-1]
        if newest.traffic >= 1.0 and not newest.segments:
            return f"its arms are served alike since the rollout began on {since}: nothing is left to compare"
        of = "its segments" if newest.segments else "control"
        return (
            f"since the rollout began on {since} the shipped arm is served to {100 * newest.traffic:g} % of "
            f"{of} too: the arms are no longer those that were drawn"
        )
    first = brief.end - DAY * look.days
    for start, end in ((first, brief.end), (look.first, look.due)):
        if len(missing_days(start, end, known)) * 2 > look.days:
            return f"most days from {start} to {end - DAY} are not in the lake"
    names = inputs.metrics[brief.primary].measures()
    wanted = definitions([inputs.measures[name] for name in names if name in inputs.measures])
    days = [event_day(one) for one in known if first <= one < brief.end or look.first <= one < look.due]
    over_events = {name: text for name, text in wanted.items() if inputs.measures[name].over == "events"}
    for manifest in bench.lake.manifests("learner_days", days):
        if not over_events.items() <= recorded_definitions(manifest).items():
            return (
                f"{day_of(manifest.partition)} was not summed up with the metric's measures as the "
                "experiment defined them"
            )
    return ""


def _served(bench: Workbench, brief: Brief) -> tuple[tuple[RampEntry, ...], str]:
    """The rollout's transitions, and what else the ramp's log says of arms after the end."""
    entries = entries_of(state_log(bench.home), brief)
    ships = tuple(one for one in entries if one.phase == "rollout")
    stops = [one for one in entries if one.action in ("pause", "roll_back", "close") and not ships]
    last = stops[-1] if stops and entries[-1] is stops[-1] else None
    said = ""
    if last is not None:
        word = last.action.replace("_", " ")
        said = f"the ramp's last step is {word} on {last.at:%Y-%m-%d}: what is left is what learners kept"
    return ships, said


def _facts(bench: Workbench, inputs: ReadoutInputs, last: Look) -> pl.DataFrame:
    """unit_id, event_date and the primary's measures, from each unit's first day to the last look."""
    brief = inputs.brief
    measures = [
        name for name in inputs.metrics[brief.primary].measures() if name in bench.catalog.measures_of(brief)
    ]
    window = Window(min(brief.start, brief.end - DAY * stretch_of(brief)), last.due)
    build_history_days(bench, brief, window)
    bench.engine.offer_frame("units_followed", inputs.mad.select("unit_id", "unit_key"))
    columns = "".join(f", h.{quote(name)}" for name in measures)
    facts = bench.engine.frame(
        f"select u.unit_id, h.event_date{columns} from history_days as h "
        "inner join units_followed as u on h.unit_key = u.unit_key order by u.unit_id, h.event_date"
    )
    for name in ("history_days", "units_followed"):
        bench.engine.drop(name)
    return facts


def _finding(brief: Brief, row: DurabilityRow) -> Finding:
    alpha, p_value = row.alpha or 0.0, row.p_value if row.p_value is not None else 1.0
    weeks = row.days_after_end // 7
    said = (
        f"{weeks} weeks after the end the effect on {row.title} is {row.later:.4g}, was {row.gain:.4g}; "
        f"change {row.change:.4g} ({row.ci_lower:.4g} to {row.ci_upper:.4g})"
    )
    return Finding(
        rule="decay",
        subject=f"{row.experiment}:{row.arm}:{row.against}",
        day=row.due,
        verdict="fail" if row.decayed else "pass",
        severity="warn",
        evidence=said,
        number=p_value,
        threshold=alpha,
        owner=brief.on_call,
        experiment=row.experiment,
        look=row.snapshot,
    )
