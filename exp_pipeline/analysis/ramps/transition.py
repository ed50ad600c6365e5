"""What should a ramp do now? Facts in; advance, hold, pause or roll back out, with every reason."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from exp_pipeline.model.brief import Brief, RampStage
from exp_pipeline.model.ramps import RampDecision, RampFacts, stages_of
from exp_pipeline.model.readout import Verdict

_DAY = timedelta(days=1)


def next_step(brief: Brief, facts: RampFacts) -> RampDecision:
    """What should the ramp do now?

    Kill rules come first and ask nobody; a roll-back wins over a pause. A stage is entered only when nothing
    at all speaks against it; a hold names everything that does. The brief's own fields and these facts decide
    alone: the same facts give the same answer.
    """
    state = facts.state
    stages = stages_of(brief, state.phase)
    stay = (state.stage, state.traffic)
    if state.status in ("rolled_back", "closed"):
        return RampDecision("hold", *stay, (f"it is {state.status.replace('_', ' ')}: nothing follows",))
    if not stages:
        return RampDecision("hold", *stay, (_no_flag(brief),))
    killed = _kills(brief, facts)
    if killed is not None:
        return killed
    if state.status == "paused":
        return RampDecision("hold", *stay, ("it is paused, and a person has to resume it",))
    if state.stage >= len(stages):
        return RampDecision("hold", *stay, (f"it is at its last stage, {_percent(state.traffic)} of units",))
    against = _against(brief, facts, stages)
    if against:
        return RampDecision("hold", *stay, tuple(against))
    following = stages[state.stage]
    return RampDecision(
        "advance", state.stage + 1, following.traffic, _for(brief, facts, stages[: state.stage])
    )


def earliest_next(brief: Brief, facts: RampFacts) -> datetime | None:
    """When could the next stage begin, if all that is judged by then is good? None where none follows.

    Dwell, start, calendar and blackout days count; what only data or people can tell does not.
    """
    state = facts.state
    stages = stages_of(brief, state.phase)
    if state.status not in ("not_started", "on") or state.stage >= len(stages):
        return None
    first = facts.now
    if state.phase == "ramp" and state.stage == 0:
        first = max(first, _midnight(brief.start))
    elif state.since is not None and state.stage > 0:
        first = max(first, state.since + stages[state.stage - 1].dwell_days * _DAY)
    shut = set(brief.blackout_days) if state.phase == "ramp" else set()
    for _ in range(len(shut) + 2):
        opens = first if facts.calendar is None else facts.calendar.next_open(first)
        if opens is None:
            return None
        if _local_day(brief, facts, opens) not in shut:
            return None if state.phase == "ramp" and opens >= _midnight(brief.end) else opens
        first = _day_after(brief, facts, opens)
    return None


def _kills(brief: Brief, facts: RampFacts) -> RampDecision | None:
    state = facts.state
    if state.status not in ("on", "paused") or facts.guardrails_day is None:
        return None
    if state.judged_from is not None and facts.guardrails_day <= state.judged_from:
        return None
    rules = {guardrail.metric: guardrail.kill for guardrail in brief.guardrails}
    acting = [
        (rule.action, f"kill rule of {fact.metric} acts in {fact.arm}: {fact.evidence}")
        for fact in facts.guardrails
        if fact.killed and (rule := rules.get(fact.metric)) is not None
    ]
    if not acting:
        return None
    reasons = tuple(reason for _, reason in acting)
    if any(action == "roll_back" for action, _ in acting):
        return RampDecision("roll_back", state.stage, 0.0, reasons)
    return RampDecision("pause", state.stage, 0.0, reasons) if state.status == "on" else None


def _against(brief: Brief, facts: RampFacts, stages: tuple[RampStage, ...]) -> list[str]:
    """Everything that speaks against entering the next stage now."""
    state = facts.state
    following = stages[state.stage]
    found: list[str] = []
    if state.phase == "ramp":
        if facts.now >= _midnight(brief.end):
            found.append(f"the experiment ended on {brief.end}")
        if state.stage == 0:
            found += _not_begun(brief, facts)
    if state.stage > 0:
        found += _stage_unfinished(brief, facts, stages[state.stage - 1])
        if following.traffic <= state.traffic:
            told = f"{_percent(following.traffic)} of units, and this one {_percent(state.traffic)}"
            found.append(f"the next stage has {told}")
    found += [f"{name} is not as it was locked: give the brief a new version" for name in facts.changed]
    found += facts.others
    found += [f"data quality: {line}" for line in facts.incidents]
    found += _stale(facts, following)
    found += _closed(brief, facts)
    if following.approval and not _approved(facts, state.stage + 1):
        found.append(f"stage {state.stage + 1} needs a person's approval")
    return found


def _not_begun(brief: Brief, facts: RampFacts) -> list[str]:
    found = []
    if facts.now < _midnight(brief.start):
        found.append(f"the experiment starts on {brief.start}")
    if facts.gaps is None:
        found.append("readiness has not been judged")
    else:
        found += [f"not ready: {gap}" for gap in facts.gaps]
    return found


def _stage_unfinished(brief: Brief, facts: RampFacts, stage: RampStage) -> list[str]:
    """What the stage that a ramp is in still lacks."""
    state = facts.state
    since = facts.now if state.since is None else state.since
    found = []
    lasted = facts.now - since
    if lasted < stage.dwell_days * _DAY:
        found.append(f"stage {state.stage} has lasted {_days(lasted)} of {stage.dwell_days} days")
    if stage.dwell_days and (facts.newest_day is None or facts.newest_day < since.astimezone(UTC).date()):
        found.append(f"no day of stage {state.stage} has been judged yet")
    if state.phase == "ramp" and facts.units < stage.minimum_units:
        found.append(f"{facts.units:,} units of {stage.minimum_units:,} are in the experiment")
    verdicts = _verdicts(facts)
    needed = [name for name in stage.checks if state.phase == "ramp" or name == "data_quality"]
    for name in needed:
        verdict, evidence = verdicts.get(name, ("cannot_tell", "nothing was judged"))
        if verdict in ("fail", "cannot_tell"):
            found.append(f"{name} {'fails' if verdict == 'fail' else 'cannot be told'}: {evidence}")
    srm = facts.verdicts.get("srm")
    if "srm" not in needed and srm is not None and srm[0] == "fail" and state.phase == "ramp":
        found.append(f"srm fails: {srm[1]}")
    return found


def _verdicts(facts: RampFacts) -> dict[str, tuple[Verdict, str]]:
    """The verdict of each check, those of guardrails put together from every arm's."""
    rows = facts.guardrails
    failing = [f"{row.metric} in {row.arm}: {row.evidence}" for row in rows if row.status == "fail"]
    open_ones = [f"{row.metric} in {row.arm} is {row.status}" for row in rows if row.status != "pass"]
    none: tuple[Verdict, str] = ("pass", "no guardrail was broken")
    if facts.guardrails_day is None or facts.guardrails_day != facts.newest_day:
        none = ("cannot_tell", f"{facts.newest_day or 'no day'} was not judged")
    guardrails: tuple[Verdict, str] = ("fail", "; ".join(failing)) if failing else none
    powered = none if none[0] != "pass" or not open_ones else ("cannot_tell", "; ".join(open_ones))
    return {
        "guardrails": guardrails,
        "guardrails_powered": guardrails if failing else powered,
        **facts.verdicts,
    }


def _stale(facts: RampFacts, stage: RampStage) -> list[str]:
    if facts.newest_day is None:
        return ["there is no complete day of data"]
    age = facts.now - _midnight(facts.newest_day + _DAY)
    if age <= timedelta(hours=stage.freshness_hours):
        return []
    hours = age.total_seconds() / 3600
    return [f"the newest complete day, {facts.newest_day}, ended {hours:.0f} hours ago: at most "
            f"{stage.freshness_hours} are allowed"]  # fmt: skip


def _closed(brief: Brief, facts: RampFacts) -> list[str]:
    found = []
    day = _local_day(brief, facts, facts.now)
    if facts.state.phase == "ramp" and day in brief.blackout_days:
        found.append(f"{day} is a blackout day")
    why = "" if facts.calendar is None else facts.calendar.closed_because(facts.now)
    if why:
        found.append(f"schools are closed: {why}")
    return found


def _approved(facts: RampFacts, stage: int) -> bool:
    return any(one.stage == stage and one.phase == facts.state.phase for one in facts.approvals)


def _for(brief: Brief, facts: RampFacts, behind: tuple[RampStage, ...]) -> tuple[str, ...]:
    """What speaks for the step: the stage behind it, said in its own numbers."""
    found = []
    if not behind:
        found.append(f"the experiment starts on {brief.start} and its brief has no gap")
    else:
        stage = behind[-1]
        lasted = facts.now - (facts.state.since or facts.now)
        found.append(f"stage {facts.state.stage} lasted {_days(lasted)} of {stage.dwell_days} days")
        if facts.state.phase == "ramp":
            found.append(f"{facts.units:,} units of {stage.minimum_units:,} are in the experiment")
            found += [f"{name} is good" for name in stage.checks]
    found += [
        f"approved by {one.by}: {one.reason}"
        for one in facts.approvals
        if one.phase == facts.state.phase and one.stage == facts.state.stage + 1
    ]
    return tuple(found)


def _no_flag(brief: Brief) -> str:
    if brief.table is not None:
        return "it is over a unit table: there is nobody to let in"
    if brief.assignment == "table":
        return "its arms come from a table drawn once: all drawn units are in from the start"
    return "hash_scheme is none: no flag can tell its arms"


def _local_day(brief: Brief, facts: RampFacts, at: datetime) -> date:
    if facts.calendar is not None:
        return facts.calendar.local(at).date()
    return at.astimezone(ZoneInfo(brief.time_zone)).date()


def _day_after(brief: Brief, facts: RampFacts, at: datetime) -> datetime:
    zone = ZoneInfo(brief.time_zone if facts.calendar is None else facts.calendar.time_zone)
    following = _local_day(brief, facts, at) + _DAY
    return datetime.combine(following, time(), zone).astimezone(UTC)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _days(lasted: timedelta) -> str:
    return f"{max(lasted, timedelta(0)) / _DAY:.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"
