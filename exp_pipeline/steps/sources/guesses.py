"""What names in logs usually mean: canonical fields, events and roles, guessed from the producer's words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Final

# For each field, names under which producers keep it, the likeliest first, in snake case.
FIELD_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "event_id": ("event_id", "event_uuid", "insert_id", "message_id", "uuid", "guid", "id", "transaction_id"),
    "client_ts": (
        "client_ts", "occurred_at", "event_time", "event_timestamp", "client_time", "client_timestamp",
        "timestamp", "ts", "time", "created_at", "datetime", "date_time", "event_date", "at", "when",
        "started_at", "start_time", "step_start_time", "step_start", "first_exposure_utc", "date",
        "logged_at",
    ),
    "received_at": (
        "received_at", "server_time", "server_timestamp", "server_ts", "ingested_at", "ingest_time",
        "processed_at", "upload_time", "server_received_at", "inserted_at", "end_time", "ended_at",
        "step_end_time", "step_end",
    ),
    "learner_id": (
        "learner_id", "student_id", "anon_student_id", "pupil_id", "user_id", "userid", "uid", "account_id",
        "distinct_id", "actor_id", "person_id", "player_id", "enduser_id", "unit_id", "anonymous_id",
        "learner", "student", "pupil", "user", "actor", "who", "account",
    ),
    "role": ("role", "user_role", "actor_role", "account_type", "user_type"),
    "platform": ("platform", "client", "device_type", "os", "surface", "channel"),
    "app_version": ("app_version", "client_version", "release", "build", "version"),
    "device_id": ("device_id", "device_uuid", "device", "installation_id"),
    "class_id": ("class_id", "classroom_id", "section_id", "course_id", "group_id", "class", "classroom"),
    "teacher_id": ("teacher_id", "instructor_id", "teacher"),
    "school_id": ("school_id", "school", "organisation_id", "organization_id", "org_id"),
    "district_id": ("district_id", "district"),
    "session_id": ("session_id", "sessionid", "session_uuid", "session", "visit_id"),
    "conversation_id": ("conversation_id", "thread_id", "chat_id", "dialog_id", "dialogue_id"),
    "turn_id": ("turn_id", "interaction_id", "exchange_id", "trace_id", "turn"),
    "turn_index": ("turn_index", "turn_number", "turn_no"),
    "content_id": (
        "content_id", "exercise_id", "question_id", "problem_id", "item_id", "step_id", "lesson_id",
        "problem_name", "problem", "exercise", "question", "item", "lesson",
    ),
    "learning_objective_id": (
        "learning_objective_id", "objective_id", "skill_id", "kc", "kc_default", "knowledge_component",
        "standard_id", "topic_id", "skill", "objective", "topic",
    ),
    "locale": ("locale", "language", "lang"),
    "user_agent": ("user_agent", "useragent", "ua"),
    "model_name": ("model_name", "model", "request_model", "llm", "engine"),
    "model_version": ("model_version", "response_model"),
    "tokens_in": ("tokens_in", "input_tokens", "prompt_tokens"),
    "tokens_out": ("tokens_out", "output_tokens", "completion_tokens"),
    "cost_usd": ("cost_usd", "cost"),
    "latency_ms": (
        "latency_ms", "latency", "duration_ms", "elapsed_ms", "response_time_ms", "response_time",
        "time_taken", "duration", "elapsed", "step_duration_sec", "step_dur_s", "duration_s", "duration_sec",
        "duration_seconds", "latency_s", "elapsed_s", "time_spent", "time_taken_s",
    ),
    "ttft_ms": ("ttft_ms", "time_to_first_token_ms", "ttft"),
    "correct": (
        "correct", "is_correct", "correct_first", "right", "passed", "success", "first_attempt", "outcome",
        "result",
    ),
    "score": ("score", "points", "grade", "mark"),
    "max_score": ("max_score", "max_points", "points_possible", "out_of", "total_points"),
    "attempt_number": ("attempt_number", "attempt", "attempt_no", "try_number"),
    "hint_level": ("hint_level", "hint_number"),
    "rating": ("rating", "stars"),
    "helpful": ("helpful", "is_helpful", "thumbs_up"),
    "experiment": (
        "experiment", "experiment_id", "experiment_name", "experiment_key", "flag_key", "test_name",
    ),
    "arm": (
        "arm", "variant", "variation", "variation_id", "variant_id", "experiment_group", "treatment",
        "bucket", "group",
    ),
    "goal_name": ("goal_name", "goal"),
    "goal_value": ("goal_value", "value", "revenue", "amount"),
    "tool_name": ("tool_name", "tool"),
    "error_code": ("error_code", "error_type", "error", "exception"),
    "prompt": ("prompt", "question_text", "user_message", "message_text", "input_text", "message", "text"),
    "completion": ("completion", "response_text", "answer_shown", "output_text", "reply", "response"),
    "answer_text": ("answer_text", "answer", "given_answer", "user_answer", "input"),
    "feedback_text": ("feedback_text", "feedback", "comment"),
}  # fmt: skip

EVENT_COLUMNS: Final = (
    "event_name", "event", "event_type", "eventname", "action", "activity", "verb", "type", "name", "kind",
    "op", "message_type", "category",
)  # fmt: skip

# Words in an event's name, all of which must be there, and the event; the first that fits is taken.
_EVENT_WORDS: Final[tuple[tuple[tuple[str, ...], str], ...]] = (
    (("session|visit|app", "end|ended|close|closed|stop|stopped|logout|finish|finished"),
     "tutor_session_ended"),
    (("logout|signout",), "tutor_session_ended"),
    (("session|visit|app", "start|started|open|opened|begin|began|new"), "tutor_session_started"),
    (("login|signin",), "tutor_session_started"),
    (("hint|hints|clue",), "hint_requested"),
    (("safety|moderation", "appeal|appealed"), "safety_appealed"),
    (("safety|moderation|unsafe", "flag|flagged|hit|blocked"), "safety_flagged"),
    (("assessment|quiz|test|exam", "complete|completed|finish|finished|submit|submitted|end|ended"),
     "assessment_completed"),
    (("feedback|thumb|thumbs|rating|rated",), "feedback_given"),
    (("message|msg|reply|response|turn|tutor|assistant", "answered|shown|received|displayed|replied|reply"),
     "tutor_turn_response_shown"),
    (("answer|attempt|solve|solved|submission|response",
      "submit|submitted|given|made|attempt|attempted|check|checked|marked|entered|answer"),
     "answer_attempted"),
    (("answered|attempted|attempt|problemcheck|submission",), "answer_attempted"),
    (("message|msg|turn|prompt|question|chat", "sent|send|submit|submitted|asked|user|student|learner"),
     "tutor_turn_submitted"),
    (("tool|function", "call|called|executed|used|run"), "tool_call_executed"),
    (("llm|model|completion|generation", "request|requested|call|called|created|generated|answered"),
     "model_request_created"),
    (("assigned|assignment|enrolled|bucketed",), "experiment_assigned"),
    (("exposed|exposure|exposures",), "experiment_exposed"),
    (("experiment", "viewed|shown|seen"), "experiment_exposed"),
    (("ticket", "opened|created|open"), "support_ticket_opened"),
    (("error|exception|crash|crashed",), "client_error_raised"),
    (("goal|converted|conversion|purchase|purchased|signup|registered",), "goal_reached"),
)  # fmt: skip

_EMPTY_NAMES: Final = ("id", "name", "type", "value", "item", "at", "version")
ROLE_WORDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("student", "learner", "pupil", "child", "user", "s", "member"), "student"),
    **dict.fromkeys(("teacher", "instructor", "educator", "t", "faculty"), "teacher"),
    **dict.fromkeys(("staff", "admin", "administrator", "employee", "internal", "support"), "staff"),
    **dict.fromkeys(("test", "qa", "bot", "demo", "robot", "tester"), "test"),
}
RIGHT_WORDS: Final = ("1", "true", "yes", "y", "t", "correct", "right", "ok", "pass", "passed")
WRONG_WORDS: Final = ("0", "false", "no", "n", "f", "incorrect", "wrong", "fail", "failed", "error", "hint")


def snake(name: str) -> str:
    """A name in snake case: `Step Start Time`, `stepStartTime` and `step-start-time` are one."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    split = re.sub(r"([a-z0-9])([A-Z])|([A-Z]+)([A-Z][a-z])", r"\1\3_\2\4", plain)
    return re.sub(r"[^a-z0-9]+", "_", split.lower()).strip("_")


def field_rank(field: str, path: Iterable[str]) -> int | None:
    """How well a path of names speaks of a field: 0 the best; None where it does not."""
    steps = [snake(step) for step in path]
    known = FIELD_NAMES[field]
    whole = "_".join(steps)
    if whole in known:
        return known.index(whole)
    # The last name alone says less, and names that everything has say nothing.
    last = "_".join(steps[-2:]) if len(steps) > 2 else steps[-1]
    for candidate in (last, steps[-1]):
        if candidate in known and (
            candidate not in ("id", "name", "type", "value", "item", "at") or len(steps) == 1
        ):
            return 100 + known.index(candidate)
    return None


def event_guess(value: str, known: Iterable[str]) -> str | None:
    """Which event of the taxonomy a producer's name speaks of; None where nothing is likely."""
    name = snake(value)
    if name in set(known):
        return name
    words = set(name.split("_"))
    for groups, event in _EVENT_WORDS:
        if all(words & set(group.split("|")) for group in groups):
            return event
    return None
