"""What is known of an experiment when the next step of its ramp is judged: read from the lake and the log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime

import polars as pl
from pydantic import ValidationError

from exp_pipeline.analysis.integrity.checks import fidelity_check
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.flags import ASSIGNMENT_FIELDS
from exp_pipeline.model.incidents import RuleName
from exp_pipeline.model.ramps import GuardrailFact, RampFacts, folded, stages_of
from exp_pipeline.model.readout import Verdict
from exp_pipeline.steps.assignment.fidelity import assigned_units, fidelity_of
from exp_pipeline.steps.context import DAY, Workbench, day_of, event_day
from exp_pipeline.steps.experiments import starting
from exp_pipeline.steps.experiments.locking import locked_of
from exp_pipeline.steps.experiments.planning import check_readiness
from exp_pipeline.steps.operating.incidents import open_incidents
from exp_pipeline.steps.operating.ramp_log import (
    ReadinessRecord,
    add_readiness,
    approvals_of,
    entries_of,
    readiness_of,
)
from exp_pipeline.store.state import StateLog, state_log

# While one of these is open, no stage is entered.
HOLDING_RULES: tuple[RuleName, ...] = ("data_quality", "conservation", "contract", "freshness")
_Judged = tuple[Verdict, str]
_NOTHING: _Judged = ("cannot_tell", "nothing was judged")


def ramp_facts(bench: Workbench, brief: Brief, now: datetime, *, judge_readiness: bool = True) -> RampFacts:
    """Everything that the next step of a brief's ramp is judged by, at a moment.

    judge_readiness: whether to judge the brief anew where no judgement of it and of the newest day is known;
    it is noted then. Nothing of an experiment that has not started is read but that.
    """
    log = state_log(bench.home)
    entries = entries_of(log, brief)
    state = folded(entries)
    newest = newest_complete_day(bench, now)
    begun = state.stage > 0
    checks = {name for stage in stages_of(brief, state.phase) for name in stage.checks}
    verdicts: dict[str, _Judged] = {}
    units = 0
    if begun:
        units, verdicts["srm"] = _sample_ratio(bench, brief, newest)
        verdicts["data_quality"] = _quality(bench, newest)
        if "fidelity" in checks:
            verdicts["fidelity"] = _fidelity(bench, brief, newest)
    guardrails_day, guardrails = _guardrails(bench, brief, newest) if begun else (None, ())
    gaps: tuple[str, ...] | None = ()
    if not begun:
        gaps = _gaps(bench, log, brief, newest, now, judge=judge_readiness)
    return RampFacts(
        now=now,
        state=state,
        newest_day=newest,
        units=units,
        guardrails=guardrails,
        guardrails_day=guardrails_day,
        verdicts=verdicts,
        incidents=tuple(
            f"{one.rule} on {one.subject} since {one.since}: {one.evidence}"
            for one in open_incidents(log)
            if one.rule in HOLDING_RULES and one.experiment in (None, brief.name)
        ),
        changed=changed_assignment(bench, brief),
        others=() if begun else _earlier_versions(log, brief),
        approvals=approvals_of(log, brief),
        gaps=gaps,
        calendar=bench.catalog.calendar_of(brief),
    )


def newest_complete_day(bench: Workbench, now: datetime) -> date | None:
    """The newest event day that is over and whose facts are there."""
    today = now.astimezone(UTC).date()
    days = [day for name in bench.lake.partitions("unit_days") if (day := day_of(name)) < today]
    return days[-1] if days else None


def _earlier_versions(log: StateLog, brief: Brief) -> tuple[str, ...]:
    """Earlier versions of the experiment that still have units: two at once would count them twice."""
    found = []
    for version in range(1, brief.version):
        state = folded(entries_of(log, brief.model_copy(update={"version": version})))
        if state.status in ("on", "paused"):
            found.append(f"version {version} is {state.status}: close it first")
    return tuple(found)


def changed_assignment(bench: Workbench, brief: Brief) -> tuple[str, ...]:
    """Which fields of assignment are not as they were locked?"""
    locked = locked_of(bench.home, brief)
    if locked is None:
        return ()
    current = brief.model_dump(mode="json")
    return tuple(
        name
        for name in ASSIGNMENT_FIELDS
        if name in locked.analysis and locked.analysis[name] != current[name]
    )


def as_locked(bench: Workbench, brief: Brief) -> Brief | None:
    """The brief with the arms that units were given; None where it no longer fits the rest of the brief."""
    changed = changed_assignment(bench, brief)
    locked = locked_of(bench.home, brief)
    if not changed or locked is None:
        return brief
    before = {name: locked.analysis[name] for name in changed}
    try:
        return Brief.model_validate({**brief.model_dump(mode="json"), **before})
    except ValidationError:
        return None


def _gaps(
    bench: Workbench, log: StateLog, brief: Brief, newest: date | None, now: datetime, *, judge: bool
) -> tuple[str, ...] | None:
    locked = locked_of(bench.home, brief)
    if locked is not None and locked.by:
        # A team has locked it, and where it had gaps said why it starts all the same.
        return ()
    digest = brief.digest()
    known = [one for one in readiness_of(log, brief) if one.brief_digest == digest]
    same = [one for one in known if one.newest_day == newest]
    if same:
        return same[-1].gaps
    if not judge:
        return known[-1].gaps if known else None
    return record_readiness(bench, brief, now).gaps


def record_readiness(bench: Workbench, brief: Brief, now: datetime) -> ReadinessRecord:
    """Judge a brief's readiness now and note it, where it says something new."""
    ready = check_readiness(bench, brief.name)
    starting.record_readiness(bench.home, brief, ready, now)
    record = ReadinessRecord(
        experiment=brief.name,
        version=brief.version,
        brief_digest=brief.digest(),
        newest_day=newest_complete_day(bench, now),
        gaps=tuple(str(gap) for gap in ready.gaps),
        at=now.astimezone(UTC),
    )
    add_readiness(state_log(bench.home), brief, record)
    return record


def _of_day(bench: Workbench, table: str, day: date | None) -> pl.DataFrame | None:
    """The rows that a daily table holds of a day; None where the day was not judged."""
    manifest = None if day is None else bench.lake.manifest(table, event_day(day))
    if manifest is None:
        return None
    paths = bench.lake.paths([manifest])
    return pl.read_parquet(paths) if paths else None


def _own(frame: pl.DataFrame, brief: Brief) -> pl.DataFrame:
    own = (pl.col("experiment") == brief.name) & (pl.col("version") == brief.version)
    return frame.filter(own)


def _sample_ratio(bench: Workbench, brief: Brief, day: date | None) -> tuple[int, _Judged]:
    frame = _of_day(bench, "srm_daily", day)
    own = None if frame is None else _own(frame, brief)
    if own is None or not own.height:
        return 0, _NOTHING
    units = int(own["units"].sum())
    p_value = own["sequential_p_value"][0]
    if p_value is None:
        return units, ("cannot_tell", "no units yet")
    told = f"sequential p {p_value:.2g}, limit {brief.srm_alpha:g}, {units:,} units"
    return units, ("fail" if p_value < brief.srm_alpha else "pass", told)


def _guardrails(
    bench: Workbench, brief: Brief, newest: date | None
) -> tuple[date | None, tuple[GuardrailFact, ...]]:
    """What the newest judged day says of each guardrail and arm."""
    if newest is None:
        return None, ()
    judged = [day for name in bench.lake.partitions("guardrails_daily") if (day := day_of(name)) <= newest]
    for day in reversed(judged[-7:]):
        frame = _of_day(bench, "guardrails_daily", day)
        own = None if frame is None else _own(frame, brief).sort("metric", "arm")
        if own is not None and own.height:
            plain = {one.metric for one in brief.guardrails if one.basis == "point"}
            return day, tuple(_guardrail(row, row["metric"] in plain) for row in own.iter_rows(named=True))
    # A brief without guardrails has none that could be broken on a day that was judged.
    return (judged[-1], ()) if judged and not brief.guardrails else (None, ())


def _guardrail(row: dict[str, object], by_estimate: bool) -> GuardrailFact:
    harm, bound, margin = row["harm"], row["harm_bound"], row["margin"]
    if not isinstance(harm, float) or not isinstance(margin, float):
        told = "harm cannot be told"
    else:
        upto = f", up to {bound:.4g}" if isinstance(bound, float) else ""
        told = f"harm {harm:.4g}{upto}, margin {margin:.4g} on {row['event_date']}"
        # Such a budget may be broken by one event: it holds a ramp, and never stops one.
        told += ", by the estimate alone" if by_estimate and not row["kill_triggered"] else ""
    return GuardrailFact(
        metric=str(row["metric"]),
        arm=str(row["arm"]),
        status=row["status"],  # type: ignore[arg-type]
        killed=bool(row["kill_triggered"]),
        evidence=told,
    )


def _quality(bench: Workbench, day: date | None) -> _Judged:
    frame = _of_day(bench, "data_quality", day)
    if frame is None or not frame.height:
        return _NOTHING
    failed = frame.filter(pl.col("verdict") == "fail").sort("rule", "subject")
    if failed.height:
        return "fail", "; ".join(_lines(failed.select("rule", "subject").rows()))
    return "pass", f"{frame.height} verdicts of {day}"


def _lines(rows: Sequence[tuple[str, str]]) -> list[str]:
    return [f"{rule} on {subject}" for rule, subject in rows]


def _fidelity(bench: Workbench, brief: Brief, newest: date | None) -> _Judged:
    if newest is None or newest < brief.start:
        return _NOTHING
    units = assigned_units(bench, brief, until=newest + DAY)
    found = fidelity_of(brief, units)
    if found is None or not found.checked:
        return "cannot_tell", "no logged unit can be compared"
    check = fidelity_check(found.checked, found.mismatched, brief, found)
    return check.verdict, check.evidence
