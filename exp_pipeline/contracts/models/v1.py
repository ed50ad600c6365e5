"""The events of the taxonomy, major version 1: what each one states, who owns it, what it must say."""

from __future__ import annotations

from exp_pipeline.contracts.models.base import Rule
from exp_pipeline.contracts.models.row import CanonicalEvent

TURN = ("session_id", "conversation_id", "turn_index", "content_id", "learning_objective_id")
RECEIPT = (
    "model_name",
    "model_version",
    "prompt_version",
    "safety_policy_version",
    "decoder_hash",
    "tokens_in",
    "tokens_out",
    "cost_usd",
    "latency_ms",
    "safety_outcome",
    "finish_reason",
    "retry_count",
)
RECEIPT_ALSO = (
    "retrieval_version",
    "ttft_ms",
    "prompt_hmac",
    "prompt_chars",
    "prompt_language",
    "completion_hmac",
    "completion_chars",
    "completion_language",
)
JUDGE_NAMED = Rule(
    "judge_names_model",
    "rater_kind <> 'model' OR (model_name IS NOT NULL AND model_version IS NOT NULL)",
    "A rating by a model says which model and version gave it.",
)
FEEDBACK_SAYS_SOMETHING = Rule(
    "feedback_says_something",
    "helpful IS NOT NULL OR rating IS NOT NULL OR feedback_hmac IS NOT NULL",
    "Feedback carries a thumb, a rating or a text.",
)


class TutorSessionStarted(
    CanonicalEvent,
    event="tutor_session_started",
    owner="learning-data",
    always=("session_id",),
    also=("conversation_id", "content_id", "learning_objective_id"),
    since={1: ("followed_recommendation",)},
):
    """A learner opened a session with the tutor."""


class TutorSessionEnded(
    CanonicalEvent,
    event="tutor_session_ended",
    owner="learning-data",
    always=("session_id",),
    also=("conversation_id", "learning_objective_id", "end_reason", "mastery"),
    since={1: ("resolved", "escalated", "mastery_points", "active_ms", "frustration_signal")},
):
    """A session with the tutor ended because the product said so; it cuts the learner's run of events."""


class TutorTurnSubmitted(
    CanonicalEvent,
    event="tutor_turn_submitted",
    owner="learning-data",
    always=("turn_id",),
    also=(*TURN, "prompt_hmac", "prompt_chars", "prompt_language"),
    since={1: ("followed_recommendation", "frustration_signal")},
):
    """A learner sent a message to the tutor."""


class ModelRequestCreated(
    CanonicalEvent,
    event="model_request_created",
    owner="tutor-platform",
    always=("model_name",),
    also=("turn_id", *TURN, *RECEIPT[1:], *RECEIPT_ALSO, "error_code"),
    sample={"error_code": None},
):
    """The product called a language model; tokens, cost and latency are known once it answered or failed."""


class ToolCallExecuted(
    CanonicalEvent,
    event="tool_call_executed",
    owner="tutor-platform",
    always=("tool_name", "tool_status"),
    also=("turn_id", *TURN, "latency_ms", "retry_count", "error_code"),
    sample={"error_code": None},
):
    """The tutor called a tool (search, calculator, gradebook, ...) and the call ended."""


class TutorTurnResponseShown(
    CanonicalEvent,
    event="tutor_turn_response_shown",
    owner="tutor-platform",
    always=("turn_id", *RECEIPT),
    also=(*TURN, *RECEIPT_ALSO, "answer_revealed", "grounded", "hint_level"),
    since={1: ("recommended_content_id", "override_eligible", "escalated")},
):
    """The learner saw the tutor's answer to a turn, with the receipt of the model that wrote it."""


class HintRequested(
    CanonicalEvent,
    event="hint_requested",
    owner="learning-data",
    also=("turn_id", *TURN, "hint_level", "attempt_number", "answer_revealed"),
    since={1: ("frustration_signal",)},
):
    """A learner asked for a hint."""


class AnswerAttempted(
    CanonicalEvent,
    event="answer_attempted",
    owner="learning-data",
    also=(
        "correct",
        "turn_id",
        *TURN,
        "score",
        "max_score",
        "attempt_number",
        "answer_revealed",
        "mastery",
        "hint_level",
        "latency_ms",
        "answer_hmac",
        "answer_chars",
        "answer_language",
    ),
    since={1: ("mastery_points", "active_ms", "followed_recommendation", "frustration_signal")},
    rules=(
        Rule(
            "answer_is_judged",
            "correct IS NOT NULL OR score IS NOT NULL",
            "An attempt says whether it was right, or how many points it got.",
        ),
    ),
):
    """A learner answered a question or a step, and it was marked."""


class AssessmentCompleted(
    CanonicalEvent,
    event="assessment_completed",
    owner="learning-data",
    always=("score", "max_score"),
    also=(
        "session_id",
        "content_id",
        "learning_objective_id",
        "assessment_kind",
        "attempt_number",
        "mastery",
    ),
    since={1: ("passed", "mastery_points", "active_ms")},
):
    """A learner finished a test, and it was marked."""


class RubricScored(
    CanonicalEvent,
    event="rubric_scored",
    owner="learning-quality",
    always=("rubric_name", "rubric_version", "rubric_dimension", "rater_kind", "score", "max_score"),
    also=(
        "rater_id",
        "turn_id",
        *TURN,
        "grounded",
        "rating",
        "model_name",
        "model_version",
        "prompt_version",
        "tokens_in",
        "tokens_out",
        "cost_usd",
    ),
    since={1: ("passed",)},
    rules=(JUDGE_NAMED,),
    # Score over max_score says the same on the rubric's own scale.
    deprecated={"rating": "2027-12-31"},
    sample={"rater_kind": "model", "rater_id": "judge-02", "rating": None},
):
    """A person or a judge model scored one dimension of a rubric."""


class PreferenceJudged(
    CanonicalEvent,
    event="preference_judged",
    owner="learning-quality",
    always=("preferred", "rater_kind"),
    also=("rater_id", "turn_id", *TURN, "rubric_name", "rubric_version", "model_name", "model_version"),
    rules=(JUDGE_NAMED,),
    sample={"model_name": None, "model_version": None},
):
    """A person or a judge model compared two answers."""


class FeedbackGiven(
    CanonicalEvent,
    event="feedback_given",
    owner="learning-data",
    also=("helpful", "rating", "turn_id", *TURN, "feedback_hmac", "feedback_chars", "feedback_language"),
    since={1: ("resolved",)},
    rules=(FEEDBACK_SAYS_SOMETHING,),
    sunset="2027-12-31",
    replaced_by="feedback_given 2.0",
):
    """A learner or teacher said what they thought of an answer, on a scale from 1 to 5."""


class ContentGenerated(
    CanonicalEvent,
    event="content_generated",
    owner="content-studio",
    always=("content_id", *RECEIPT),
    also=("session_id", "learning_objective_id", *RECEIPT_ALSO),
):
    """A model wrote an item (question, lesson, feedback) for later use, with its receipt."""


class ContentReviewed(
    CanonicalEvent,
    event="content_reviewed",
    owner="content-studio",
    always=("content_id", "review_outcome"),
    also=("edit_distance", "rater_id", "learning_objective_id"),
    rules=(
        Rule(
            "edit_is_measured",
            "review_outcome <> 'edited' OR edit_distance IS NOT NULL",
            "An edited item says how much was changed.",
        ),
        Rule(
            "accepted_is_unchanged",
            "review_outcome <> 'accepted' OR edit_distance IS NULL OR edit_distance = 0",
            "An accepted item was not changed.",
        ),
    ),
):
    """A teacher or editor accepted, edited or rejected a generated item."""


class SafetyFlagged(
    CanonicalEvent,
    event="safety_flagged",
    owner="trust-and-safety",
    always=("severity", "origin"),
    also=("turn_id", *TURN, "safety_policy_version", "model_name", "model_version"),
):
    """A message or an answer broke, or seemed to break, the safety policy."""


class SafetyAppealed(
    CanonicalEvent,
    event="safety_appealed",
    owner="trust-and-safety",
    always=("appeal_outcome",),
    also=("turn_id", *TURN, "severity", "origin", "safety_policy_version"),
):
    """Somebody contested a safety flag (pending), or the appeal was decided (upheld, overturned)."""


class TeacherOverrode(
    CanonicalEvent,
    event="teacher_overrode",
    owner="classroom",
    always=("override_eligible",),
    also=("teacher_id", "class_id", "turn_id", *TURN),
):
    """A teacher set aside what the tutor decided or wrote."""


class SupportTicketOpened(
    CanonicalEvent,
    event="support_ticket_opened",
    owner="support",
    always=("ticket_category",),
    also=("session_id", "turn_id", "severity"),
):
    """Somebody asked the support team for help."""


class ClientErrorRaised(
    CanonicalEvent,
    event="client_error_raised",
    owner="client-platform",
    always=("error_code",),
    also=("session_id", "turn_id", "latency_ms"),
):
    """The client met an error that the learner could notice."""


class ExperimentAssigned(
    CanonicalEvent,
    event="experiment_assigned",
    owner="experimentation",
    always=("experiment", "experiment_version", "unit_type", "unit_id", "arm", "assignment_source"),
    also=("stratum", "ramp_stage", "class_id"),
):
    """A unit was given its arm."""


class ExperimentExposed(
    CanonicalEvent,
    event="experiment_exposed",
    owner="experimentation",
    always=("experiment", "experiment_version", "unit_type", "unit_id", "arm", "surface"),
    also=("session_id", "turn_id", "class_id"),
):
    """A unit met its arm on a surface of the product."""


class GoalReached(
    CanonicalEvent,
    event="goal_reached",
    owner="growth",
    always=("goal_name",),
    also=("goal_value", "session_id", "content_id"),
):
    """A learner reached a goal (signup, enrolment, purchase).

    The general outcome event, for products and landing pages whose outcome is a plain conversion.
    """


EVENTS: tuple[type[CanonicalEvent], ...] = (
    TutorSessionStarted,
    TutorSessionEnded,
    TutorTurnSubmitted,
    ModelRequestCreated,
    ToolCallExecuted,
    TutorTurnResponseShown,
    HintRequested,
    AnswerAttempted,
    AssessmentCompleted,
    RubricScored,
    PreferenceJudged,
    FeedbackGiven,
    ContentGenerated,
    ContentReviewed,
    SafetyFlagged,
    SafetyAppealed,
    TeacherOverrode,
    SupportTicketOpened,
    ClientErrorRaised,
    ExperimentAssigned,
    ExperimentExposed,
    GoalReached,
)
