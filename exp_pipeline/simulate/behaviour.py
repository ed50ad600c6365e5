"""What learners do on one simulated day, as plain arrays: sessions, turns, answers, and what arms change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from exp_pipeline.simulate.plan import SimulationPlan
from exp_pipeline.simulate.population import (
    EVENTS,
    Bools,
    Floats,
    Ints,
    Population,
    inside,
    population,
    stream,
)

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
OBJECTIVES = 24
ITEMS_PER_OBJECTIVE = 40


@dataclass(frozen=True, slots=True)
class Day:
    """One day's sessions, shape `(sessions,)`, and turns, shape `(turns,)`; times are ms since the epoch.

    `arm` holds, per experiment, the arm position by session (-1: none is in force). `assigned` marks the
    sessions in which the product logs an assignment. `mastery_draw` and `accuracy_draw` are the uniforms
    behind each answer and the logits are those without any experiment, so that what the same answer would
    have been in another arm can be computed (`truth`).
    """

    index: int
    account: Ints
    session_start: Ints
    session_end: Ints
    explicit_end: Bools
    assessed: Bools
    score: Ints
    arm: tuple[Ints, ...]
    assigned: tuple[Bools, ...]
    exposed: tuple[Bools, ...]
    session: Ints
    turn_index: Ints
    submitted: Ints
    request_delay: Ints
    tool: Bools
    tool_delay: Ints
    latency: Ints
    ttft: Ints
    hint: Bools
    hint_delay: Ints
    answered: Bools
    answer_delay: Ints
    attempt: Ints
    objective: Ints
    item: Ints
    correct: Bools
    mastery: Bools
    revealed: Bools
    accuracy_logit: Floats
    accuracy_draw: Floats
    mastery_logit: Floats
    mastery_draw: Floats
    feedback: Bools
    helpful: Bools
    flagged: Bools
    severity: Ints
    ticket: Bools
    client_error: Bools
    tokens_in: Ints
    tokens_out: Ints
    cost: Floats
    safety: Ints
    finish: Ints
    retries: Ints
    prompt_chars: Ints


def logistic(logit: Floats) -> Floats:
    """What probability has this logit? Same shape as given."""
    return 1.0 / (1.0 + np.exp(-logit))


def arm_values(plan: SimulationPlan, experiment: int, field: str, neutral: float) -> Floats:
    """One declared effect by arm position, shape `(arms + 1,)`; position -1 holds the neutral value."""
    return np.array(
        [*(getattr(arm, field) for arm in plan.experiments[experiment].arms), neutral], dtype=float
    )


def _starts(
    plan: SimulationPlan, index: int, ordinal: Ints, last: Bools, random: np.random.Generator
) -> Ints:
    """Start of each session in ms since midnight: lessons by day, homework in the evening (UTC)."""
    lesson = random.choice(np.array([8.25, 9.25, 10.5, 11.5, 13.25, 14.25]), ordinal.size) * HOUR
    lesson += random.gamma(2.0, 4.0, ordinal.size) * MINUTE
    homework = (18.0 + 1.5 * (ordinal - 1)) * HOUR + random.uniform(0, 50, ordinal.size) * MINUTE
    start = np.where(ordinal == 0, lesson, homework)
    if plan.day(index).weekday() >= 5:
        start = np.where(ordinal == 0, random.uniform(9, 17, ordinal.size) * HOUR, start)
    late_night = (random.random(ordinal.size) < plan.midnight_share) & last & (index < plan.days - 1)
    start = np.where(late_night, 23.75 * HOUR + random.uniform(0, 14, ordinal.size) * MINUTE, start)
    return start.astype(np.int64)


def _assigned(
    plan: SimulationPlan, people: Population, index: int, place: int, account: Ints, start: Ints
) -> Bools:
    """In which sessions does the product log an assignment to this experiment?"""
    experiment = plan.experiments[place]
    eligible = people.arms[place][account] >= 0
    firsts = np.zeros(account.size, dtype=bool)
    unit = account if experiment.unit == "learner" else people.class_of[account]
    first_day = people.first_day[place] if experiment.unit == "learner" else people.class_first_day[place]
    due = np.flatnonzero(eligible & (first_day[unit] == index))
    due = due[np.lexsort((start[due], unit[due]))]
    _, earliest = np.unique(unit[due], return_index=True)
    firsts[due[earliest]] = True
    switched = np.flatnonzero(
        (people.switched[place][account] >= 0) & (people.first_day[place][account] < index)
    )
    _, earliest = np.unique(account[switched], return_index=True)
    for session in switched[earliest].tolist():
        since = people.first_day[place][account[session]] + 1
        firsts[session] = int(people.sessions[since:index, account[session]].sum()) == 0
    return firsts


def behave(plan: SimulationPlan, index: int) -> Day:
    """What does everybody do on the day at this position? Sessions belong to the day they start on.

    Raises ValueError where the position lies outside the plan.
    """
    if not 0 <= index < plan.days:
        raise ValueError(f"index must lie in 0..{plan.days - 1}, got {index}")
    people = population(plan)
    random = stream(plan, EVENTS, index)
    midnight = (plan.day(index) - date(1970, 1, 1)).days * DAY
    counts = people.sessions[index].astype(np.int64)
    account = np.repeat(np.arange(counts.size), counts)
    ordinal = np.arange(account.size) - np.repeat(np.cumsum(counts) - counts, counts)
    start = midnight + _starts(plan, index, ordinal, ordinal == counts[account] - 1, random)

    arm, assigned, exposed = [], [], []
    for place, experiment in enumerate(plan.experiments):
        running = plan.index(experiment.start) <= index < plan.index(experiment.end)
        current = people.arms[place][account] if running else np.full(account.size, -1, dtype=np.int64)
        moved = (people.switched[place][account] >= 0) & (people.first_day[place][account] < index) & running
        current = np.where(moved, people.switched[place][account], current)
        if experiment.traffic is not None:
            share = experiment.share_on(plan.day(index))
            current = np.where(inside(share, people.entry[place][account]), current, -1)
        arm.append(current)
        if running:
            assigned.append(_assigned(plan, people, index, place, account, start))
        else:
            assigned.append(np.zeros(account.size, dtype=bool))
        exposed.append((random.random(account.size) < plan.exposure_share) & (current >= 0))

    turns_per_session = 1 + random.poisson(
        (plan.turns_per_session - 1) * random.gamma(3.0, 1 / 3, account.size), account.size
    )
    turns_per_session = np.minimum(turns_per_session, 60)
    session = np.repeat(np.arange(account.size), turns_per_session)
    first_turn = np.cumsum(turns_per_session) - turns_per_session
    n = session.size
    turn_index = np.arange(n) - first_turn[session]
    who = account[session]
    ability, pace = people.ability[who], people.pace[who]

    accuracy_effect, mastery_effect = np.zeros(n), np.zeros(n)
    latency_factor, cost_factor, giveaway_factor = np.ones(n), np.ones(n), np.ones(n)
    for place in range(len(plan.experiments)):
        of_turn = arm[place][session]
        accuracy_effect += arm_values(plan, place, "accuracy_log_odds", 0.0)[of_turn]
        mastery_effect += arm_values(plan, place, "mastery_log_odds", 0.0)[of_turn]
        latency_factor *= arm_values(plan, place, "latency_multiplier", 1.0)[of_turn]
        cost_factor *= arm_values(plan, place, "cost_multiplier", 1.0)[of_turn]
        giveaway_factor *= arm_values(plan, place, "giveaway_multiplier", 1.0)[of_turn]

    tool = random.random(n) < 0.22
    tool_delay = random.integers(120, 600, n)
    thinking = random.lognormal(np.log(900.0), 0.45, n)
    latency = np.rint((150 + thinking + np.where(tool, tool_delay, 0)) * latency_factor).astype(np.int64)
    ttft = np.rint(latency * random.uniform(0.2, 0.45, n)).astype(np.int64)
    answer_delay = np.rint(random.uniform(20, 80, n) * pace * SECOND).astype(np.int64)
    hint_delay = np.rint(answer_delay * random.uniform(0.2, 0.7, n)).astype(np.int64)
    dwell = (
        answer_delay + 8 * SECOND + np.rint(random.lognormal(np.log(22.0), 0.6, n) * SECOND).astype(np.int64)
    )
    idle = random.random(n) < plan.idle_gap_share
    dwell += np.where(idle, np.rint(random.uniform(20, 70, n) * MINUTE).astype(np.int64), 0)
    span = dwell + latency
    before = np.cumsum(span) - span
    submitted = start[session] + random.integers(3 * SECOND, 20 * SECOND, account.size)[session]
    submitted = submitted + before - before[first_turn[session]]

    changes = (random.random(n) < plan.objective_change_share / max(plan.turns_per_session, 1.0)) & (
        turn_index > 0
    )
    shift = np.cumsum(changes)
    objective = (random.integers(0, OBJECTIVES, account.size)[session] + shift) % OBJECTIVES
    new_item = changes | (turn_index == 0) | (random.random(n) < 0.55)
    item_run = np.cumsum(new_item) - 1
    item = (
        random.integers(0, ITEMS_PER_OBJECTIVE, int(new_item.sum()) if n else 0)[item_run] if n else item_run
    )
    answered = random.random(n) < 0.72
    answers = np.cumsum(answered)
    run_start = np.maximum.accumulate(np.where(new_item, np.arange(n), 0)) if n else item_run
    attempt: Ints = answers - (answers - answered)[run_start]

    accuracy_logit = plan.accuracy_intercept + plan.ability_on_accuracy * ability + 0.35 * (attempt - 1)
    mastery_logit = plan.mastery_intercept + plan.ability_on_mastery * ability
    accuracy_draw, mastery_draw = random.random(n), random.random(n)
    correct = accuracy_draw < logistic(accuracy_logit + accuracy_effect)
    mastery = correct & (mastery_draw < logistic(mastery_logit + mastery_effect))
    tokens_in = np.rint(random.lognormal(np.log(820.0), 0.35, n)).astype(np.int64) + 40 * turn_index
    tokens_out = np.rint(random.lognormal(np.log(150.0), 0.5, n)).astype(np.int64) + 1
    unsafe = random.random(n)
    feedback = random.random(n) < 0.05
    return Day(
        index=index,
        account=account,
        session_start=start,
        session_end=_session_ends(account.size, session, submitted + span) + 5 * SECOND,
        explicit_end=random.random(account.size) < plan.explicit_end_share,
        assessed=random.random(account.size) < 0.07,
        score=random.binomial(10, logistic(0.3 + 0.9 * people.ability[account])).astype(np.int64),
        arm=tuple(arm),
        assigned=tuple(assigned),
        exposed=tuple(exposed),
        session=session,
        turn_index=turn_index,
        submitted=submitted,
        request_delay=random.integers(20, 110, n),
        tool=tool,
        tool_delay=tool_delay,
        latency=latency,
        ttft=ttft,
        hint=random.random(n) < 0.2,
        hint_delay=hint_delay,
        answered=answered,
        answer_delay=answer_delay,
        attempt=attempt,
        objective=objective,
        item=item,
        correct=correct,
        mastery=mastery,
        revealed=random.random(n) < np.minimum(0.06 * giveaway_factor, 1.0),
        accuracy_logit=accuracy_logit,
        accuracy_draw=accuracy_draw,
        mastery_logit=mastery_logit,
        mastery_draw=mastery_draw,
        feedback=feedback,
        helpful=random.random(n) < 0.8,
        flagged=unsafe < 0.002,
        severity=random.choice(3, n, p=[0.02, 0.18, 0.8]),
        ticket=random.random(n) < 0.0006,
        client_error=random.random(n) < 0.006,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cost=np.round((tokens_in * 4e-7 + tokens_out * 1.6e-6) * cost_factor, 6),
        safety=np.where(unsafe < 0.0012, 2, np.where(unsafe < 0.004, 1, 0)),
        finish=np.where(random.random(n) < 0.985, 0, 1),
        retries=(random.random(n) < 0.01).astype(np.int64),
        prompt_chars=np.rint(random.lognormal(np.log(60.0), 0.6, n)).astype(np.int64) + 1,
    )


def _session_ends(sessions: int, session: Ints, ends: Ints) -> Ints:
    last = np.zeros(sessions, dtype=np.int64)
    np.maximum.at(last, session, ends)
    return last
