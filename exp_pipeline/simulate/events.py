"""Simulated rows as a table of canonical events, the way the product's own log would hold them."""

from __future__ import annotations

from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

from exp_pipeline.simulate.behaviour import ITEMS_PER_OBJECTIVE, OBJECTIVES, Day, behave
from exp_pipeline.simulate.plan import SimulationPlan
from exp_pipeline.simulate.population import (
    APP_VERSIONS,
    EVENTS,
    LOCALES,
    PLATFORMS,
    ROLES,
    Bools,
    Ints,
    population,
    stream,
)
from exp_pipeline.simulate.rows import FAULT, KIND, KINDS, Rows, rows_of

MODEL = {
    "model_name": "tutor-large",
    "model_version": "2026-01-15",
    "retrieval_version": "curriculum-12",
    "safety_policy_version": "safety-4",
    "decoder_hash": "d41f0a92",
}
# What is known when the request leaves; the whole receipt comes with the response.
REQUEST_FIELDS = ("model_name", "model_version")
PROMPT_VERSION = "tutor-7"
SAFETY_OUTCOMES = ("passed", "modified", "blocked")
FINISH_REASONS = ("stop", "length")
SEVERITIES = ("S1", "S2", "S3")
TOOLS = ("calculator", "curriculum_search", "graph_plotter")
SCHEMA_VERSION = "1.0"
# The app version that a conflicting copy claims; no account has it.
CONFLICTING_APP_VERSION = "5.4.3-rc1"
_IDS = 2_000_000

Anything = npt.NDArray[np.generic]


def _valued(values: Anything, valid: Bools | None = None) -> pl.Series:
    """Numbers as a column, null where not valid."""
    column = pl.Series(values=values)
    if valid is None:
        return column
    return pl.select(pl.when(pl.Series(values=valid)).then(column)).to_series()


def _worded(vocabulary: pl.Series, codes: Ints, valid: Bools | None = None) -> pl.Series:
    """Words of a vocabulary by code, null where not valid."""
    if valid is None:
        return vocabulary.gather(pl.Series(values=codes))
    return vocabulary.gather(_valued(np.where(valid, codes, 0), valid))


def _words(*words: str) -> pl.Series:
    return pl.Series(words, dtype=pl.String)


def _hex_ids(random: np.random.Generator, count: int, digits: int) -> pl.Series:
    """Random lower-case hex ids of equal length, shape `(count,)`."""
    text = random.bytes(count * digits // 2).hex()
    return pl.Series(
        values=[text[at : at + digits] for at in range(0, count * digits, digits)], dtype=pl.String
    )


# Keeps the vocabularies of a plan without experiments from being empty; never logged.
NO_WORD = ""
ERROR_CODES = _words("network_timeout", "render_failed")
TICKETS = _words("wrong-answer", "cannot-sign-in")


def _prompt_versions(plan: SimulationPlan, day: Day) -> tuple[pl.Series, Ints]:
    """Prompt versions, and each session's position in it: the arm's own or the standing one."""
    words = [PROMPT_VERSION]
    code = np.zeros(day.account.size, dtype=np.int64)
    for place, experiment in enumerate(plan.experiments):
        for position, arm in enumerate(experiment.arms):
            if arm.prompt_version is not None:
                words.append(arm.prompt_version)
                code[day.arm[place] == position] = len(words) - 1
    return _words(*words), code


def frame_of(plan: SimulationPlan, day: Day, rows: Rows) -> pl.DataFrame:
    """What do these rows look like as canonical events? One row each, in the order given, raw ids inside."""
    people = population(plan)
    ids = stream(plan, EVENTS, _IDS + day.index)
    event_ids = _hex_ids(ids, rows.events(), plan.id_hex_digits)
    session_ids = _hex_ids(ids, day.account.size, plan.id_hex_digits)
    turn_ids = _hex_ids(ids, day.session.size, plan.id_hex_digits)

    kind, session = rows.kind, rows.session
    account = day.account[session]
    class_of = people.class_of[account]
    has_turn = rows.turn >= 0
    turn = np.where(has_turn, rows.turn, 0)

    def of(*names: str) -> Bools:
        return np.isin(kind, [KIND[name] for name in names])

    asked, response = of("model_request_created"), of("tutor_turn_response_shown")
    modelled = asked | response
    answer, assessment = of("answer_attempted"), of("assessment_completed")
    hint, tool = of("hint_requested"), of("tool_call_executed")
    objective_codes = np.arange(OBJECTIVES * ITEMS_PER_OBJECTIVE)
    items = _words(
        *(f"item-{c // ITEMS_PER_OBJECTIVE:02d}-{c % ITEMS_PER_OBJECTIVE:02d}" for c in objective_codes)
    )
    objectives = _words(*(f"objective-{c:02d}" for c in range(OBJECTIVES)))
    prompts, prompt_code = _prompt_versions(plan, day)
    everyone = np.zeros(kind.size, dtype=np.int64)

    app = people.app_version[account].copy()
    app[rows.fault == FAULT["conflicting_duplicate"]] = len(APP_VERSIONS)
    columns: dict[str, pl.Series] = {
        "event_id": event_ids.gather(pl.Series(values=rows.event)),
        "event_name": _worded(_words(*KINDS), kind),
        "schema_version": _worded(_words(SCHEMA_VERSION), everyone),
        "client_ts": pl.Series(values=rows.client * 1_000).cast(pl.Datetime("us")),
        "received_at": pl.Series(values=rows.received * 1_000).cast(pl.Datetime("us")),
        "learner_id": _worded(people.learner_ids, account),
        "role": _worded(_words(*ROLES), people.role[account]),
        "platform": _worded(_words(*PLATFORMS), people.platform[account]),
        "app_version": _worded(_words(*APP_VERSIONS, CONFLICTING_APP_VERSION), app),
        "device_id": _worded(people.device_ids, people.device[account]),
        "class_id": _worded(people.class_ids, class_of),
        "teacher_id": _worded(people.teacher_ids, class_of),
        "school_id": _worded(people.school_ids, people.school_of_class[class_of]),
        "district_id": _worded(_words("district-01"), everyone),
        "session_id": session_ids.gather(pl.Series(values=session)),
        "turn_id": _worded(turn_ids, turn, has_turn),
        "turn_index": _valued(day.turn_index[turn], has_turn),
        "content_id": _worded(
            items, day.objective[turn] * ITEMS_PER_OBJECTIVE + day.item[turn], answer | hint
        ),
        "learning_objective_id": _worded(objectives, day.objective[turn], has_turn),
        "locale": _worded(_words(*LOCALES), people.locale[account]),
    }
    for field, value in MODEL.items():
        columns[field] = _worded(_words(value), everyone, modelled if field in REQUEST_FIELDS else response)
    columns |= {
        "prompt_version": _worded(prompts, prompt_code[session], modelled),
        "tokens_in": _valued(day.tokens_in[turn], response),
        "tokens_out": _valued(day.tokens_out[turn], response),
        "cost_usd": _valued(day.cost[turn], response),
        "ttft_ms": _valued(day.ttft[turn].astype(float), response),
        "latency_ms": _valued(
            np.where(tool, day.tool_delay[turn], day.latency[turn]).astype(float), response | tool
        ),
        "safety_outcome": _worded(_words(*SAFETY_OUTCOMES), day.safety[turn], response),
        "finish_reason": _worded(_words(*FINISH_REASONS), day.finish[turn], response),
        "retry_count": _valued(day.retries[turn], response),
        "prompt_chars": _valued(day.prompt_chars[turn], of("tutor_turn_submitted") | response),
        "completion_chars": _valued(day.tokens_out[turn] * 4, response),
        "tool_name": _worded(_words(*TOOLS), day.item[turn] % len(TOOLS), tool),
        "tool_status": _worded(_words("ok"), everyone, tool),
        "correct": _valued(day.correct[turn], answer),
        "mastery": _valued(day.mastery[turn], answer),
        "attempt_number": _valued(day.attempt[turn], answer),
        "answer_revealed": _valued(day.revealed[turn], answer),
        "hint_level": _valued(1 + day.item[turn] % 3, hint),
        "score": _valued(day.score[session].astype(float), assessment),
        "max_score": _valued(np.full(kind.size, 10.0), assessment),
        "assessment_kind": _worded(_words("formative"), everyone, assessment),
        "helpful": _valued(day.helpful[turn], of("feedback_given")),
        "severity": _worded(_words(*SEVERITIES), day.severity[turn], of("safety_flagged")),
        "origin": _worded(_words("model", "user"), day.item[turn] % 2, of("safety_flagged")),
        "error_code": _worded(ERROR_CODES, day.item[turn] % 2, of("client_error_raised")),
        "end_reason": _worded(_words("completed"), everyone, of("tutor_session_ended")),
        "ticket_category": _worded(TICKETS, day.item[turn] % 2, of("support_ticket_opened")),
    }
    columns |= _experiment_columns(plan, day, rows)
    return pl.DataFrame(columns)


def _experiment_columns(plan: SimulationPlan, day: Day, rows: Rows) -> dict[str, pl.Series]:
    people = population(plan)
    account = day.account[rows.session]
    assigned = rows.kind == KIND["experiment_assigned"]
    exposed = rows.kind == KIND["experiment_exposed"]
    logged = assigned | exposed
    arm_words: list[str] = []
    arm = np.zeros(rows.kind.size, dtype=np.int64)
    by_class = np.zeros(rows.kind.size, dtype=bool)
    for place, experiment in enumerate(plan.experiments):
        here = logged & (rows.experiment == place)
        arm[here] = day.arm[place][rows.session[here]] + len(arm_words)
        arm_words += [truth.name for truth in experiment.arms]
        by_class |= assigned & (rows.experiment == place) & (experiment.unit == "class")
    names = _words(*[experiment.name for experiment in plan.experiments], NO_WORD)
    versions = np.array([*(experiment.version for experiment in plan.experiments), 0], dtype=np.int64)
    surfaces = _words(*[experiment.surface for experiment in plan.experiments], NO_WORD)
    units = pl.concat([people.learner_ids, people.class_ids])
    unit = np.where(by_class, len(people.learner_ids) + people.class_of[account], account)
    return {
        "experiment": _worded(names, rows.experiment, logged),
        "experiment_version": _valued(versions[rows.experiment], logged),
        "unit_type": _worded(_words("learner", "class"), by_class.astype(np.int64), logged),
        "unit_id": _worded(units, unit, logged),
        "arm": _worded(_words(*arm_words, NO_WORD), arm, logged),
        "assignment_source": _worded(_words("logged"), np.zeros(rows.kind.size, dtype=np.int64), assigned),
        "surface": _worded(surfaces, rows.experiment, exposed),
    }


def simulate_day(plan: SimulationPlan, day: date) -> pl.DataFrame:
    """What does the product log for the sessions that start on this UTC day?

    Canonical events with raw ids, retries and other faults of the plan included, ordered by `received_at`.
    Sessions that start before midnight carry on, and late rows arrive up to 5 days later, so `client_ts` and
    `received_at` may lie after the day. Any day can be made alone. Raises ValueError outside the plan.
    """
    lived = behave(plan, plan.index(day))
    return frame_of(plan, lived, rows_of(plan, lived))
