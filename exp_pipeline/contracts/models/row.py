"""The canonical row: every column any event may carry, with its type, meaning, unit and range."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl

from exp_pipeline.contracts.models.base import Rule, Sample, add_rules, column, require

Timestamp = Annotated[pl.Datetime, "us", None]
EARLIEST_CLIENT, EARLIEST_SERVER, LATEST = datetime(1970, 1, 1), datetime(2000, 1, 1), datetime(2200, 1, 1)
MANY = 1_000_000_000

ROLES = ("student", "teacher", "staff", "test")
FINISH_REASONS = (
    "stop",
    "length",
    "tool_call",
    "content_filter",
    "refusal",
    "error",
    "timeout",
    "cancelled",
    "other",
)
SAFETY_OUTCOMES = ("passed", "modified", "refused", "blocked")

ROW_RULES = (
    Rule(
        "occurred_before_received",
        "received_at >= occurred_at - INTERVAL '5 minutes'",
        "An event happened at most five minutes after the server received it, once the skew rule is applied.",
    ),
    Rule(
        "score_le_max_score", "score <= max_score", "A score is at most the highest score that was possible."
    ),
    Rule("ttft_le_latency", "ttft_ms <= latency_ms", "The first token came no later than the whole answer."),
)


class Envelope(pa.DataFrameModel):
    """What every event says or may say about itself: what, when, who, where."""

    event_id: str = column(
        "Idempotency key: the same event sent twice carries it twice.",
        sample="evt-000001",
        always=True,
        filled=True,
    )
    event_name: str = column(
        "Which fact of the taxonomy this row states.", sample="answer_attempted", always=True
    )
    schema_version: str = column("Version of the event's contract, major.minor.", sample="1.0", always=True)
    client_ts: Timestamp = column(
        "When it happened by the client's clock.",
        unit="UTC",
        sample=datetime(2026, 3, 2, 9, 15, 30, 250_000),
        always=True,
        ge=EARLIEST_CLIENT,
        lt=LATEST,
    )
    received_at: Timestamp = column(
        "When the server received it.",
        unit="UTC",
        sample=datetime(2026, 3, 2, 9, 15, 31),
        always=True,
        ge=EARLIEST_SERVER,
        lt=LATEST,
    )
    occurred_at: Timestamp = column(
        "When it happened: client_ts, or received_at where the client's clock is over five minutes ahead.",
        unit="UTC",
        sample=datetime(2026, 3, 2, 9, 15, 30, 250_000),
        always=True,
        derived=True,
    )
    learner_id: str = column(
        "Pseudonymous learner whom the event is about.",
        sample="learner-0001",
        always=True,
        filled=True,
        identifier=True,
    )
    role: str = column("Role of the account that acted.", sample="student", always=True, isin=ROLES)
    platform: str = column(
        "Product surface the client runs on, in the producer's words (web, ios, ...).",
        sample="web",
        always=True,
        filled=True,
    )
    app_version: str = column(
        "Version of the client or service that sent the event.", sample="4.2.0", always=True, filled=True
    )
    device_id: str = column(
        "Device, which learners may share.", sample="device-0001", filled=True, identifier=True
    )
    class_id: str = column(
        "Class in whose context it happened.", sample="class-01", filled=True, identifier=True
    )
    teacher_id: str = column("Teacher of that class.", sample="teacher-01", filled=True, identifier=True)
    school_id: str = column("School of that class.", sample="school-01", filled=True, identifier=True)
    district_id: str = column("District of that school.", sample="district-01", filled=True, identifier=True)
    session_id: str = column(
        "The producer's own session id; sessions are cut again by rule and compared with it.",
        sample="session-0001",
        filled=True,
    )
    conversation_id: str = column(
        "Conversation with the tutor, which may span sessions.", sample="conversation-0001", filled=True
    )
    turn_id: str = column("Turn: one learner message and what answered it.", sample="turn-0001", filled=True)
    turn_index: int = column(
        "Position of the turn in its conversation, from 0.", unit="turns", sample=0, ge=0, le=1_000_000
    )
    content_id: str = column(
        "Exercise, step, lesson or generated item.", sample="fractions-add-07", filled=True
    )
    learning_objective_id: str = column(
        "Learning objective being worked on; a new one starts a new session.",
        sample="fractions-add",
        filled=True,
    )
    locale: str = column("Language and region of the interface, as a BCP 47 tag.", sample="en-US")
    user_agent: str = column("User agent string of the client, used to find bots.", sample="Mozilla/5.0")


class CanonicalEvent(Envelope):
    """What any event may say, whichever it is: one meaning, one type and one range for each column.

    A range or a list of allowed values holds wherever the column is filled, also on an event that does not
    ask for it, so that a sum over a column never meets a value that its meaning forbids.
    """

    model_name: str = column("Model that answered.", sample="tutor-large", filled=True)
    model_version: str = column("Exact version or snapshot of that model.", sample="2026-02-15", filled=True)
    prompt_version: str = column("Version of the prompt template.", sample="p12", filled=True)
    retrieval_version: str = column(
        "Version of the retrieval index; empty where nothing was retrieved.", sample="r3"
    )
    safety_policy_version: str = column("Version of the safety policy in force.", sample="s5", filled=True)
    decoder_hash: str = column(
        "Digest of the decoding settings (temperature, top-p, seed, ...).", sample="9f2c6a1b", filled=True
    )
    tokens_in: int = column("Tokens read by the model.", unit="tokens", sample=850, ge=0, le=MANY)
    tokens_out: int = column("Tokens written by the model.", unit="tokens", sample=120, ge=0, le=MANY)
    cost_usd: float = column(
        "Cost of the call, at the price on the day.", unit="USD", sample=0.0021, ge=0.0, le=1e6
    )
    ttft_ms: float = column("Time to first token.", unit="ms", sample=310.0, ge=0.0, le=1e9)
    latency_ms: float = column("Time to the whole answer.", unit="ms", sample=1450.0, ge=0.0, le=1e9)
    safety_outcome: str = column(
        "What the safety policy did with the answer.", sample="passed", isin=SAFETY_OUTCOMES
    )
    finish_reason: str = column("Why the model stopped.", sample="stop", isin=FINISH_REASONS)
    retry_count: int = column("Calls that failed before this one.", unit="calls", sample=0, ge=0, le=1000)
    prompt_hmac: str = column(
        "HMAC of the prompt.", sample="5d1a0c7e9b3f42d8a6e1f0b49c2d7735", reduces="prompt"
    )
    prompt_chars: int = column(
        "Length of the prompt.", unit="characters", sample=3100, ge=0, le=MANY, reduces="prompt"
    )
    prompt_language: str = column(
        "Language of the prompt, as far as it shows.", sample="en", reduces="prompt"
    )
    completion_hmac: str = column(
        "HMAC of the completion.", sample="77be3a90d1c84f62b5e0a9d3c8f14620", reduces="completion"
    )
    completion_chars: int = column(
        "Length of the completion.", unit="characters", sample=480, ge=0, le=MANY, reduces="completion"
    )
    completion_language: str = column(
        "Language of the completion, as far as it shows.", sample="en", reduces="completion"
    )

    correct: bool = column("Whether the answer was right.", sample=True)
    score: float = column("Points reached.", unit="points", sample=3.0, ge=0.0, le=1e6)
    max_score: float = column("Points that could be reached.", unit="points", sample=4.0, gt=0.0, le=1e6)
    attempt_number: int = column(
        "Which try at this item this is, from 1.", unit="attempts", sample=1, ge=1, le=1_000_000
    )
    answer_revealed: bool = column("Whether the tutor gave the answer away.", sample=False)
    answer_hmac: str = column(
        "HMAC of a free answer.", sample="c0de51f2a7b94e03d6c81f5a92e7b340", reduces="answer_text"
    )
    answer_chars: int = column(
        "Length of a free answer.", unit="characters", sample=42, ge=0, le=MANY, reduces="answer_text"
    )
    answer_language: str = column(
        "Language of a free answer, as far as it shows.", sample="en", reduces="answer_text"
    )
    mastery: bool = column("Whether the learning objective reached mastery with this event.", sample=False)
    assessment_kind: str = column(
        "Place of an assessment in the design.", sample="post", isin=("pre", "post", "formative", "delayed")
    )
    hint_level: int = column(
        "How much a hint gives away, from 1 (a nudge).", unit="level", sample=1, ge=0, le=100
    )
    grounded: bool = column("Whether the answer is supported by its sources.", sample=True)
    rubric_name: str = column("Rubric used.", sample="tutoring-quality", filled=True)
    rubric_version: str = column("Version of the rubric.", sample="2", filled=True)
    rubric_dimension: str = column(
        "Dimension of the rubric that was scored.", sample="scaffolding", filled=True
    )
    rater_id: str = column("Person or judge that rated.", sample="rater-07", filled=True, identifier=True)
    rater_kind: str = column("Whether a person or a model rated.", sample="human", isin=("human", "model"))
    rating: float = column("Rating given.", unit="1 to 5", sample=4.0, ge=1.0, le=5.0)
    preferred: str = column("Which of two answers was preferred.", sample="a", isin=("a", "b", "tie"))
    helpful: bool = column("Whether the learner found the answer helpful.", sample=True)
    feedback_hmac: str = column(
        "HMAC of a feedback text.", sample="b1b27c4d8e9f40a1b3c5d7e9f1a2b4c6", reduces="feedback_text"
    )
    feedback_chars: int = column(
        "Length of a feedback text.", unit="characters", sample=60, ge=0, le=MANY, reduces="feedback_text"
    )
    feedback_language: str = column(
        "Language of a feedback text, as far as it shows.", sample="en", reduces="feedback_text"
    )
    severity: str = column(
        "Severity of a safety incident, S1 the worst.", sample="S3", isin=("S1", "S2", "S3")
    )
    origin: str = column("Whose words raised the incident.", sample="model", isin=("model", "user"))
    appeal_outcome: str = column(
        "What became of an appeal: the flag stands (upheld) or fell (overturned).",
        sample="upheld",
        isin=("pending", "upheld", "overturned"),
    )
    edit_distance: float = column(
        "How much of the generated item the reviewer changed.",
        unit="share of characters",
        sample=0.12,
        ge=0.0,
        le=1.0,
    )
    review_outcome: str = column(
        "What the reviewer did with the generated item.",
        sample="edited",
        isin=("accepted", "edited", "rejected"),
    )
    override_eligible: bool = column("Whether the teacher could have overridden here.", sample=True)
    tool_name: str = column("Tool that was called.", sample="calculator", filled=True)
    tool_status: str = column("How the tool call ended.", sample="ok", isin=("ok", "error", "timeout"))
    error_code: str = column("The producer's code of an error.", sample="E_TIMEOUT", filled=True)
    end_reason: str = column(
        "Why the product ended its session.",
        sample="completed",
        isin=("completed", "left", "timeout", "error", "other"),
    )
    ticket_category: str = column(
        "What a support ticket is about, in the producer's words.", sample="wrong-answer", filled=True
    )
    goal_name: str = column("Goal of a plain conversion.", sample="signup", filled=True)
    goal_value: float = column(
        "What reaching the goal was worth, in the goal's own unit.",
        unit="goal's own",
        sample=1.0,
        ge=-1e9,
        le=1e9,
    )
    experiment: str = column("Experiment.", sample="hint-style", filled=True)
    experiment_version: int = column("Version of the experiment.", sample=1, ge=1, le=1_000_000)
    unit_type: str = column("What is randomised.", sample="learner", isin=("learner", "class"))
    unit_id: str = column(
        "Unit that is randomised: the learner or the class.",
        sample="learner-0001",
        filled=True,
        identifier=True,
    )
    arm: str = column("Arm of the experiment.", sample="control", filled=True)
    assignment_source: str = column(
        "Whether the product logged the arm or the pipeline computed it.",
        sample="logged",
        isin=("logged", "computed"),
    )
    stratum: str = column("Stratum or block of the unit at assignment.", sample="grade-7")
    ramp_stage: str = column("Stage of the ramp at assignment.", sample="10pct")
    surface: str = column(
        "Place in the product where the unit met its arm.", sample="tutor-chat", filled=True
    )

    def __init_subclass__(
        cls,
        *,
        event: str = "",
        major: int = 1,
        owner: str = "",
        always: tuple[str, ...] = (),
        also: tuple[str, ...] = (),
        rules: tuple[Rule, ...] = (),
        sample: dict[str, Sample | None] | None = None,
        sunset: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Make a model of one event: `always` must be filled, `also` may be, `rules` must hold."""
        if event:
            require(cls, always)
            name = column(f"Always {event}.", sample=event, always=True, eq=event)
            version = column(
                f"Version of this contract: {major}.minor.",
                sample=f"{major}.0",
                always=True,
                str_startswith=f"{major}.",
            )
            cls.__annotations__ = {**cls.__annotations__, "event_name": str, "schema_version": str}
            for attribute, field in (("event_name", name), ("schema_version", version)):
                field.__set_name__(cls, attribute)
                setattr(cls, attribute, field)
            add_rules(lambda attribute, check: setattr(cls, attribute, check), (*ROW_RULES, *rules))
            cls.Config = type(
                "Config",
                (CanonicalEvent.Config,),
                {
                    "name": event,
                    "description": (cls.__doc__ or "").strip(),
                    "metadata": {
                        "major": major,
                        "owner": owner,
                        "always": always,
                        "also": also,
                        "sample": dict(sample or {}),
                        "sunset": sunset,
                    },
                },
            )
        super().__init_subclass__(**kwargs)  # type: ignore[no-untyped-call]
