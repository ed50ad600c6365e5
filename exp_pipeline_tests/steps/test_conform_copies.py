"""Copies and corrections settled as plain Python settles them; files as the plain queries give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlglot import exp

from exp_pipeline.contracts.predicates import read_expressions
from exp_pipeline.model.sources import Source
from exp_pipeline.steps.context import DAY, Window, Workbench, door_shape, event_day
from exp_pipeline.steps.ingest import event_files
from exp_pipeline.steps.ingest.conform import conform, event_columns, judge
from exp_pipeline.transform import queries
from exp_pipeline.transform.door import landed_columns
from exp_pipeline_tests.steps.conftest import digests, land_rows, landed_row, rows_of, with_catalog

FIRST = date(2026, 3, 2)
NOON = datetime(2026, 3, 2, 12, 0)
WINDOW = Window.of(FIRST, FIRST + DAY * 9)
LATENESS = 3
few = settings(
    max_examples=3,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
CORRECTIONS = Source(name="fixes", files="fixes/*", format="ndjson", identity=True, correction=True)


@dataclass(frozen=True)
class Copy:
    """A row as drawn; `number` tells rows apart and is the order in which they were received."""

    number: int
    event: int
    payload: int
    day: int
    late: int
    file: int
    correction: bool
    role: str

    def row(self) -> dict[str, object]:
        at = NOON + DAY * self.day
        return landed_row(
            self.number, at, learner=self.event + 1, received=at.date() + DAY * self.late,
            source="fixes" if self.correction else "canonical", file=f"f{self.file}",
            event_id=f"event-{self.event}", hint_level=self.payload, role=self.role,
            received_at=at + timedelta(hours=6 + 24 * self.late, microseconds=self.number),
        )  # fmt: skip

    @property
    def received(self) -> tuple[int, int]:
        return (self.day + self.late, self.number)

    @property
    def says(self) -> tuple[int, int]:
        return (self.payload, self.day)


copies_drawn = st.lists(
    st.builds(
        Copy,
        number=st.just(0),
        event=st.sampled_from((0, 0, 0, 0, 1, 2)),
        payload=st.integers(0, 1),
        day=st.integers(0, 9),
        late=st.sampled_from((0, 0, 1, 2, 3, 4)),
        file=st.integers(0, 2),
        correction=st.sampled_from((False, False, True)),
        role=st.sampled_from(("student", "student", "student", "staff")),
    ),
    min_size=20,
    max_size=80,
).map(lambda rows: [replace(row, number=number) for number, row in enumerate(rows, start=1)])


def expected(rows: Sequence[Copy]) -> dict[int, str]:
    """What becomes of each row, by the written rule: every row is held against all others."""
    fates: dict[int, str] = {}
    for row in rows:
        if row.late > LATENESS:
            fates[row.number] = "too_late"
            continue
        if row.role == "staff":
            fates[row.number] = "role:staff"
            continue
        near = [
            one
            for one in rows
            if one.event == row.event
            and one.late <= LATENESS
            and one.role != "staff"
            and abs(one.day - row.day) <= LATENESS
        ]
        corrections = [one for one in near if one.correction]
        stands = (
            max(corrections, key=lambda one: one.received)
            if corrections
            else min(near, key=lambda one: one.received)
        )
        if stands is row:
            fates[row.number] = "kept"
        elif stands.says == row.says:
            fates[row.number] = "retry"
        else:
            fates[row.number] = "corrected" if stands.correction else "conflicting_duplicate"
    return fates


def settled(bench: Workbench) -> dict[int, str]:
    """What the three tables say became of each row; a retry stands in none of them."""
    found: dict[int, str] = {}
    for table, said in (("events", "'kept'"), ("quarantine", "reason"), ("exclusions", "reason")):
        for number, fate in rows_of(bench, table, f"row_number, {said}"):
            assert number not in found
            found[int(str(number))] = str(fate)
    return found


def with_corrections(bench: Workbench) -> Workbench:
    return with_catalog(bench, sources=(*bench.catalog.sources, CORRECTIONS))


def all_digests(bench: Workbench) -> list[dict[str, str]]:
    return [digests(bench, table) for table in ("events", "quarantine", "exclusions")]


@few
@given(rows=copies_drawn, data=st.data())
def test_copies_and_corrections_are_settled_as_written(
    emptied: Callable[[], Workbench], rows: list[Copy], data: st.DataObject
) -> None:
    bench = with_corrections(emptied())
    land_rows(bench, [row.row() for row in rows])
    conform(bench, WINDOW)
    fates = expected(rows)
    assert settled(bench) == {number: fate for number, fate in fates.items() if fate != "retry"}
    counted: dict[str, int] = {}
    for manifest in bench.lake.manifests("events", bench.lake.partitions("events")):
        by_source = manifest.facts["by_source"]
        assert isinstance(by_source, dict)
        for source, counts in by_source.items():
            assert counts["landed"] == sum(counts[f] for f in ("kept", "retry", "quarantined", "excluded"))
            counted[source] = counted.get(source, 0) + counts["retry"]
    of_source = {"fixes": True, "canonical": False}
    for source, correction in of_source.items():
        retries = [row for row in rows if row.correction is correction and fates[row.number] == "retry"]
        assert counted.get(source, 0) == len(retries)
    together = all_digests(bench)
    days = data.draw(st.permutations(sorted({row.day for row in rows})))
    for day in days[:4]:
        conform(bench, Window.of(FIRST + DAY * day, FIRST + DAY * day))
    assert all_digests(bench) == together


def test_a_correction_stands_for_what_it_corrects_and_alone_is_an_event(bench: Workbench) -> None:
    sent = Copy(1, 0, 0, 0, 0, 0, False, "student")
    rows = [
        sent,
        replace(sent, number=2),
        replace(sent, number=3, payload=1, late=1, correction=True),
        replace(sent, number=4, payload=2, late=2, correction=True),
        replace(sent, number=5, payload=2, late=2, correction=True),
        replace(sent, number=6, payload=3, late=4, correction=True),
        replace(sent, number=7, event=1, correction=True),
    ]
    bench = with_corrections(bench)
    land_rows(bench, [row.row() for row in rows])
    conform(bench, Window.of(FIRST, FIRST))
    corrected = dict.fromkeys((1, 2, 3), "corrected")
    assert settled(bench) == {**corrected, 5: "kept", 6: "too_late", 7: "kept"}


def test_a_history_source_brings_late_corrections(bench: Workbench) -> None:
    sent = Copy(1, 0, 0, 0, 0, 0, False, "student")
    late = replace(sent, number=2, payload=1, late=9, correction=True).row()
    bench = with_corrections(bench)
    # The door gives rows of a history source the day of their own receipt as the day of arrival.
    land_rows(bench, [sent.row(), {**late, "arrived_date": FIRST, "received_at": NOON + timedelta(hours=8)}])
    conform(bench, Window.of(FIRST, FIRST))
    assert settled(bench) == {1: "corrected", 2: "kept"}


def test_copies_of_one_moment_come_in_the_order_of_their_payload(bench: Workbench) -> None:
    rows = [
        {**Copy(number, 0, number, 0, 0, 0, False, "student").row(), "received_at": NOON}
        for number in range(1, 6)
    ]
    land_rows(bench, rows)
    conform(bench, Window.of(FIRST, FIRST))
    first = rows_of(bench, "events", "hint_level")
    bench.lake.folder("landed", f"received_date={FIRST}").joinpath("manifest.json").unlink()
    land_rows(bench, [{**row, "row_number": 6 - int(str(row["row_number"]))} for row in rows])
    conform(bench, Window.of(FIRST, FIRST))
    assert rows_of(bench, "events", "hint_level") == first
    assert list(settled(bench).values()).count("conflicting_duplicate") == 4


@pytest.mark.parametrize(("before", "excluded"), [(11, 11), (6, 0)])
def test_a_pace_is_counted_by_the_clock_minute(bench: Workbench, before: int, excluded: int) -> None:
    policies = bench.catalog.policies
    exclusion = policies.exclusion.model_copy(update={"superhuman_events_per_minute": 10})
    strict = with_catalog(bench, policies=policies.model_copy(update={"exclusion": exclusion}))
    # The last of a minute and the first of the next lie a microsecond apart, and are of two minutes.
    edge = NOON + timedelta(minutes=1)
    times = [edge - timedelta(microseconds=1 + n) for n in range(before)]
    times += [edge + timedelta(microseconds=n) for n in range(12 - before)]
    sound = [landed_row(number, at, 1) for number, at in enumerate(times, start=1)]
    # Copies and broken rows make no pace.
    copies = [{**sound[-1], "row_number": number} for number in range(101, 121)]
    broken = [{**landed_row(number, edge, 1), "platform": None} for number in range(201, 221)]
    land_rows(strict, [*sound, *copies, *broken])
    conform(strict, Window.of(FIRST, FIRST))
    found = rows_of(strict, "exclusions", "row_number, reason")
    assert [reason for _, reason in found] == ["superhuman_pace"] * excluded
    assert len(rows_of(strict, "events", "row_number")) == 12 - excluded


moments = st.integers(0, 3).map(lambda step: NOON + timedelta(minutes=20 * step))


@few
@given(
    drawn=st.lists(
        st.tuples(
            st.integers(1, 4), moments,
            st.sampled_from((None, "d1", "d2")), st.sampled_from((None, "a", "b")),
            st.sampled_from(("hint_requested", "hint_requested", "tutor_session_ended")), st.booleans(),
        ),
        min_size=5, max_size=40,
    ),
    buckets=st.sampled_from((1, 4)),
)  # fmt: skip
def test_files_are_those_of_the_plain_queries(
    emptied: Callable[[], Workbench],
    monkeypatch: pytest.MonkeyPatch,
    drawn: list[tuple[int, datetime, str | None, str | None, str, bool]],
    buckets: int,
) -> None:
    bench = emptied()
    monkeypatch.setattr(event_files, "BUCKET_ROWS", 1 if buckets > 1 else 1_000_000)
    monkeypatch.setattr(event_files, "MOST_BUCKETS", buckets)
    rows = [
        landed_row(
            number, at, learner * (2**62 - 1), device_id=device, learning_objective_id=objective,
            file=f"f{number % 3}", event_name=name, event_id=f"e{(number * 7919) % 1000}",
            role="staff" if staff and number % 4 == 0 else "student",
            hint_level=number % 3 if name == "hint_requested" else None,
        )
        for number, (learner, at, device, objective, name, staff) in enumerate(drawn, start=1)
    ]  # fmt: skip
    land_rows(bench, rows)
    conform(bench, Window.of(FIRST, FIRST))
    written = bench.lake.manifest("events", event_day(FIRST))
    assert written is not None
    assert len(written.files) == min(buckets, len(written.files) or buckets)
    bench.read("written", "events", [written])
    columns = event_columns(landed_columns(door_shape()))
    bench.read("landed", "landed", bench.lake.manifests("landed", bench.lake.partitions("landed")))
    judge(bench, Window.of(FIRST, FIRST))
    bench.engine.build("session_cuts", queries.query_text(queries.load("session_cuts")), {"day": FIRST})
    read = read_expressions("l")
    plain = queries.with_columns(
        queries.load("events"),
        [
            exp.alias_(read.get(name) or exp.column(name, table="l", quoted=True), name, quoted=True)
            for name in columns
        ],
    )
    of_files = bench.engine.connection.execute("select * from written").fetchall()
    of_queries = bench.engine.connection.execute(queries.query_text(plain), {"day": FIRST}).fetchall()
    assert of_files == of_queries


def test_no_row_is_lost_between_buckets(
    emptied: Callable[[], Workbench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows without a learner lie in no bucket by their key, copies of one event in several."""
    rows = [landed_row(number, NOON, 2**63 + number * 2**59, event_id=f"e{number}") for number in range(1, 9)]
    rows += [{**row, "row_number": 20 + number} for number, row in enumerate(rows)]
    rows += [
        {**landed_row(40 + learner, NOON, 2**63 + learner * 2**59), "event_id": "e1"} for learner in (3, 8)
    ]
    broken = [landed_row(60 + number, NOON, 2**63) for number in range(3)]
    rows += [{**row, "learner_key": None, "learner_id": None} for row in broken]
    counts: list[Mapping[str, object]] = []
    fates: list[dict[int, str]] = []
    tables: list[list[tuple[object, ...]]] = []
    for buckets in (1, 4):
        monkeypatch.setattr(event_files, "BUCKET_ROWS", 1 if buckets > 1 else 1_000_000)
        monkeypatch.setattr(event_files, "MOST_BUCKETS", buckets)
        bench = emptied()
        land_rows(bench, rows)
        conform(bench, Window.of(FIRST, FIRST))
        written = bench.lake.manifest("events", event_day(FIRST))
        assert written is not None
        assert len(written.files) == buckets
        counts.append(written.facts)
        fates.append(settled(bench))
        tables.append(rows_of(bench, "events", "*"))
    by_source = counts[0]["by_source"]
    assert isinstance(by_source, dict)
    parts = by_source["canonical"]
    assert parts["landed"] == len(rows) == 21
    assert (parts["kept"], parts["retry"], parts["excluded"], parts["quarantined"]) == (8, 7, 0, 6)
    assert counts[0] == counts[1]
    assert tables[0] == tables[1]
    assert fates[0] == fates[1]
