"""Every landed row has one fate, and the same one however files, days and runs are ordered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from exp_pipeline.model.policies import ExclusionPolicy
from exp_pipeline.steps.context import DAY, Window, Workbench, event_day
from exp_pipeline.steps.ingest.conform import conform
from exp_pipeline_tests.steps.conftest import digests, land_rows, landed_row, rows_of, with_catalog

FIRST = date(2026, 3, 2)
NOON = datetime(2026, 3, 2, 12, 0)
DAYS = 6
WINDOW = Window.of(FIRST, FIRST + DAY * (DAYS - 1))
LATENESS = 3
TABLES = ("events", "quarantine", "exclusions")
slow = settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)


@dataclass(frozen=True)
class Sent:
    """A row as drawn: which event with which payload, when it happened, when and in which file it came."""

    number: int
    event: int
    payload: int
    day: int
    late: int
    file: int
    second: int
    role: str
    broken: bool

    @property
    def happened(self) -> date:
        return FIRST + DAY * self.day

    @property
    def landed(self) -> date:
        return self.happened + DAY * self.late

    def row(self) -> dict[str, object]:
        at = NOON + DAY * self.day
        return landed_row(
            self.number, at, learner=self.event + 1, received=self.landed, file=f"f{self.file}-{self.landed}",
            event_id=f"event-{self.event}", received_at=at + DAY * self.late + timedelta(seconds=self.second),
            role=self.role, hint_level=self.payload, app_version=None if self.broken else "1.0",
        )  # fmt: skip


rows_drawn = st.lists(
    st.builds(
        Sent,
        number=st.just(0),
        event=st.integers(0, 7),
        payload=st.integers(0, 1),
        day=st.sampled_from((0, 0, 0, 1, 4, 5)),
        late=st.sampled_from((0, 0, 0, 1, 3, 4)),
        file=st.integers(0, 1),
        second=st.integers(1, 3),
        role=st.sampled_from(("student", "student", "student", "staff")),
        broken=st.sampled_from((False, False, False, True)),
    ),
    min_size=6,
    max_size=40,
).map(lambda rows: [replace(row, number=number) for number, row in enumerate(rows, start=1)])


def expected_fates(rows: Sequence[Sent]) -> Counter[str]:
    """What becomes of the rows, by the written rule, in plain Python."""
    fates: Counter[str] = Counter()
    valid: dict[int, list[Sent]] = {}
    for row in rows:
        if row.late > LATENESS:
            fates["quarantined:too_late"] += 1
        elif row.broken:
            fates["quarantined:missing:app_version"] += 1
        elif row.role == "staff":
            fates["excluded:role:staff"] += 1
        else:
            valid.setdefault(row.event, []).append(row)
    for copies in valid.values():
        # Copies of one moment come in the order of their payload's digest; such rows are left out.
        copies.sort(key=lambda row: (row.landed, row.second))
        for position, row in enumerate(copies):
            before = [one for one in copies[:position] if abs(one.day - row.day) <= LATENESS]
            if not before:
                fates["kept"] += 1
            elif (before[0].payload, before[0].day) == (row.payload, row.day):
                fates["retry:same_payload"] += 1
            else:
                fates["quarantined:conflicting_duplicate"] += 1
    return fates


def untied(rows: Sequence[Sent]) -> list[Sent]:
    """The rows without those received in the same second as a copy of the event with another payload."""
    seen: dict[tuple[int, date, int], Sent] = {}
    kept = []
    for row in rows:
        first = seen.setdefault((row.event, row.landed, row.second), row)
        if (first.payload, first.day) == (row.payload, row.day):
            kept.append(row)
    return kept


def fates_found(bench: Workbench) -> Counter[str]:
    """What the manifests of the days say became of the rows."""
    found: Counter[str] = Counter()
    for manifest in bench.lake.manifests("events", bench.lake.partitions("events")):
        by_source = manifest.facts["by_source"]
        assert isinstance(by_source, Mapping)
        for counts in by_source.values():
            for name, count in counts.items():
                if count and (name == "kept" or ":" in name):
                    found[name] += count
    return found


def all_digests(bench: Workbench) -> dict[str, dict[str, str]]:
    return {table: digests(bench, table) for table in TABLES}


@slow
@given(drawn=rows_drawn, data=st.data())
def test_fates_follow_the_rule_in_any_order(
    emptied: Callable[[], Workbench], drawn: list[Sent], data: st.DataObject
) -> None:
    rows = untied(drawn)
    bench = emptied()
    land_rows(bench, [row.row() for row in rows])
    conform(bench, WINDOW)
    assert fates_found(bench) == expected_fates(rows)
    tables = {table: len(rows_of(bench, table, "event_date")) for table in TABLES}
    retries = fates_found(bench)["retry:same_payload"]
    assert sum(tables.values()) + retries == len(rows)
    together = all_digests(bench)
    conform(bench, WINDOW)
    assert all_digests(bench) == together
    for day in data.draw(st.permutations(sorted({row.happened for row in rows}))):
        conform(bench, Window.of(day, day))
    assert all_digests(bench) == together


@slow
@given(rows=rows_drawn)
def test_no_event_is_lost_or_kept_twice_near_its_day(
    emptied: Callable[[], Workbench], rows: list[Sent]
) -> None:
    bench = emptied()
    land_rows(bench, [row.row() for row in rows])
    conform(bench, WINDOW)
    assert sum(fates_found(bench).values()) == len(rows)
    kept = rows_of(bench, "events", "event_id, event_date")
    good = {
        f"event-{row.event}"
        for row in rows
        if row.late <= LATENESS and not row.broken and row.role == "student"
    }
    assert {event for event, _ in kept} == good
    for event in good:
        days = [day for name, day in kept if name == event]
        assert all(abs((a - b).days) > LATENESS for a in days for b in days if a is not b)  # type: ignore[operator]


def test_the_copy_received_first_wins_across_days_and_files(bench: Workbench) -> None:
    first = Sent(1, 1, 0, 0, 1, 0, 1, "student", False)
    rows = [
        first,
        replace(first, number=2, late=3),
        replace(first, number=3, late=2, file=1, payload=1),
        replace(first, number=4, late=0, file=1, role="staff"),
        replace(first, number=5, late=0, file=1, broken=True),
    ]
    land_rows(bench, [row.row() for row in rows])
    conform(bench, Window.of(FIRST, FIRST))
    assert rows_of(bench, "events", "row_number") == [(1,)]
    assert fates_found(bench) == Counter(
        {
            "kept": 1,
            "retry:same_payload": 1,
            "quarantined:conflicting_duplicate": 1,
            "excluded:role:staff": 1,
            "quarantined:missing:app_version": 1,
        }
    )


def test_a_file_that_lands_on_two_days_counts_once(bench: Workbench) -> None:
    row = landed_row(1, NOON, learner=1)
    again = {**row, "received_date": FIRST + DAY, "arrived_date": FIRST + DAY}
    land_rows(bench, [row, again])
    conform(bench, Window.of(FIRST, FIRST))
    assert fates_found(bench) == Counter({"kept": 1, "retry:same_payload": 1})


@pytest.mark.parametrize(("late", "fate"), [(3, "kept"), (4, "quarantined:too_late")])
def test_lateness_counts_whole_days(bench: Workbench, late: int, fate: str) -> None:
    land_rows(bench, [Sent(1, 1, 0, 0, late, 0, 1, "student", False).row()])
    conform(bench, Window.of(FIRST, FIRST))
    assert fates_found(bench) == Counter({fate: 1})


def test_a_larger_setting_takes_in_what_was_too_late(bench: Workbench) -> None:
    land_rows(bench, [Sent(1, 1, 0, 0, 20, 0, 1, "student", False).row()])
    conform(bench, Window.of(FIRST, FIRST))
    policies = bench.catalog.policies
    wider = policies.model_copy(update={"time": policies.time.model_copy(update={"lateness_days": 20})})
    conform(with_catalog(bench, policies=wider), Window.of(FIRST, FIRST))
    assert fates_found(bench) == Counter({"kept": 1})


@pytest.mark.parametrize(("copies", "excluded"), [(1, 11), (2, 22)])
def test_a_pace_that_nobody_has_is_excluded(bench: Workbench, copies: int, excluded: int) -> None:
    exclusion = ExclusionPolicy(superhuman_events_per_minute=10)
    strict = with_catalog(bench, policies=bench.catalog.policies.model_copy(update={"exclusion": exclusion}))
    fast = [landed_row(n, NOON + timedelta(seconds=n), 1, event_id=f"fast-{n}") for n in range(11)]
    calm = [
        landed_row(n, NOON + timedelta(minutes=5, seconds=n), 1, event_id=f"calm-{n}") for n in range(20, 30)
    ]
    rows = [{**row, "row_number": place} for place, row in enumerate((fast + calm) * copies, start=1)]
    land_rows(bench, rows)
    conform(strict, Window.of(FIRST, FIRST))
    retries = Counter({"retry:same_payload": 10}) if copies == 2 else Counter()
    assert fates_found(bench) == Counter({"kept": 10, "excluded:superhuman_pace": excluded}) + retries


def test_listed_learners_and_bots_are_excluded(bench: Workbench) -> None:
    assert bench.key is not None
    exclusion = ExclusionPolicy(roles=("staff",), learner_ids=("ada-1",), user_agent_contains=("bot",))
    strict = with_catalog(bench, policies=bench.catalog.policies.model_copy(update={"exclusion": exclusion}))
    land_rows(
        bench,
        [
            landed_row(1, NOON, 1, learner_id=bench.key.pseudonym("ada-1")),
            landed_row(2, NOON, 2, user_agent="SomeBOT/1.0"),
            landed_row(3, NOON, 3, role="staff"),
            landed_row(4, NOON, 4, role="test"),
        ],
    )
    conform(strict, Window.of(FIRST, FIRST))
    assert fates_found(bench) == Counter(
        {"kept": 1, "excluded:listed_learner": 1, "excluded:bot_user_agent": 1, "excluded:role:staff": 1}
    )


def test_a_day_without_rows_has_empty_tables(bench: Workbench) -> None:
    land_rows(bench, [landed_row(1, NOON, 1)])
    conform(bench, Window.of(FIRST, FIRST + DAY))
    empty = bench.lake.manifest("events", event_day(FIRST + DAY))
    assert empty is not None
    assert (empty.rows, empty.facts["by_source"]) == (0, {})
