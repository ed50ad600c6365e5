"""The life of an experiment: only allowed steps, every state reachable, ends that end, days that come."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pipeline.analysis.ramps.life import LifeFacts, life_of
from exp_pipeline.model.life import ALLOWED, LIFE_STATES, LIFE_WORDS, LifeState
from exp_pipeline.model.ramps import RampEntry
from exp_pipeline_tests.analysis.builders import END, START
from exp_pipeline_tests.analysis.ramps.ramp_samples import STAGES, at, entry, ramp_brief

BRIEF = ramp_brief()
LONG_AFTER = at(400)
READY, LOCKED = at(-10), at(0, 0)


def ramped(*more: RampEntry, upto: int = 4) -> tuple[RampEntry, ...]:
    """The stages up to one, two days each, and what came then."""
    return (*(entry(stage, at(2 * stage - 2), "advance", stage) for stage in range(1, upto + 1)), *more)


def facts(now: datetime, **changes: Any) -> LifeFacts:
    fields: dict[str, Any] = {"readiness": ((READY, True),), "locked_at": LOCKED, "newest_day": now.date()}
    return LifeFacts(now=now, **(fields | changes))


def rollout(sequence: int, moment: datetime, action: str = "ship", **changes: Any) -> RampEntry:
    return entry(
        sequence, moment, action, 1, phase="rollout", stages=1, traffic=1.0, arm="treatment", **changes
    )


SHIPPED = {"decided_at": at(30), "outcome": "ship"}
SCENES: dict[LifeState, LifeFacts] = {
    "draft": LifeFacts(now=at(-20)),
    "ready": LifeFacts(now=at(-5), readiness=((READY, True),)),
    "locked": facts(at(0, 1)),
    "aa": facts(at(0, 1)),
    "ramping": facts(at(3), log=ramped(upto=2)),
    "running": facts(at(9), log=ramped()),
    "paused": facts(at(9), log=ramped(entry(5, at(8), "pause", 4))),
    "rolled_back": facts(at(9), log=ramped(entry(5, at(8), "roll_back", 4))),
    "horizon": facts(at(29), log=ramped()),
    "decided": facts(at(31), log=ramped(), **SHIPPED),
    "shipping": facts(at(31), log=ramped(rollout(5, at(31))), **SHIPPED),
    "monitoring": facts(at(33), log=ramped(rollout(5, at(31))), **SHIPPED),
    "closed": facts(LONG_AFTER, log=ramped(rollout(5, at(31))), **SHIPPED),
}


def test_every_state_is_named_and_has_what_may_follow() -> None:
    assert set(LIFE_STATES) == set(get_args(LifeState)) == set(ALLOWED)
    assert ALLOWED["closed"] == frozenset()
    assert ALLOWED["rolled_back"] == {"closed"}
    reached, border = {"draft"}, ["draft"]
    while border:
        for following in ALLOWED[border.pop()]:  # type: ignore[index]
            if following not in reached:
                reached.add(following)
                border.append(following)
    assert reached == set(LIFE_STATES)
    # From anywhere the end can be reached.
    for state in LIFE_STATES:
        assert state == "closed" or "closed" in ALLOWED[state]


@pytest.mark.parametrize("state", LIFE_STATES)
def test_every_state_is_reached(state: LifeState) -> None:
    brief = ramp_brief(new_logging=True) if state == "aa" else BRIEF
    if state in ("shipping",):
        brief = ramp_brief(rollout=({"traffic": 1.0, "dwell_days": 3},))
    life = life_of(brief, SCENES[state])
    assert life.now.state == state
    assert_allowed(life.steps)


def assert_allowed(steps: Any) -> None:
    assert steps[0].state == "draft"
    for before, after in pairwise(steps):
        assert after.state in ALLOWED[before.state], (before, after)
        assert after.since is not None
        assert before.since is None or before.since <= after.since


def test_a_whole_life_step_by_step() -> None:
    log = ramped(
        entry(5, at(9), "pause", 4, reasons=("harm",)), entry(6, at(10), "resume", 4), rollout(7, at(31))
    )
    life = life_of(BRIEF, facts(LONG_AFTER, log=log, **SHIPPED))
    assert [(step.state, step.stage) for step in life.steps] == [
        ("draft", None),
        ("ready", None),
        ("locked", None),
        ("ramping", 1),
        ("ramping", 2),
        ("ramping", 3),
        ("running", None),
        ("paused", None),
        ("running", None),
        ("horizon", None),
        ("decided", None),
        ("shipping", 1),
        ("monitoring", None),
        ("closed", None),
    ]
    since = {step.state: step.since for step in life.steps}
    assert since["horizon"] == datetime(END.year, END.month, END.day, tzinfo=UTC)
    assert since["monitoring"] == at(31)
    assert since["closed"] == since["horizon"] + timedelta(days=56)
    assert next(step.because for step in life.steps if step.state == "paused") == "harm"
    assert life.coming == ()


def test_a_pause_hides_the_horizon_until_it_is_resumed() -> None:
    paused = ramped(entry(5, at(8), "pause", 4))
    assert life_of(BRIEF, facts(at(29), log=paused)).now.state == "paused"
    back = life_of(BRIEF, facts(at(29), log=(*paused, entry(6, at(28, 12), "resume", 4))))
    assert [step.state for step in back.steps[-2:]] == ["paused", "horizon"]
    assert_allowed(back.steps)


def test_after_a_roll_back_only_a_close_counts() -> None:
    log = ramped(entry(5, at(8), "roll_back", 4), entry(6, at(9), "close", 4), entry(7, at(10), "advance", 1))
    life = life_of(BRIEF, facts(LONG_AFTER, log=log, **SHIPPED))
    assert [step.state for step in life.steps[-2:]] == ["rolled_back", "closed"]
    early = life_of(BRIEF, facts(LONG_AFTER, log=log[:5], **SHIPPED))
    assert early.now.state == "rolled_back"


def test_one_that_ran_without_a_recorded_ramp_runs_from_its_start() -> None:
    life = life_of(BRIEF, facts(at(3), units=True))
    assert (life.now.state, life.now.since) == ("running", LOCKED)
    over = life_of(BRIEF, facts(LONG_AFTER, units=True, locked_at=at(300)))
    assert [step.state for step in over.steps] == ["draft", "ready", "locked", "running", "horizon"]
    assert_allowed(over.steps)


def test_gaps_that_appear_make_a_draft_of_it_again() -> None:
    judged = ((at(-9), True), (at(-8), False), (at(-7), True), (at(-6), False))
    life = life_of(BRIEF, LifeFacts(now=at(-5), readiness=judged))
    assert [step.state for step in life.steps] == ["draft", "ready", "draft", "ready", "draft"]


def test_an_extension_goes_on_running() -> None:
    life = life_of(BRIEF, facts(at(20), log=ramped(), decided_at=at(19), outcome="extend"))
    assert [step.state for step in life.steps[-2:]] == ["decided", "running"]


def test_days_to_come_come_by_themselves() -> None:
    brief = ramp_brief(looks=(START + timedelta(days=14), START + timedelta(days=21)))
    early = life_of(brief, facts(at(-1), locked_at=None))
    assert [(one.kind, one.at) for one in early.coming] == [
        ("start", at(0, 0)),
        ("look", at(14, 0)),
        ("look", at(21, 0)),
        ("horizon", at(28, 0)),
        ("durability", at(42, 0)),
        ("durability", at(56, 0)),
        ("durability", at(84, 0)),
    ]
    later = life_of(brief, facts(at(15), log=ramped(), earliest=at(16)))
    assert later.next is not None
    assert (later.next.kind, later.next.at) == ("look", at(21, 0))
    ramping = life_of(brief, facts(at(3), log=ramped(upto=2), earliest=at(4)))
    assert ramping.next is not None
    assert (ramping.next.kind, ramping.next.at) == ("stage", at(4))


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["step", "pause", "resume", "roll_back", "ship", "close"]), st.integers(1, 200)
    ),
    max_size=14,
)


@given(
    moves=MOVES,
    ready=st.lists(st.tuples(st.integers(-400, 2000), st.booleans()), max_size=3),
    locked=st.one_of(st.none(), st.integers(-100, 1500)),
    aa=st.one_of(st.none(), st.integers(-100, 300)),
    decided=st.one_of(st.none(), st.integers(0, 1500)),
    outcome=st.sampled_from(["ship", "extend", "stop", "roll_back"]),
    units=st.booleans(),
    new_logging=st.booleans(),
    ends=st.lists(st.integers(-500, 12_000), min_size=2, max_size=2),
)
def test_whatever_becomes_known_only_allowed_steps_are_taken_and_history_never_changes(
    moves: list[tuple[str, int]],
    ready: list[tuple[int, bool]],
    locked: int | None,
    aa: int | None,
    decided: int | None,
    outcome: str,
    units: bool,
    new_logging: bool,
    ends: list[int],
) -> None:
    brief = ramp_brief(new_logging=new_logging)
    start = at(0, 0)

    def hours(number: int) -> datetime:
        return start + timedelta(hours=number)

    log, now, stage, phase = list[RampEntry](), 0, 0, "ramp"
    for number, (move, passed) in enumerate(moves, start=1):
        now += passed
        more: dict[str, Any] = {"phase": phase}
        if move == "ship":
            phase, stage = "rollout", 1
            more = {"phase": phase, "stages": 1, "traffic": 1.0, "arm": "treatment"}
        elif move == "step":
            stage = min(stage + 1, len(STAGES) if phase == "ramp" else 1)
        action = "advance" if move == "step" else move
        log.append(entry(number, hours(now), action, stage, **more))
    whole = LifeFacts(
        now=hours(max(ends)),
        readiness=tuple((hours(number), good) for number, good in sorted(ready)),
        locked_at=None if locked is None else hours(locked),
        aa_at=None if aa is None else hours(aa),
        log=tuple(log),
        newest_day=hours(max(ends)).date(),
        units=units,
        decided_at=None if decided is None else hours(decided),
        outcome=outcome,
    )
    life = life_of(brief, whole)
    assert_allowed(life.steps)
    # What is known today was so then: looking from an earlier moment shows the beginning of the same life.
    before = life_of(brief, replace(whole, now=hours(min(ends))))
    assert before.steps == life.steps[: len(before.steps)]
    states = [step.state for step in life.steps]
    for end in ("closed", "rolled_back"):
        if end in states:
            assert set(states[states.index(end) :]) <= {end, "closed"}


def test_the_docs_say_each_state_as_pages_do() -> None:
    page = Path(__file__).parents[3] / "docs" / "ramps.md"
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(rows[: len(LIFE_WORDS)]) == LIFE_WORDS
    assert not {word for words in LIFE_WORDS.values() for word in ("horizon", "_") if word in words}
