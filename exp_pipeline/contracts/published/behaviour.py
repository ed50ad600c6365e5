"""What is made of events: learner-days, sessions, turns, and who sat in which class with which content."""

from __future__ import annotations

from exp_pipeline.contracts.published.base import (
    Column,
    PublishedTable,
    RowRule,
    count,
    day,
    flag,
    key64,
    moment,
    number,
    on_its_day,
    small,
    text,
)

END_REASONS = ("explicit", "idle", "objective", "cap", "device", "open")
TURN_OUTCOMES = ("answered", "unanswered", "no_submission")

_LEARNER_KEY = key64("learner_key", "First 64 bits of the learner's pseudonym.")
_LEARNER = text("learner_id", "Pseudonymous learner.")
_ENDS_AFTER_START = RowRule("ends_after_start", "ended_at >= started_at", "Nothing ends before it starts.")
_TURNS_ARE_EVENTS = RowRule(
    "turns_are_events", "n_turns <= n_events AND n_responses <= n_events", "Turns are made of events."
)


def _client(of: str) -> tuple[Column, ...]:
    return (
        text("role", f"Role of the account, {of}."),
        text("platform", f"Product surface, {of}."),
        text("app_version", f"Version of the client, {of}."),
        text("locale", f"Language and region of the interface, {of}.", nullable=True),
        text("class_id", f"Class, {of}.", nullable=True),
    )


_SCHOOL = text("school_id", "School of that class.", nullable=True)
_DISTRICT = text("district_id", "District of that school.", nullable=True)
_COUNTS = (
    count("n_events", "Events in it (events).", ge=1),
    count("n_turns", "Messages the learner sent in it (tutor_turn_submitted)."),
    count("n_responses", "Answers the tutor showed in it (tutor_turn_response_shown)."),
)

LEARNER_DAYS = PublishedTable(
    name="learner_days",
    grain="One stretch of a learner's UTC day between assignments; one column a measure follows.",
    columns=(
        _LEARNER_KEY,
        day("event_date", "UTC day."),
        moment("started_at", "First event of the stretch (UTC); an assignment begins a new one."),
        moment("ended_at", "Last event of the stretch (UTC)."),
        count("n_events", "Events in it (events).", ge=1),
    ),
    key=("learner_key", "event_date", "started_at"),
    rules=(_ENDS_AFTER_START, on_its_day("started_at")),
)

SESSIONS = PublishedTable(
    name="sessions",
    grain="One session of one learner, in the partition of the UTC day it started.",
    columns=(
        text("session_id", "Id made of learner and start.", unique=True),
        _LEARNER,
        _LEARNER_KEY,
        day("event_date", "UTC day it started."),
        moment("started_at", "Its first event (UTC)."),
        moment("ended_at", "Its last event (UTC)."),
        number("minutes", "From first to last event (minutes).", ge=0.0),
        text("end_reason", "How it ended; open where the data end before it is known.", isin=END_REASONS),
        *_COUNTS,
        text("producer_session_id", "The producer's own session id at its start.", nullable=True),
        flag(
            "producer_session_agrees",
            "Whether the producer kept one session id from start to end; null where it sends none.",
            nullable=True,
        ),
        text("objective", "Learning objective worked on; null where events name none.", nullable=True),
        *_client("at its first event"),
        text("teacher_id", "Teacher of that class.", nullable=True),
        _SCHOOL,
        _DISTRICT,
    ),
    rules=(_ENDS_AFTER_START, on_its_day("started_at"), _TURNS_ARE_EVENTS),
)

TURNS = PublishedTable(
    name="turns",
    grain="One turn: one learner message and what answered it, in the partition of the UTC day it began.",
    columns=(
        text("turn_id", "The producer's turn id."),
        small(
            "turn_part",
            "INTEGER",
            "Which use of the turn id by this learner, from 1: a long gap makes a new turn.",
            ge=1,
        ),
        _LEARNER,
        _LEARNER_KEY,
        day("event_date", "UTC day it began."),
        moment("started_at", "Its first event (UTC)."),
        moment("ended_at", "Its last event (UTC)."),
        moment("submitted_at", "When the learner sent the message (UTC).", nullable=True),
        moment("responded_at", "When the first answer was shown (UTC).", nullable=True),
        count("n_requests", "Model requests (requests)."),
        count("n_tool_calls", "Tool calls (calls)."),
        count("n_responses", "Answers shown (answers)."),
        count("retries", "Most failed calls before one of its events (calls).", nullable=True),
        number("latency_ms", "Longest time to a whole answer (ms).", nullable=True, ge=0.0),
        number("ttft_ms", "Longest time to a first token (ms).", nullable=True, ge=0.0),
        count("tokens_in", "Tokens read for its answers (tokens).", nullable=True),
        count("tokens_out", "Tokens written in its answers (tokens).", nullable=True),
        number("cost_usd", "Cost of its answers (USD).", nullable=True, ge=0.0),
        text("model_version", "Version of the model that answered; the highest of several.", nullable=True),
        text("prompt_version", "Version of the prompt template; the highest of several.", nullable=True),
        text("platform", "Product surface; the highest of several."),
        text("outcome", "Whether it was answered.", isin=TURN_OUTCOMES),
    ),
    key=("learner_key", "turn_id", "event_date", "turn_part"),
    rules=(
        _ENDS_AFTER_START,
        on_its_day("started_at"),
        RowRule(
            "outcome_fits",
            "(outcome = 'no_submission') = (submitted_at IS NULL) "
            "AND (outcome <> 'answered' OR responded_at IS NOT NULL)",
            "A turn without a message says so, and an answered one has an answer.",
        ),
    ),
)

ENROLLMENTS = PublishedTable(
    name="enrollments",
    grain="One stay of one learner in one class: from the first event there until the first event elsewhere.",
    columns=(
        _LEARNER,
        _LEARNER_KEY,
        text("class_id", "Class."),
        text("teacher_id", "Teacher of that class at the start of the stay.", nullable=True),
        _SCHOOL,
        _DISTRICT,
        moment("start_at", "First event in the class (UTC)."),
        moment(
            "end_at", "First event in another class (UTC, not included); null while it lasts.", nullable=True
        ),
    ),
    rules=(RowRule("ends_after_start", "end_at >= start_at", "A stay does not end before it starts."),),
)

ROSTER = PublishedTable(
    name="roster",
    grain="One stay of one learner in one class, as the school's own list says it.",
    columns=(
        _LEARNER,
        _LEARNER_KEY,
        text("class_id", "Class."),
        text("teacher_id", "Teacher named with the stay.", nullable=True),
        text("school_id", "School named with the stay.", nullable=True),
        text("district_id", "District named with the stay.", nullable=True),
        moment("start_at", "Start of the stay (UTC)."),
        moment(
            "end_at",
            "End of the stay, or start of the learner's next one (UTC, not included); null while it lasts.",
            nullable=True,
        ),
        text("file", "Roster file, by the first 16 hex digits of its SHA-256."),
        count("row_number", "Place of the row in its file (1 is the first).", ge=1),
    ),
    key=("learner_id", "start_at"),
    rules=(RowRule("ends_after_start", "end_at > start_at", "A stay ends after it starts."),),
)

ROSTER_REASONS = (
    "not_utf8",
    "not_json",
    "not_an_object",
    "unknown_format",
    "missing_student",
    "missing_class",
    "missing_start_at",
    "wrong_type:start_at",
    "wrong_type:end_at",
    "ends_before_start",
    "overlapping_stay",
    "erased",
)

ROSTER_QUARANTINE = PublishedTable(
    name="roster_quarantine",
    grain="One row of a roster file that gives no stay.",
    columns=(
        text("file", "Roster file, by the first 16 hex digits of its SHA-256."),
        count("row_number", "Place of the row in its file (1 is the first).", ge=1),
        text("reason", "Why it gives no stay.", isin=ROSTER_REASONS),
    ),
)

CONTENT = PublishedTable(
    name="content",
    grain="One content item with one learning objective, as events name them.",
    columns=(
        text("content_id", "Exercise, step, lesson or generated item."),
        text("learning_objective_id", "Learning objective named beside it.", nullable=True),
        moment("first_seen_at", "First event that names both (UTC)."),
        moment("last_seen_at", "Last event that names both (UTC)."),
        count("n_events", "Events that name both (events).", ge=1),
    ),
    key=("content_id", "learning_objective_id"),
    rules=(
        RowRule("seen_in_order", "last_seen_at >= first_seen_at", "The last sight is not before the first."),
    ),
)
