"""What a rehearsal tells: its days, messages and end, and whether the loop did what the truth asks of it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from exp_pipeline.model.base import Noun
from exp_pipeline.model.decisions import Outcome
from exp_pipeline.steps.operating.rehearsal_world import Incident, Scenario

Approvals = Literal["granted", "none"]


class Page(Noun):
    """One message as people got it: how urgent, what became of the incident, and the text."""

    at: datetime
    severity: str
    change: str
    rule: str
    text: str


class RehearsedDay(Noun):
    """One day and the morning after it: what it brought, what was judged and told, and what the ramp did.

    units: in the experiment so far, by arm (classes where classes are randomised). traffic: in force after
    the morning. verdicts: those that do not pass. verb, reasons: of the ramp's last tick of the day; a
    transition is never overwritten by a hold.
    """

    day: date
    status: str
    stage: int
    traffic: float
    units: dict[str, int]
    srm_p_value: float | None
    verdicts: tuple[str, ...]
    messages: tuple[Page, ...]
    verb: str
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    flag_version: int
    look: str = ""


class ArmTold(Noun):
    """One treatment arm at the end: what was planted in it, and what the readout says to do with it."""

    arm: str
    planted: str
    outcome: Outcome
    because: str


class Rehearsal(Noun):
    """A rehearsed life. `changes` are where it is not the brief as it stands, `gaps` what the brief lacks and
    the rehearsal let pass, `findings` what the brief's own numbers say against its ramp.

    as_planted: whether the loop did what the scenario asks of it; `against` says why in a sentence.
    """

    experiment: str
    version: int
    scenario: Scenario
    seed: int
    learners: int
    start: date
    end: date
    approvals: Approvals
    planted: str
    changes: tuple[str, ...]
    gaps: tuple[str, ...]
    findings: tuple[str, ...]
    days: tuple[RehearsedDay, ...]
    pages: int
    outcome: Outcome
    summary: str
    arms: tuple[ArmTold, ...]
    as_planted: bool
    against: str
    home: str
    memo: str
    seconds: float


def is_page(message: Page) -> bool:
    """Whether this message wakes somebody."""
    return message.severity == "page" and message.change in ("opened", "worsened", "escalated")


def planted_in(mastery: float, harmed: bool) -> str:
    """What was planted in an arm, in a few words."""
    helped = "answers are mastered more often" if mastery else "no effect"
    return f"{helped}, and the harm" if harmed else helped


def planted_in_all(scenario: Scenario, incident: Incident | None) -> str:
    """What was planted in the rehearsed term, in a sentence."""
    effect = "no arm has an effect" if scenario == "nothing" else "every arm helps"
    return f"{effect}; {'nothing goes wrong' if incident is None else incident.planted}"


def against_truth(
    scenario: Scenario,
    incident: Incident | None,
    lived: tuple[RehearsedDay, ...],
    arms: tuple[ArmTold, ...],
    outcome: Outcome,
    *,
    last_stage: int,
) -> tuple[bool, str]:
    """Did the loop do what the truth asks of it, and how is that seen?

    A page before anything went wrong is a failure in every scenario. The daily sample ratio counts all units
    together, and whole classes where those are randomised: a mismatch on one platform may be for the readout
    to find, which looks at each.
    """
    opened = [(day.day, one) for day in lived for one in day.messages if one.change == "opened"]
    pages = [(day.day, one) for day in lived for one in day.messages if is_page(one)]
    since = date.max if incident is None else incident.first
    false = [f"{one.rule} on {day}" for day, one in pages if day < since]
    if false:
        return False, f"pages before anything went wrong: {', '.join(false)}"
    shipped = [one.arm for one in arms if one.outcome in ("ship", "ship_scoped")]
    if scenario == "well":
        if shipped:
            return True, f"every arm was planted better, and the readout ships {', '.join(shipped)}"
        if all(day.stage < last_stage for day in lived):
            told = f"the ramp stood at stage {lived[-1].stage} of {last_stage} at the end"
            return False, f"{told}, so that too few units came"
        return False, "a planted effect was not found: more units or a longer term"
    if scenario == "nothing":
        return not shipped, "no arm was planted better, and " + (
            f"{', '.join(shipped)} would ship: a false discovery" if shipped else "none is shipped"
        )
    if scenario == "harm":
        stopped = next((day for day in lived if day.status in ("paused", "rolled_back")), None)
        if stopped is None:
            told = "no kill rule acted on the planted harm"
            return False, told + (f"; the guardrail paged on {pages[0][0]}" if pages else ", nor did it page")
        late = (stopped.day - since).days + 1
        kept = incident is not None and incident.arm not in shipped
        told = f"the ramp was {stopped.status.replace('_', ' ')} on day {late} of the harm"
        return kept and bool(pages), told + (
            ", and the arm is not shipped" if kept else ", but the arm ships"
        )
    rule = "srm" if scenario == "mismatch" else "data_quality"
    found = next((day for day, one in opened if one.rule == rule), None)
    said = f"the readout says {outcome.replace('_', ' ')}"
    if found is None and scenario == "mismatch":
        told = "the daily sample ratio, which counts all units together, did not show it"
        return outcome == "investigate", f"{told}; {said}"
    if found is None:
        return False, f"no incident of rule {rule} was opened"
    told = f"rule {rule} opened an incident on day {(found - since).days + 1} of it"
    if scenario == "mismatch":
        return outcome == "investigate", f"{told}, and {said}"
    return True, told
