"""The note for teachers: what changed, what was found in plain words, and whom to ask."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta

from exp_pipeline.model.base import Noun
from exp_pipeline.model.readout import ArmDecision, Outcome, Readout
from exp_pipeline.report import numbers
from exp_pipeline.report.document import Effect, MemoDocument, Text
from exp_pipeline.report.facts import memo_document
from exp_pipeline.report.markdown import escaped
from exp_pipeline.report.numbers import Display
from exp_pipeline.report.pages import render
from exp_pipeline.report.wording import listed, quoted

# While these are the outcome, the test still runs or cannot be believed: no result is told.
_UNTOLD: tuple[Outcome, ...] = ("extend", "pause", "investigate")
_PERCENTILE = re.compile(r",?\s*(?:the\s+)?\d+(?:\.\d+)?(?:st|nd|rd|th)\s+percentile", re.IGNORECASE)
_PLACES = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}


@dataclass(frozen=True)
class EducatorNote:
    """One note as a page and as Markdown, with the same sentences."""

    html: str
    markdown: str


class NoteSection(Noun):
    """One part of the note: a heading, paragraphs, and perhaps a list after them."""

    key: str
    title: Text
    paragraphs: tuple[Text, ...]
    items: tuple[Text, ...] = ()


class NoteDocument(Noun):
    """The note as facts: every sentence once, from which both forms are printed."""

    title: Text
    experiment: Text
    owner: Text
    as_of: date
    lead: Text
    sections: tuple[NoteSection, ...]


def educator_note(readout: Readout, *, starts: date | None = None) -> EducatorNote:
    """What do teachers need to know of this experiment? A draft for its owner to send.

    `starts` is the first day on which students get what was decided, where it is known. No result is told
    while effects are hidden or the outcome asks to go on, to pause or to investigate.
    """
    note = note_document(readout, starts=starts)
    return EducatorNote(html=render("note.html.j2", note=note), markdown=_markdown(note))


def note_document(readout: Readout, *, starts: date | None = None) -> NoteDocument:
    """Every sentence of the note."""
    memo = memo_document(readout)
    told = not memo.blinding.hidden and readout.decision.outcome not in _UNTOLD
    sections = [
        NoteSection(key="tried", title="What we tried", paragraphs=_tried(readout, memo)),
        NoteSection(
            key="students", title="What changes for students", paragraphs=_for_students(readout, starts)
        ),
        _found(readout, memo) if told else _nothing_yet(readout, memo),
        NoteSection(key="records", title="Which records we used", paragraphs=_records(readout, told)),
        NoteSection(key="ask", title="Questions and objections", paragraphs=_ask(readout)),
    ]
    return NoteDocument(
        title=readout.brief.title,
        experiment=readout.experiment,
        owner=readout.brief.owner,
        as_of=readout.as_of,
        lead=_for_students(readout, starts)[0],
        sections=tuple(sections),
    )


def _tried(readout: Readout, memo: MemoDocument) -> tuple[str, ...]:
    brief = readout.brief
    thesis = brief.hypothesis
    who = "whole classes" if brief.randomisation_unit == "class" else "students"
    last = brief.end - timedelta(days=1)
    versions = [
        f"{quoted(arm.name)}{f' ({_lower(arm.description)})' if arm.description else ''}"
        for arm in brief.treatments()
    ]
    usual = next(arm for arm in brief.arms if arm.name == brief.control)
    as_before = f" ({_lower(usual.description)})" if usual.description else ""
    return (
        f"The idea: {thesis.change}, for {thesis.population}, in {thesis.context}. "
        f"We think that this may help because {thesis.because}.",
        f"By lot, {who} kept the usual version{as_before} or got "
        f"{'the new one' if len(versions) == 1 else 'one of the new ones'}: {listed(versions)}. "
        f"The test {'ran' if memo.horizon_reached else 'runs'} from {_day(brief.start)} to {_day(last)}.",
    )


def _for_students(readout: Readout, starts: date | None) -> tuple[str, ...]:
    decision, outcome = readout.decision, readout.decision.outcome
    new = quoted(decision.arm) if decision.arm else "the new version"
    chosen = next((arm for arm in decision.arms if arm.arm == decision.arm), None)
    from_day = f"from {_day(starts)} on" if starts is not None else "once the steps below have begun"
    if outcome in ("ship", "ship_scoped"):
        whom = "all students for whom it is meant"
        if outcome == "ship_scoped":
            whom = _groups(chosen)
        return (
            f"We suggest to give {new} to {whom}, {from_day}.",
            *_steps(readout),
            *_others(readout),
        )
    since = f" from {_day(starts)} on" if starts is not None else ""
    said: dict[Outcome, str] = {
        "extend": "Nothing changes now: the test goes on, and students keep the version that they have.",
        "iterate": f"Students keep the usual version{since}. We will change the new one and test it again.",
        "stop": f"Students get the usual version{since}. The new one will not be introduced.",
        "roll_back": f"The new version is taken back: all students get the usual one{since or ' again'}.",
        "pause": f"The new version is paused: students get the usual one{since or ' for now'}.",
        "investigate": "Nothing is decided: something in our records is not right, and we look into it "
        "first. Until then no result of this test should be relied on.",
    }
    return (said[outcome],)


def _others(readout: Readout) -> tuple[str, ...]:
    """What becomes of the versions that were tried beside the chosen one."""
    said: dict[Outcome, str] = {
        "ship": "did no harm either, and is not introduced beside it",
        "ship_scoped": "helped some groups, and is not introduced beside it",
        "extend": "is still being tested",
        "iterate": "will be changed and tested again",
        "stop": "will not be introduced",
        "roll_back": "is taken back",
        "pause": "is paused",
        "investigate": "is being looked into",
    }
    rest = [arm for arm in readout.decision.arms if arm.arm != readout.decision.arm]
    return tuple(f"{quoted(arm.arm)} {said[arm.outcome]}." for arm in rest)


def _groups(chosen: ArmDecision | None) -> str:
    if chosen is None or not chosen.segments:
        return "the groups of students for whom it helped"
    return f"these students only: {listed([f'{one.column} {one.value}' for one in chosen.segments])}"


def _steps(readout: Readout) -> tuple[str, ...]:
    ramp = readout.brief.rollout or readout.brief.ramp
    if not ramp:
        return ("It is introduced in steps, and stopped if something gets worse.",)
    shares = [_of(stage.traffic) for stage in ramp]
    days = sum(stage.dwell_days for stage in ramp[:-1])
    steps = _PLACES.get(len(ramp), str(len(ramp)))
    waits = f" The steps before the last take at least {days} days together." if days else ""
    if len(ramp) == 1:
        return (f"It is introduced in one step, for {shares[0]} students.{waits}",)
    return (
        f"It is introduced in {steps} steps: for {listed(shares)} students. Each step goes on only if "
        f"nothing got worse in the one before.{waits}",
    )


def _of(share: float) -> str:
    return "all" if share >= 1.0 else f"{numbers.decimal(100 * share, 0 if share >= 0.01 else 1)} of 100"


def _found(readout: Readout, memo: MemoDocument) -> NoteSection:
    told = [effect for effect in memo.primary if effect.shown]
    estimates = {(e.metric, e.arm): e for e in readout.estimates if e.role == "primary" and e.segment is None}
    items = []
    for effect in told:
        estimate = estimates[effect.metric, effect.arm]
        better_up = estimate.direction == "increase"
        items.append(
            _effect(effect, estimate.display, better_up, _unit(readout, effect), len(readout.brief.arms) > 2)
        )
    what = plain_title(told[0].title) if told else ""
    opening = (
        f"We looked at one number above all: {quoted(what)}."
        if told
        else "The number that we looked at above all could not be worked out, so we cannot say what it did."
    )
    return NoteSection(
        key="found",
        title="What we found",
        paragraphs=(opening,),
        items=(*items, *_watched(memo), *_by_group(memo)),
    )


def _effect(effect: Effect, display: Display, more_is_better: bool, unit: str, several: bool) -> str:
    with_it = f"With {quoted(effect.arm)}" if several else "With the new version"
    change, low, high = effect.absolute.value, effect.interval.lower, effect.interval.upper
    base = effect.mean_control.value
    if change is None:
        return f"{with_it}: not worked out."
    counted = display == "share"
    per = _base(change) if counted else 1

    def size(value: float) -> str:
        return _size(value * per) if counted else _amount(value, display)

    of_each = f"of {per:,} {unit}, " if counted else "on average "
    ends = [size(end) for end in sorted((low, high), key=abs)] if low is not None and high is not None else []
    if low is None or high is None or low <= 0.0 <= high:
        reach = (
            f": {of_each}it may be anything from {size(low or 0.0)} to {size(high or 0.0)}" if ends else ""
        )
        wish = (
            f"{'more' if counted else 'higher'} is"
            if more_is_better
            else f"{'fewer' if counted else 'lower'} is"
        )
        return f"{with_it} we cannot tell whether it makes a difference{reach}. Here {wish} better."
    good = (change > 0) == more_is_better
    start = ""
    if base is not None and counted:
        before, moved = round(base * per), round(change * per)
        start = f"about {before + moved:,} with it and about {before:,} with the usual version, that is "
    elif base is not None:
        start = f"{_level(base + change, display)} with it and {_level(base, display)} without, that is "
    return (
        f"{with_it}: {of_each}{start}about {size(change)}, which is {'better' if good else 'worse'}. "
        f"The true number may be as small as {ends[0]} or as large as {ends[1]}."
    )


def _unit(readout: Readout, effect: Effect) -> str:
    """What are the hundred of whom a share speaks? Students only where it is known to be of them."""
    table = readout.brief.table.metrics.get(effect.metric) if readout.brief.table else None
    by_student = (
        (table is not None and table.type == "proportion")
        or any(effect.title in said and "difference of shares" in said for said in readout.method)
        or effect.title.lower().startswith(("learners", "students", "pupils"))
    )
    return "students" if by_student else "counted"


def _base(change: float) -> int:
    """Of how many students must one speak so that the change is at least one of them?"""
    for per in (100, 1000, 10_000):
        if abs(change) * per >= 0.95:
            return per
    return 10_000


def _size(value: float) -> str:
    whole = round(value)
    if whole == 0:
        return "no more and no fewer"
    return f"{abs(whole):,} {'more' if whole > 0 else 'fewer'}"


def _amount(value: float, display: Display) -> str:
    digits = numbers.decimals_for(display, None, value)
    text = numbers.amount(abs(value), display, digits)
    return "no change" if value == 0 else f"{text} {'more' if value > 0 else 'less'}"


def _level(value: float, display: Display) -> str:
    return numbers.level(value, display, numbers.decimals_for(display, None, value))


def _watched(memo: MemoDocument) -> tuple[str, ...]:
    """What became of the things that must not get worse, in a sentence for each version and answer."""
    arms = list(dict.fromkeys(view.arm for view in memo.guardrails))
    said = {
        "fail": "{} got worse by more than we had agreed to accept",
        "open": "we are not sure yet whether {} got worse",
        "pass": "{} did not get worse by more than we had agreed to accept",
    }
    out = []
    for arm in sorted(arms):
        titles: dict[str, list[str]] = {"fail": [], "open": [], "pass": []}
        for view in memo.guardrails:
            if view.arm == arm:
                kind = view.status if view.status in ("pass", "fail") else "open"
                titles[kind].append(quoted(plain_title(view.title)))
        for answer, named in titles.items():
            if named:
                with_it = f"With {quoted(arm)}" if len(arms) > 1 else "With the new version"
                out.append(f"{with_it}, {said[answer].format(listed(named))}.")
    return tuple(out)


def _by_group(memo: MemoDocument) -> tuple[str, ...]:
    names = list(dict.fromkeys(effect.segment or "" for effect in memo.segments))
    if not names:
        return ()
    harmed = [
        f"{effect.segment} {effect.segment_value}" for effect in memo.segments if effect.favourable is False
    ]
    by = listed([name.replace("_", " ") for name in names])
    said = f"We also looked at groups of students by {by}. "
    if harmed:
        return (f"{said}It did harm in: {listed(list(dict.fromkeys(harmed)))}.",)
    return (f"{said}In none of the groups that are large enough to be shown was harm seen.",)


def _nothing_yet(readout: Readout, memo: MemoDocument) -> NoteSection:
    if readout.decision.outcome == "investigate":
        because = "We tell no result, because we cannot rely on it before the fault in our records is found."
    elif memo.horizon_reached:
        because = "We tell no result yet, because it is not certain enough to act on."
    else:
        because = "We tell no result before the test is over: knowing it early could change it."
    watched = () if readout.decision.outcome == "investigate" else _watched(memo)
    return NoteSection(key="found", title="What we found", paragraphs=(because,), items=watched)


def _records(readout: Readout, told: bool) -> tuple[str, ...]:
    brief = readout.brief
    counted = sum(row.analysed for row in readout.counts)
    smallest = min((row.analysed for row in readout.counts), default=0)
    who = f"{counted:,} students" if smallest >= brief.minimum_cell else "the students who took part"
    if not told:
        who = "the students who take part"
    left_out = " Some records were left out, such as those of test accounts." if readout.exclusions else ""
    return (
        f"Records of how {who} used the product from {_day(brief.start)} to {_day(readout.as_of)}, added up "
        f"over many students.{left_out} Nothing here is about a single student, and groups of fewer than "
        f"{brief.minimum_cell} are not shown.",
    )


def _ask(readout: Readout) -> tuple[str, ...]:
    brief = readout.brief
    return (
        f"If you have a question, or do not want a student or a class of yours to take part, write to "
        f"{brief.owner} and name the experiment, {quoted(readout.experiment)}. "
        "You need not give a reason.",
        f"If something goes wrong in class, tell {brief.on_call} at once.",
    )


def plain_title(title: str) -> str:
    """A metric's title without terms of statistics ("95th percentile" is "in the slowest cases")."""
    return _PERCENTILE.sub(" in the worst cases", title)


def _lower(text: str) -> str:
    text = text.strip().rstrip(".")
    return text[:1].lower() + text[1:]


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _markdown(note: NoteDocument) -> str:
    out = [
        f"# For teachers: {escaped(note.title)}",
        f"*Draft for {escaped(note.owner)} to send. Records to the end of {_day(note.as_of)}.*",
    ]
    for section in note.sections:
        out.append(f"## {section.title}")
        out += [escaped(paragraph) for paragraph in section.paragraphs]
        if section.items:
            out.append("\n".join(f"- {escaped(item)}" for item in section.items))
    return "\n\n".join(out) + "\n"
