"""What every event says or may say about itself: what, when, who, where."""

from __future__ import annotations

from datetime import datetime

from exp_pipeline.contracts.canonical.columns import column

EARLIEST_CLIENT, EARLIEST_SERVER, LATEST = datetime(1970, 1, 1), datetime(2000, 1, 1), datetime(2200, 1, 1)
ROLES = ("student", "teacher", "staff", "test")

ENVELOPE = (
    column(
        "event_id",
        "string",
        "Idempotency key: the same event sent twice carries it twice.",
        sample="evt-000001",
        always=True,
        filled=True,
    ),
    column(
        "event_name",
        "string",
        "Which fact of the taxonomy this row states.",
        sample="answer_attempted",
        always=True,
    ),
    column(
        "schema_version", "string", "Version of the event's contract, major.minor.", sample="1.0", always=True
    ),
    column(
        "client_ts",
        "timestamp",
        "When it happened by the client's clock.",
        unit="UTC",
        sample=datetime(2026, 3, 2, 9, 15, 30, 250_000),
        always=True,
        ge=EARLIEST_CLIENT,
        lt=LATEST,
    ),
    column(
        "received_at",
        "timestamp",
        "When the server received it.",
        unit="UTC",
        sample=datetime(2026, 3, 2, 9, 15, 31),
        always=True,
        ge=EARLIEST_SERVER,
        lt=LATEST,
    ),
    column(
        "occurred_at",
        "timestamp",
        "When it happened: client_ts, or received_at where the client's clock is over five minutes ahead.",
        unit="UTC",
        sample=datetime(2026, 3, 2, 9, 15, 30, 250_000),
        always=True,
        derived=True,
    ),
    column(
        "learner_id",
        "string",
        "Pseudonymous learner whom the event is about.",
        sample="learner-0001",
        always=True,
        filled=True,
        identifier=True,
    ),
    column("role", "string", "Role of the account that acted.", sample="student", always=True, isin=ROLES),
    column(
        "platform",
        "string",
        "Product surface the client runs on, in the producer's words (web, ios, ...).",
        sample="web",
        always=True,
        filled=True,
    ),
    column(
        "app_version",
        "string",
        "Version of the client or service that sent the event.",
        sample="4.2.0",
        always=True,
        filled=True,
    ),
    column(
        "device_id",
        "string",
        "Device, which learners may share.",
        sample="device-0001",
        filled=True,
        identifier=True,
    ),
    column(
        "class_id",
        "string",
        "Class in whose context it happened.",
        sample="class-01",
        filled=True,
        identifier=True,
    ),
    column(
        "teacher_id", "string", "Teacher of that class.", sample="teacher-01", filled=True, identifier=True
    ),
    column("school_id", "string", "School of that class.", sample="school-01", filled=True, identifier=True),
    column(
        "district_id",
        "string",
        "District of that school.",
        sample="district-01",
        filled=True,
        identifier=True,
    ),
    column(
        "session_id",
        "string",
        "The producer's own session id; sessions are cut again by rule and compared with it.",
        sample="session-0001",
        filled=True,
    ),
    column(
        "conversation_id",
        "string",
        "Conversation with the tutor, which may span sessions.",
        sample="conversation-0001",
        filled=True,
    ),
    column(
        "turn_id",
        "string",
        "Turn: one learner message and what answered it.",
        sample="turn-0001",
        filled=True,
    ),
    column(
        "turn_index",
        "integer",
        "Position of the turn in its conversation, from 0.",
        unit="turns",
        sample=0,
        ge=0,
        le=1_000_000,
    ),
    column(
        "content_id",
        "string",
        "Exercise, step, lesson or generated item.",
        sample="fractions-add-07",
        filled=True,
    ),
    column(
        "learning_objective_id",
        "string",
        "Learning objective being worked on; a new one starts a new session.",
        sample="fractions-add",
        filled=True,
    ),
    column("locale", "string", "Language and region of the interface, as a BCP 47 tag.", sample="en-US"),
    column(
        "user_agent", "string", "User agent string of the client, used to find bots.", sample="Mozilla/5.0"
    ),
)
