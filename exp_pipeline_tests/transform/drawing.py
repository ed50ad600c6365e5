"""How tests draw small histories of learners, with everything in them that cuts a session."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import strategies as st

from exp_pipeline_tests.transform.cutting import END, Event

NAMES = ("hint_requested", "tutor_turn_submitted", "tutor_turn_response_shown", END)
MINUTE = timedelta(minutes=1)
# Ties, a second, well inside the gap, exactly the gap, a microsecond more, and long breaks.
STEPS = (
    timedelta(0),
    timedelta(seconds=1),
    7 * MINUTE,
    29 * MINUTE,
    30 * MINUTE,
    30 * MINUTE + timedelta(microseconds=1),
    5 * 60 * MINUTE,
)


@st.composite
def histories(
    draw: st.DrawFn,
    start: datetime,
    *,
    learners: int = 3,
    most: int = 14,
    steps: tuple[timedelta, ...] = STEPS,
    also: tuple[str, ...] = (),
) -> list[Event]:
    """Events of a few learners who share devices, in no order, flags not set; `also` names more events."""
    events: list[Event] = []
    for learner in range(1, draw(st.integers(1, learners)) + 1):
        at = start + draw(st.sampled_from(steps))
        for number in range(draw(st.integers(1, most))):
            events.append(
                Event(
                    learner=learner,
                    at=at,
                    # Ids in no order, so that ties are not settled by the order of drawing.
                    event_id=f"{draw(st.integers(0, 9))}-{learner}-{number}",
                    name=draw(st.sampled_from((*NAMES, *also))) if draw(st.integers(0, 3)) == 0 else NAMES[0],
                    device=draw(st.sampled_from((None, "d1", "d2"))),
                    objective=draw(st.sampled_from((None, None, "fractions", "area"))),
                    session=draw(st.sampled_from((None, "s1", "s1", "s2"))),
                    latency_ms=draw(st.sampled_from((None, 0.1, 0.2, 1e9))),
                )
            )
            at += draw(st.sampled_from(steps))
    return draw(st.permutations(events))
