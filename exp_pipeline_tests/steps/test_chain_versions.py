"""Versions of a contract in one landing file: what is kept, how it is read, and what is refused."""

from __future__ import annotations

import json
from datetime import date, datetime

from exp_pipeline.contracts.validation import validate_table
from exp_pipeline.steps.context import Window, Workbench
from exp_pipeline.steps.ingest.conform import conform
from exp_pipeline.steps.ingest.deprecated import deprecated_in_use, newest_days
from exp_pipeline.steps.ingest.landing import land
from exp_pipeline_tests.steps.conftest import rows_of

DAY = date(2026, 3, 10)


def feedback(number: int, version: str, **more: object) -> dict[str, object]:
    at = f"2026-03-10T09:00:{number:02d}Z"
    return {
        "event_id": f"e{number}",
        "event_name": "feedback_given",
        "schema_version": version,
        "client_ts": at,
        "received_at": at,
        "learner_id": f"learner-{number}",
        "role": "student",
        "platform": "web",
        "app_version": "1",
        **more,
    }


def test_versions_of_one_event_stand_in_one_table_with_one_meaning(bench: Workbench) -> None:
    sent = [
        feedback(1, "1.0", rating=4),
        feedback(2, "2.0", rating=7.5, rating_min=0, rating_max=10),
        feedback(3, "1.7", rating=2, mood=7),
        feedback(4, "1.0", rating=8),
        feedback(5, "2.0", rating=8),
        feedback(6, "3.0", rating=8),
        feedback(7, "two", rating=3),
    ]
    path = bench.home.landing / f"received_date={DAY}" / "feedback.ndjson"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in sent))
    land(bench, DAY)
    conform(bench, Window.of(DAY, DAY))

    kept = rows_of(bench, "events", "event_id, schema_version, rating, rating_max, extra", "event_id")
    assert kept == [
        ("e1", "1.0", 4.0, None, None),
        ("e2", "2.0", 4.0, 10.0, None),
        ("e3", "1.7", 2.0, None, '{"mood":7}'),
    ]
    assert rows_of(bench, "landed", "event_id, rating", "event_id")[1] == ("e2", 7.5)
    assert rows_of(bench, "quarantine", "row_number, reason", "row_number") == [
        (4, "out_of_range:rating"),
        (5, "rule:rating_names_its_scale"),
        (6, "unsupported_version"),
        (7, "malformed_version"),
    ]
    bench.read("kept_events", "events", bench.lake.manifests("events", bench.lake.partitions("events")))
    validate_table("events", bench.engine.frame("select * from kept_events"), str(DAY))


def test_rows_that_use_a_deprecated_version_are_counted_and_late_ones_refused(bench: Workbench) -> None:
    assert newest_days(bench, 28) is None
    late = {"client_ts": "2028-01-01T00:00:00Z", "received_at": "2028-01-01T00:00:01Z"}
    on_time = {"client_ts": "2027-12-31T23:59:58Z", "received_at": "2027-12-31T23:59:59Z"}
    day = date(2028, 1, 1)
    sent = [
        feedback(1, "1.0", rating=4, **late),
        feedback(2, "1.1", rating=4, **on_time),
        feedback(3, "2.0", rating=4, rating_min=1, rating_max=5, **late),
    ]
    path = bench.home.landing / f"received_date={day}" / "feedback.ndjson"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in sent))
    land(bench, day)
    conform(bench, Window.of(date(2027, 12, 31), day))

    assert rows_of(bench, "quarantine", "row_number, reason") == [(1, "past_sunset")]
    window = newest_days(bench, 2)
    assert window == Window.of(date(2027, 12, 31), day)
    assert window is not None
    told = {one.what.label: one for one in deprecated_in_use(bench, window)}
    ended = told["feedback_given 1"]
    assert (ended.rows, ended.rows_after, ended.refused) == (1, 0, 1)
    assert ended.last_received == datetime(2027, 12, 31, 23, 59, 59)
    assert told["rating of rubric_scored 1"].rows == 0
