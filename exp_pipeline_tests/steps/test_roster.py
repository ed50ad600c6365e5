"""The roster: stays by a school's own list, what is refused in it, and the context it gives."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date, datetime

import polars as pl
import pytest

from exp_pipeline.contracts.published.behaviour import ROSTER_REASONS
from exp_pipeline.contracts.validation import validate_table
from exp_pipeline.model.errors import StoreError
from exp_pipeline.model.sources import Source
from exp_pipeline.steps.assignment.exposure import build_assignments, build_enrollments
from exp_pipeline.steps.context import Window, Workbench
from exp_pipeline.steps.ingest.conform import conform
from exp_pipeline.steps.ingest.landing import land
from exp_pipeline.steps.people.identity import add_erased
from exp_pipeline.steps.people.roster import COLUMNS, REFUSED, ROSTER, WHOLE, land_roster
from exp_pipeline.store.engine import Rows
from exp_pipeline_tests.steps.conftest import commit_rows, rows_of, with_catalog

HEAD = "student,class,teacher,school,district,start_at,end_at\n"
DAY = date(2026, 3, 10)
SOURCE = Source(name="own", files="received_date=*/*.ndjson", format="ndjson", identity=True)


def put(bench: Workbench, name: str, text: str | bytes) -> None:
    path = bench.home.landing / "roster" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def table(bench: Workbench, name: str, columns: str) -> list[tuple[object, ...]]:
    kinds = COLUMNS if name == ROSTER else {"file": "VARCHAR", "row_number": "BIGINT", "reason": "VARCHAR"}
    bench.engine.offer("shown", Rows(bench.lake.paths(bench.lake.manifests(name, [WHOLE])), kinds))
    return bench.engine.connection.execute(f"select {columns} from shown order by all").fetchall()


def who(bench: Workbench, raw: str) -> str:
    assert bench.key is not None
    return bench.key.pseudonym(raw)


def test_stays_are_pseudonymous_and_in_utc(bench: Workbench) -> None:
    put(bench, "a.csv", HEAD + "raw-ada,7b,t1,s1,d1,2026-03-01,2026-03-05T08:00:00+02:00\n")
    put(bench, "b.ndjson", json.dumps({"student": "raw-bo", "class": "7c", "start_at": "2026-03-02"}) + "\n")
    land_roster(bench)
    assert sorted(table(bench, ROSTER, "learner_id, class_id, teacher_id, start_at, end_at")) == sorted(
        [
            (who(bench, "raw-ada"), who(bench, "7b"), who(bench, "t1"), datetime(2026, 3, 1),
             datetime(2026, 3, 5, 6)),
            (who(bench, "raw-bo"), who(bench, "7c"), None, datetime(2026, 3, 2), None),
        ]
    )  # fmt: skip
    stored = b"".join(path.read_bytes() for path in bench.home.lake.rglob("*") if path.is_file())
    assert not any(raw in stored for raw in (b"raw-ada", b"raw-bo"))


def test_both_tables_keep_their_contract(bench: Workbench) -> None:
    """Every reason the reader knows stands in the contract, and what is kept keeps it."""
    put(
        bench, "a.csv",
        HEAD + "raw-ada,7b,t1,,,2026-03-01,\nraw-ada,7c,,s1,,2026-03-05,2026-03-08\n"
        "raw-bo,7b,,,,2026-03-01,\nraw-ada,7d,,,,2026-03-06,2026-03-07\n,7b,,,,2026-03-01,\nraw-cy,,,,,2026-03-01,\nraw-cy,7b,,,,,\n"
        "raw-cy,7b,,,,soon,\nraw-cy,7b,,,,2026-03-02,later\nraw-cy,7b,,,,2026-03-02,2026-03-01\n",
    )  # fmt: skip
    put(bench, "b.ndjson", b'[1]\n{"student"\n{"student": "\xff", "class": "7b", "start_at": "2026-03-01"}\n')
    # The same file twice: its refused rows are refused twice.
    put(bench, "c.xlsx", "PK")
    put(bench, "d.xlsx", "PK")
    add_erased(bench, [who(bench, "raw-bo")])
    land_roster(bench)
    for name, rows in ((ROSTER, 2), (REFUSED, 13)):
        (path,) = bench.lake.paths(bench.lake.manifests(name, [WHOLE]))
        assert validate_table(name, pl.read_parquet(path), WHOLE).height == rows
    assert {reason for (reason,) in table(bench, REFUSED, "reason")} == set(ROSTER_REASONS)


def test_what_cannot_be_a_stay_is_refused_with_its_reason(bench: Workbench) -> None:
    put(
        bench,
        "a.csv",
        HEAD.encode()
        + b",7b,,,,2026-03-01,\nada,,,,,2026-03-01,\nada,7b,,,,,\nada,7b,,,,soon,\n"
        + b"ada,7b,,,,2026-03-01,never\n"
        + b"ada,7b,,,,2026-03-05,2026-03-05\n\xff,7b,,,,2026-03-01,\n"
        + b"bo,7b,,,,2026-03-01,2026-03-10\nbo,7c,,,,2026-03-09,2026-03-20\nbo,7d,,,,2026-03-10,\n",
    )
    put(bench, "b.ndjson", "not json\n[1]\n")
    put(bench, "c.xlsx", "sheet")
    (written, _) = land_roster(bench)
    reasons = Counter(row[0] for row in table(bench, REFUSED, "reason"))
    assert reasons == {
        "missing_student": 1, "missing_class": 1, "missing_start_at": 1, "wrong_type:start_at": 1,
        "wrong_type:end_at": 1, "ends_before_start": 1, "not_utf8": 1, "overlapping_stay": 1, "not_json": 1,
        "not_an_object": 1, "unknown_format": 1,
    }  # fmt: skip
    # The refused stay does not stand in the way of the next one.
    assert [row[0] for row in table(bench, ROSTER, "class_id")] == sorted(
        [who(bench, "7b"), who(bench, "7d")]
    )
    facts = written.facts
    assert facts["rows"] == facts["kept"] + facts["refused"] + facts["superseded"]  # type: ignore[operator]


def test_a_later_file_corrects_and_an_open_stay_ends_where_the_next_begins(bench: Workbench) -> None:
    put(bench, "2026-03-01.csv", HEAD + "ada,7b,,,,2026-03-01,\nbo,7b,,,,2026-03-01,\n")
    put(bench, "2026-03-08.csv", HEAD + "ada,7b,,,,2026-03-01,2026-03-08\nada,7c,,,,2026-03-09,\n"
        "bo,7c,,,,2026-03-06,\n")  # fmt: skip
    (written, _) = land_roster(bench)
    assert written.facts["superseded"] == 1
    assert sorted(table(bench, ROSTER, "learner_id, class_id, start_at, end_at")) == sorted(
        [
            (who(bench, "ada"), who(bench, "7b"), datetime(2026, 3, 1), datetime(2026, 3, 8)),
            (who(bench, "ada"), who(bench, "7c"), datetime(2026, 3, 9), None),
            (who(bench, "bo"), who(bench, "7b"), datetime(2026, 3, 1), datetime(2026, 3, 6)),
            (who(bench, "bo"), who(bench, "7c"), datetime(2026, 3, 6), None),
        ]
    )
    assert land_roster(bench) == []


def test_the_erased_leave_the_roster_too(bench: Workbench) -> None:
    put(bench, "a.csv", HEAD + "ada,7b,,,,2026-03-01,\nbo,7b,,,,2026-03-01,\n")
    land_roster(bench)
    add_erased(bench, [who(bench, "ada")])
    land_roster(bench)
    assert [row[0] for row in table(bench, ROSTER, "learner_id")] == [who(bench, "bo")]
    assert [row[0] for row in table(bench, REFUSED, "reason")] == ["erased"]


def test_the_roster_comes_before_what_events_tell(bench: Workbench) -> None:
    """Events say class 1 from the 2nd to the 12th and class 2 after; the roster knows the 4th to the 8th."""
    key = int(who(bench, "ada")[:16], 16)
    base = {"learner_id": who(bench, "ada"), "learner_key": key, "role": "student"}
    other = {**base, "learner_id": who(bench, "bo"), "learner_key": 5}
    for day, rows in {
        2: [{**base, "class_id": "class-1"}, {**other, "class_id": "class-1"}],
        12: [{**base, "class_id": "class-2"}],
    }.items():
        at = datetime(2026, 3, day, 9)
        sessions = [{**row, "started_at": at, "event_date": at.date()} for row in rows]
        commit_rows(bench, "sessions", f"event_date={at.date()}", {"all": sessions})
    put(bench, "a.csv", HEAD + "ada,7b,,,,2026-03-04,2026-03-08\n")
    build_enrollments(bench)
    own = [row[1:] for row in rows_of(bench, "enrollments", "learner_key, class_id, start_at, end_at")
           if row[0] == key]  # fmt: skip
    assert sorted(own, key=lambda row: str(row[1])) == [
        ("class-1", datetime(2026, 3, 2, 9), datetime(2026, 3, 4)),
        (who(bench, "7b"), datetime(2026, 3, 4), datetime(2026, 3, 8)),
        ("class-1", datetime(2026, 3, 8), datetime(2026, 3, 12, 9)),
        ("class-2", datetime(2026, 3, 12, 9), None),
    ]
    assert len(rows_of(bench, "enrollments", "learner_key")) == 5


def test_context_at_assignment_is_that_of_its_moment(bench: Workbench) -> None:
    put(
        bench,
        "a.csv",
        HEAD + "ada,7b,,s1,d1,2026-03-01,2026-03-10T12:00:00\nada,7c,,s2,d2,2026-03-10T12:00:00,\n",
    )
    assigned = {
        "event_name": "experiment_assigned", "schema_version": "1.0", "role": "student", "platform": "web",
        "app_version": "1.0", "learner_id": "ada", "experiment_version": 1, "unit_type": "learner",
        "unit_id": "ada", "arm": "control", "assignment_source": "logged",
    }  # fmt: skip
    lines = []
    for hour, more in ((9, {}), (12, {}), (13, {"class_id": "8a"})):
        at = f"{DAY}T{hour:02d}:00:00Z"
        named = {"event_id": f"e{hour}", "experiment": f"x-{hour}", "client_ts": at, "received_at": at}
        lines.append(json.dumps({**assigned, **named, **more}))
    folder = bench.home.landing / f"received_date={DAY}"
    folder.mkdir(parents=True)
    (folder / "a.ndjson").write_text("\n".join(lines))
    own = with_catalog(bench, sources=(SOURCE,))
    land(own, DAY)
    conform(own, Window.of(DAY, DAY))
    build_assignments(own, Window.of(DAY, DAY))
    assert rows_of(own, "assignments", "experiment, class_id, school_id, district_id", "assigned_at") == [
        ("x-9", who(bench, "7b"), who(bench, "s1"), who(bench, "d1")),
        ("x-12", who(bench, "7c"), who(bench, "s2"), who(bench, "d2")),
        ("x-13", who(bench, "8a"), None, None),
    ]


def test_a_link_out_of_the_landing_folder_is_refused(bench: Workbench) -> None:
    put(bench, "a.csv", HEAD)
    (bench.home.landing / "roster" / "b.csv").symlink_to("/etc/hostname")
    with pytest.raises(StoreError, match="outside the landing folder"):
        land_roster(bench)
