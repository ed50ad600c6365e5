"""Which rows a simulated day logs, when they arrive, and which of them suffer a fault."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from exp_pipeline.simulate.behaviour import DAY, HOUR, MINUTE, SECOND, Day
from exp_pipeline.simulate.plan import SimulationPlan
from exp_pipeline.simulate.population import EVENTS, FAULTS, WEEKDAY_ACTIVITY, Bools, Ints, population, stream

KINDS = (
    "tutor_session_started", "experiment_assigned", "experiment_exposed", "tutor_turn_submitted",
    "model_request_created", "tool_call_executed", "tutor_turn_response_shown", "hint_requested",
    "answer_attempted", "feedback_given", "safety_flagged", "support_ticket_opened", "client_error_raised",
    "assessment_completed", "tutor_session_ended",
)  # fmt: skip
KIND = {name: code for code, name in enumerate(KINDS)}

FAULT_KINDS = (
    "none",
    "retry",
    "late",
    "conflicting_duplicate",
    "too_late",
    "clock_skewed",
    "clock_year_ahead",
)
FAULT = {name: code for code, name in enumerate(FAULT_KINDS)}
# Late rows need days after them to arrive on, so no late row is planted in the last days of a plan.
TOO_LATE_DAYS = 5
# Day index of the stream that spreads the counted faults over the days; no plan has that many days.
_SPREAD = 1_000_000


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one day, in order of receipt; every array has shape `(rows,)`.

    `event` numbers distinct events (a duplicate has its original's number); `turn` and `experiment` are -1
    where they do not apply; times are ms since the epoch.
    """

    kind: Ints
    event: Ints
    session: Ints
    turn: Ints
    experiment: Ints
    client: Ints
    received: Ints
    fault: Ints

    def events(self) -> int:
        """How many distinct events are among the rows?"""
        return int(self.event.max()) + 1 if self.event.size else 0


def faults_of_day(plan: SimulationPlan, index: int) -> dict[str, int]:
    """How many of each counted fault fall on this day? Adds up over the days to what the plan declares."""
    weights = np.array([WEEKDAY_ACTIVITY[plan.day(day).weekday()] for day in range(plan.days)])
    weights[max(plan.days - TOO_LATE_DAYS, 1) :] = 0.0
    random = stream(plan, FAULTS, _SPREAD)
    planned = plan.faults
    counts = {
        "conflicting_duplicate": planned.conflicting_duplicates,
        "too_late": planned.too_late,
        "clock_skewed": planned.clock_skewed,
        "clock_year_ahead": planned.clock_year_ahead,
        "not_json": planned.not_json,
        "not_utf8": planned.not_utf8,
        "truncated": planned.truncated,
        "contract_break": planned.contract_breaks,
    }
    share = weights / weights.sum()
    return {kind: int(random.multinomial(total, share)[index]) for kind, total in counts.items()}


def clean_rows(plan: SimulationPlan, day: Day) -> Rows:
    """Which rows would a faultless product log for this day? Ordered by session and time of the event."""
    blocks: list[tuple[int, Ints, Ints, Ints, int]] = []

    def by_session(name: str, which: Bools | None, at: Ints, experiment: int = -1) -> None:
        chosen = np.arange(day.account.size) if which is None else np.flatnonzero(which)
        blocks.append((KIND[name], chosen, np.full(chosen.size, -1, dtype=np.int64), at[chosen], experiment))

    def by_turn(name: str, which: Bools | None, at: Ints) -> None:
        chosen = np.arange(day.session.size) if which is None else np.flatnonzero(which)
        blocks.append((KIND[name], day.session[chosen], chosen, at[chosen], -1))

    shown = day.submitted + day.latency
    answered_at = shown + day.answer_delay
    by_session("tutor_session_started", None, day.session_start)
    for place in range(len(plan.experiments)):
        by_session("experiment_assigned", day.assigned[place], day.session_start + 40 + 7 * place, place)
        by_session("experiment_exposed", day.exposed[place], day.session_start + 90 + 7 * place, place)
    by_turn("tutor_turn_submitted", None, day.submitted)
    by_turn("model_request_created", None, day.submitted + day.request_delay)
    by_turn("tool_call_executed", day.tool, day.submitted + day.request_delay + day.tool_delay)
    by_turn("tutor_turn_response_shown", None, shown)
    by_turn("hint_requested", day.hint, shown + day.hint_delay)
    by_turn("answer_attempted", day.answered, answered_at)
    by_turn("feedback_given", day.feedback, answered_at + 3 * SECOND)
    by_turn("safety_flagged", day.flagged, shown + 1)
    by_turn("support_ticket_opened", day.ticket, answered_at + 4 * SECOND)
    by_turn("client_error_raised", day.client_error, day.submitted + 15)
    by_session("assessment_completed", day.assessed, day.session_end)
    by_session("tutor_session_ended", day.explicit_end, day.session_end + 2 * SECOND)

    sizes = [block[1].size for block in blocks]
    kind = np.repeat([block[0] for block in blocks], sizes)
    experiment = np.repeat([block[4] for block in blocks], sizes)
    session = np.concatenate([block[1] for block in blocks])
    turn = np.concatenate([block[2] for block in blocks])
    client = np.concatenate([block[3] for block in blocks])
    order = np.lexsort((kind, client, session))
    n = order.size
    random = stream(plan, EVENTS, _SPREAD + day.index)
    lag = random.lognormal(np.log(1_400.0), 0.7, n)
    # Some sessions run on school networks that let events out minutes later, in batches.
    offline = (random.random(day.account.size) < 0.02)[session[order]]
    lag += np.where(offline, random.uniform(2, 50, day.account.size)[session[order]] * MINUTE, 0.0)
    return Rows(
        kind=kind[order],
        event=np.arange(n),
        session=session[order],
        turn=turn[order],
        experiment=experiment[order],
        client=client[order],
        received=client[order] + np.rint(lag).astype(np.int64) + 50,
        fault=np.zeros(n, dtype=np.int64),
    )


def rows_of(plan: SimulationPlan, day: Day) -> Rows:
    """Which rows does this day really log, faults included? Ordered by receipt."""
    clean = clean_rows(plan, day)
    random = stream(plan, FAULTS, day.index)
    n = clean.kind.size
    student = population(plan).role[day.account][clean.session] == 0
    draw = random.random(n)
    planned = plan.faults
    retried = student & (draw < planned.retry_share)
    may_be_late = day.index + TOO_LATE_DAYS < plan.days
    late = student & ~retried & (draw < planned.retry_share + planned.late_share) & may_be_late

    spared = np.isin(clean.kind, [KIND["experiment_assigned"], KIND["experiment_exposed"]])
    free = random.permutation(np.flatnonzero(student & ~retried & ~late & ~spared))
    counted = faults_of_day(plan, day.index)
    fault, client, received = clean.fault.copy(), clean.client.copy(), clean.received.copy()
    fault[late] = FAULT["late"]
    taken: dict[str, Ints] = {}
    position = 0
    for name in ("conflicting_duplicate", "too_late", "clock_skewed", "clock_year_ahead"):
        taken[name] = free[position : position + counted[name]]
        position += counted[name]
    for name in ("too_late", "clock_skewed", "clock_year_ahead"):
        fault[taken[name]] = FAULT[name]

    noon = (client // DAY) * DAY + 12 * HOUR + random.integers(0, HOUR, n)
    received = np.where(late, noon + random.integers(1, 4, n) * DAY, received)
    received[taken["too_late"]] = noon[taken["too_late"]] + TOO_LATE_DAYS * DAY
    skewed, ahead = taken["clock_skewed"], taken["clock_year_ahead"]
    client[skewed] = received[skewed] + random.integers(6 * MINUTE, 3 * HOUR, skewed.size)
    client[ahead] += int(timedelta(days=365).total_seconds()) * SECOND

    again, changed = np.flatnonzero(retried), taken["conflicting_duplicate"]
    source = np.concatenate([np.arange(n), again, changed])
    delay = np.concatenate(
        [
            np.zeros(n, dtype=np.int64),
            random.integers(1 * SECOND, 4 * MINUTE, again.size),
            random.integers(1 * SECOND, 4 * MINUTE, changed.size),
        ]
    )
    what = np.concatenate(
        [
            fault,
            np.full(again.size, FAULT["retry"], dtype=np.int64),
            np.full(changed.size, FAULT["conflicting_duplicate"], dtype=np.int64),
        ]
    )
    arrived = received[source] + delay
    order = np.lexsort((what, client[source], arrived))
    source = source[order]
    return Rows(
        kind=clean.kind[source],
        event=clean.event[source],
        session=clean.session[source],
        turn=clean.turn[source],
        experiment=clean.experiment[source],
        client=client[source],
        received=arrived[order],
        fault=what[order],
    )
