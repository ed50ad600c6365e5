"""The door: foreign rows become typed pseudonymous events, and no raw id or text gets past it."""

from __future__ import annotations

import gzip
import hmac
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.sources import EventRule, Source
from exp_pipeline.steps.assignment.exposure import build_assignments, build_enrollments, build_exposures
from exp_pipeline.steps.behaviour.facts import build_unit_days
from exp_pipeline.steps.behaviour.learner_days import build_learner_days, build_turns
from exp_pipeline.steps.behaviour.sessions import build_sessions
from exp_pipeline.steps.context import Window, Workbench
from exp_pipeline.steps.ingest.conform import conform
from exp_pipeline.steps.ingest.landing import land, land_days
from exp_pipeline.transform.identity import IdentityKey
from exp_pipeline_tests.steps.conftest import SECRET, rows_of, with_catalog

DAY = date(2026, 3, 10)
FOLDER = f"received_date={DAY}"
# A log of quiz answers as another product might write it: local times, one row for answer and ticket.
QUIZ = Source(
    name="quiz",
    files="received_date=*/quiz*.csv",
    format="csv",
    time_zone="America/New_York",
    columns=dict.fromkeys(("who", "at", "kind", "points", "row", "note"), "VARCHAR"),
    fields={
        "event_id": "row",
        "learner_id": "who",
        "client_ts": "at",
        "received_at": "at",
        "schema_version": "'1.0'",
        "role": "'student'",
        "platform": "'web'",
        "app_version": "'7'",
    },
    events=(
        EventRule(
            event_name="hint_requested", when="kind in ('hint', 'both')", fields={"hint_level": "points"}
        ),
        EventRule(
            event_name="feedback_given", when="kind = 'both'",
            fields={"event_id": "'f' || row", "feedback_text": "note", "rating": "points"},
        ),
    ),
)  # fmt: skip


def pseudonym(raw: str) -> str:
    return hmac.new(SECRET.encode(), raw.encode(), "sha256").hexdigest()[:32]


def put(bench: Workbench, name: str, content: bytes) -> None:
    path = bench.home.landing / FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def landed(bench: Workbench, columns: str) -> list[tuple[object, ...]]:
    land(bench, DAY)
    return rows_of(bench, "landed", columns, "file, row_number, part")


def quiz(bench: Workbench, lines: Sequence[str]) -> Workbench:
    put(bench, "quiz.csv", ("who,at,kind,points,row,note\n" + "\n".join(lines) + "\n").encode())
    return with_catalog(bench, sources=(QUIZ,))


def test_one_row_becomes_two_events_or_none(bench: Workbench) -> None:
    own = quiz(
        bench,
        [
            "ada,2026-03-10 09:00:00,both,2,r1,fine",
            "bob,2026-03-10 09:01:00,hint,1,r2,",
            "eve,2026-03-10 09:02:00,scroll,1,r3,",
        ],
    )
    assert landed(own, "row_number, part, event_name, event_id, reason") == [
        (1, 1, "hint_requested", "r1", None),
        (1, 2, "feedback_given", "fr1", None),
        (2, 1, "hint_requested", "r2", None),
        (3, 0, None, None, "no_event_rule"),
    ]


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        # New York changes its clocks on 8 March 2026: five hours before, four after.
        ("2026-03-07 22:30:00", datetime(2026, 3, 8, 3, 30)),
        ("2026-03-09 22:30:00", datetime(2026, 3, 10, 2, 30)),
        ("2026-03-09T22:30:00.250Z", datetime(2026, 3, 9, 22, 30, 0, 250_000)),
        ("2026-03-09 22:30:00+05:30", datetime(2026, 3, 9, 17, 0)),
    ],
)
def test_local_times_become_utc(bench: Workbench, text: str, utc: datetime) -> None:
    own = quiz(bench, [f"ada,{text},hint,1,r1,"])
    assert landed(own, "client_ts, occurred_at, event_date") == [(utc, utc, utc.date())]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ada,soon,hint,1,r1,", "wrong_type:client_ts"),
        ("ada,2026-03-10 09:00:00,hint,two,r1,", "wrong_type:hint_level"),
        ("ada,2026-03-10 09:00:00,hint,,r1,", None),
    ],
)
def test_a_value_of_the_wrong_type_is_named(bench: Workbench, line: str, reason: str | None) -> None:
    assert landed(quiz(bench, [line]), "reason") == [(reason,)]


def test_ids_are_those_of_pythons_hmac(bench: Workbench) -> None:
    names = ["ada", "Zoë", "名前", "a" * 200, "x|y"]
    own = quiz(bench, [f"{name},2026-03-10 09:00:00,hint,1,r{place}," for place, name in enumerate(names)])
    assert own.key is not None
    assert landed(own, "learner_id, learner_key, key_id") == [
        (pseudonym(name), int(pseudonym(name)[:16], 16), own.key.key_id) for name in names
    ]


def event(number: int, **more: object) -> dict[str, object]:
    return {
        "event_id": f"e{number}", "event_name": "hint_requested", "schema_version": "1.0",
        "client_ts": f"2026-03-10T10:00:{number:02d}Z", "received_at": f"2026-03-10T10:00:{number:02d}Z",
        "learner_id": "raw-learner-7531", "role": "student", "platform": "web", "app_version": "1.0", **more,
    }  # fmt: skip


SECRETS = {
    "learner_id": "raw-learner-7531",
    "device_id": "raw-device-7531",
    "class_id": "raw-class-7531",
    "teacher_id": "raw-teacher-7531",
    "school_id": "raw-school-7531",
    "district_id": "raw-district-7531",
    "prompt": "my name is Quillfeather Brunswick",
    "completion": "hello Quillfeather Brunswick, nice to meet you",
}
PRIVATE = [*SECRETS.values(), "raw-rater-7531", "raw-unit-7531", "Quillfeather"]


def private_events() -> list[dict[str, object]]:
    answered = {
        "turn_id": "t1", "model_name": "m", "model_version": "1", "prompt_version": "1",
        "retrieval_version": "1", "safety_policy_version": "1", "decoder_hash": "h", "tokens_in": 1,
        "tokens_out": 1, "cost_usd": 0.1, "ttft_ms": 1.0, "latency_ms": 2.0, "safety_outcome": "passed",
        "finish_reason": "stop", "retry_count": 0,
    }  # fmt: skip
    assigned = {
        "experiment": "hint-ladder",
        "experiment_version": 1,
        "unit_type": "learner",
        "arm": "control",
    }
    return [
        event(1, **SECRETS, locale="de-AT", event_name="tutor_turn_submitted", turn_id="t1"),
        event(2, **SECRETS, **answered, locale="de-AT", event_name="tutor_turn_response_shown"),
        event(3, event_name="experiment_assigned", unit_id="raw-learner-7531", **assigned),
        event(4, event_name="experiment_exposed", unit_id="raw-unit-7531", **assigned),
        event(5, event_name="rubric_scored", rater_id="raw-rater-7531"),
        event(6, role="staff", **SECRETS),
        event(7, client_ts="not a time", **SECRETS),
    ]


def as_file(form: str, events: Sequence[Mapping[str, object]]) -> tuple[str, bytes]:
    """The events as a landed file of one of the three forms."""
    lines = b"".join(json.dumps(one).encode() + b"\n" for one in events)
    if form == "ndjson":
        return "own.ndjson.gz", gzip.compress(lines, mtime=0)
    names = list(dict.fromkeys(name for one in events for name in one))
    frame = pl.DataFrame(
        {name: [None if one.get(name) is None else str(one[name]) for one in events] for name in names}
    )
    sink = io.BytesIO()
    if form == "csv":
        frame.write_csv(sink)
    else:
        frame.write_parquet(sink)
    return f"own.{form}", sink.getvalue()


def identity(form: str) -> Source:
    return Source.model_validate(
        {"name": "own", "files": "received_date=*/own*", "format": form, "identity": True}
    )


def everything_written(root: Path) -> str:
    """All that stands in all files, compressed columns read out."""
    texts = []
    for path in sorted(root.rglob("*")):
        if path.suffix == ".parquet":
            texts.append(pl.read_parquet(path).write_ndjson())
        elif path.is_file():
            texts.append(path.read_bytes().decode("utf-8", "replace"))
    return "\n".join(texts)


@pytest.mark.parametrize("form", ["ndjson", "csv", "parquet"])
def test_no_raw_id_and_no_raw_text_is_written_anywhere(bench: Workbench, form: str) -> None:
    put(bench, *as_file(form, private_events()))
    own = with_catalog(bench, sources=(identity(form),))
    window = Window.of(DAY, DAY)
    land(own, DAY)
    for step in (
        conform,
        build_learner_days,
        build_sessions,
        build_turns,
        build_assignments,
        build_exposures,
    ):
        step(own, window)
    build_enrollments(own)
    build_unit_days(own, window)
    shutil.rmtree(bench.home.landing)
    written = everything_written(bench.home.root)
    assert pseudonym("raw-learner-7531") in written
    assert [secret for secret in PRIVATE if secret in written] == []


@pytest.mark.parametrize("form", ["ndjson", "csv", "parquet"])
def test_all_forms_of_a_file_give_the_same_rows(bench: Workbench, form: str) -> None:
    put(bench, *as_file(form, private_events()))
    own = with_catalog(bench, sources=(identity(form),))
    rows = landed(
        own,
        "row_number, event_id, reason, learner_id, device_id, unit_id, "
        "prompt_hmac, prompt_chars, prompt_language, tokens_in",
    )
    who, text = pseudonym("raw-learner-7531"), SECRETS["prompt"]
    device = pseudonym(SECRETS["device_id"])
    full = hmac.new(SECRET.encode(), text.encode(), "sha256").hexdigest()
    assert [row[:3] for row in rows] == [
        (number, f"e{number}", "wrong_type:client_ts" if number == 7 else None) for number in range(1, 8)
    ]
    assert rows[1][3:] == (who, device, None, full, len(text), "de", 1)
    assert rows[2][3:6] == (who, None, who)
    assert rows[3][5] == pseudonym("raw-unit-7531")


def test_what_nobody_declared_is_kept_without_its_texts(bench: Workbench) -> None:
    put(bench, *as_file("ndjson", [event(1, mood="calm", nested={"a": [1, 2]}, points=3, note="I am Ada")]))
    source = identity("ndjson").model_copy(update={"extra_keep": ("mood",)})
    ((extra,),) = landed(with_catalog(bench, sources=(source,)), "extra")
    reduced = hmac.new(SECRET.encode(), b"note=I am Ada", "sha256").hexdigest()[:32]
    assert json.loads(str(extra)) == {
        "mood": "calm",
        "nested": {"a": [1, 2]},
        "points": 3,
        "note": {"hmac": reduced, "chars": 8},
    }


def test_a_clock_a_year_ahead_is_not_believed(bench: Workbench) -> None:
    ahead, slightly = "2027-03-10T10:00:00Z", "2026-03-10T10:05:00Z"
    put(
        bench,
        *as_file(
            "ndjson",
            [
                event(0, client_ts=ahead),
                event(0, event_id="x", client_ts=slightly),
                event(1, client_ts=ahead, received_at=ahead),
            ],
        ),
    )
    rows = landed(
        with_catalog(bench, sources=(identity("ndjson"),)),
        "row_number, occurred_at, clock_skewed, event_date, reason",
    )
    ten = datetime(2026, 3, 10, 10, 0)
    assert rows == [
        (1, ten, True, DAY, None),
        # Five minutes ahead, exactly, is still believed.
        (2, ten.replace(minute=5), False, DAY, None),
        (3, datetime(2027, 3, 10, 10, 0), False, DAY, "from_the_future"),
    ]


def test_the_key_is_needed_and_told_apart(bench: Workbench) -> None:
    put(bench, *as_file("ndjson", [event(1)]))
    own = with_catalog(bench, sources=(identity("ndjson"),))
    with pytest.raises(ExpError, match="EXP_HMAC_KEY"):
        land(replace(own, key=None), DAY)
    other = replace(own, key=IdentityKey("k2", b"another-secret-of-some-length"))
    ((learner, key_id),) = landed(other, "learner_id, key_id")
    assert key_id == "k2"
    assert learner != pseudonym("raw-learner-7531")
    with pytest.raises(ValueError, match="16 bytes"):
        IdentityKey("k", b"short")


def test_a_file_under_two_days_read_side_by_side_belongs_to_the_first(bench: Workbench) -> None:
    small = json.dumps(event(1)) + "\n"
    more = "".join(json.dumps(event(number)) + "\n" for number in range(2, 400))
    first, second = DAY, DAY + timedelta(days=1)
    for day, texts in ((first, (more, small)), (second, (small,))):
        folder = bench.home.landing / f"received_date={day}"
        folder.mkdir(parents=True, exist_ok=True)
        for number, text in enumerate(texts):
            (folder / f"f{number}.ndjson").write_text(text)
    # The second day has less to read: it would be through before the first says what it holds.
    written = land_days(bench, [first, second])
    assert [one.rows for one in written] == [399, 0]
