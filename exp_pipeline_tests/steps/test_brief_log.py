"""What the log keeps of a brief: its lock with the gaps of that moment, each change once, its reviews."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exp_pipeline.analysis.integrity.checks import lock_check
from exp_pipeline.catalog import lock_record
from exp_pipeline.cli.runs import open_bench
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.errors import BriefLockedError
from exp_pipeline.model.intake import Review, ReviewPolicy
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.brief_history import history_of_brief
from exp_pipeline.steps.experiments.drafting import intake_rows
from exp_pipeline.steps.experiments.locking import lock_of, locked_of, note_changes, take_lock
from exp_pipeline.steps.experiments.reviews import record_review, reviews_of, reviews_waiting
from exp_pipeline.steps.experiments.starting import lock_by_hand, lock_if_started, readiness_log
from exp_pipeline.store.home import Home
from exp_pipeline_tests.catalog.folders import BRIEF, write_catalog

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
NAME = "quick-hints"
POLICY = ReviewPolicy()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    catalog = write_catalog(
        tmp_path / "catalog", **{f"experiments__{NAME}": f"{BRIEF}receipt: {{may_differ: []}}\n"}
    )
    (catalog / "sources" / "foreign.yaml").unlink()
    with open_bench(Home(tmp_path)) as found:
        yield found


@pytest.fixture
def brief(bench: Workbench) -> Brief:
    return bench.catalog.briefs[NAME]


def at(hours: int) -> datetime:
    return NOW + timedelta(hours=hours)


def test_each_change_after_the_lock_is_logged_once_with_both_values(bench: Workbench, brief: Brief) -> None:
    home = bench.home
    assert note_changes(home, brief, at(0)) == 0
    take_lock(home, brief, lock_record(brief, at(0)))
    assert note_changes(home, brief, at(1)) == 0
    looser = brief.model_copy(update={"alpha": 0.1})
    assert [note_changes(home, looser, at(hours)) for hours in (2, 3)] == [1, 0]
    again = brief.model_copy(update={"alpha": 0.2})
    assert note_changes(home, again, at(4)) == 1
    (change,) = lock_of(home, again).changes
    assert (change.field, change.locked_value, change.current_value) == ("alpha", "0.05", "0.2")
    assert change.first_seen == at(4)
    assert note_changes(home, brief, at(5)) == 1
    assert lock_of(home, brief).changes == ()
    seen = [(line.at, line.field, line.old, line.new) for line in history_of_brief(home, brief) if line.field]
    assert seen == [
        (at(2), "alpha", 0.05, 0.1), (at(4), "alpha", 0.1, 0.2), (at(5), "alpha", 0.2, 0.05),
    ]  # fmt: skip


def test_a_change_that_no_run_saw_is_shown_without_a_time(bench: Workbench, brief: Brief) -> None:
    take_lock(bench.home, brief, lock_record(brief, at(0)))
    (change,) = lock_of(bench.home, brief.model_copy(update={"primary": "minutes"})).changes
    assert change.first_seen is None


def test_another_version_has_a_lock_of_its_own(bench: Workbench, brief: Brief) -> None:
    take_lock(bench.home, brief, lock_record(brief, at(0)))
    assert not take_lock(bench.home, brief, lock_record(brief.model_copy(update={"alpha": 0.1}), at(1)))
    assert lock_of(bench.home, brief).changes == ()
    assert locked_of(bench.home, brief.model_copy(update={"version": 2})) is None


def test_a_description_may_change_without_a_word(bench: Workbench, brief: Brief) -> None:
    take_lock(bench.home, brief, lock_record(brief, at(0)))
    told = brief.model_copy(update={"title": "Other", "owner": "others", "intake": None, "minimum_cell": 12})
    assert note_changes(bench.home, told, at(1)) == 0
    assert lock_of(bench.home, told).changes == ()


def test_a_review_counts_until_the_design_changes(bench: Workbench, brief: Brief) -> None:
    home = bench.home
    assert reviews_waiting(home, brief, POLICY) == ("peer",)
    given = {"kind": "peer", "by": "  maths  team ", "note": "fine"}
    assert [record_review(home, brief, POLICY, **given, at=at(hours)) for hours in (0, 1)] == [True, False]
    assert reviews_waiting(home, brief, POLICY) == ()
    other = brief.model_copy(update={"primary": "minutes", "title": "Other"})
    (review,) = reviews_of(home, other)
    assert (review.by, review.changed, review.stands) == ("maths team", ("primary",), False)
    assert reviews_waiting(home, other, POLICY) == ("peer",)
    assert record_review(home, other, POLICY, **given, at=at(2))
    assert reviews_waiting(home, other, POLICY) == ()


def test_a_review_in_the_file_counts_as_well(bench: Workbench, brief: Brief) -> None:
    risky = brief.model_copy(
        update={"risk_class": "high", "reviews": (Review(kind="data", by="experimentation", day=NOW.date()),)}
    )
    assert reviews_waiting(bench.home, risky, POLICY) == ("peer", "privacy", "safety")


@pytest.mark.parametrize(
    ("kind", "by", "said"),
    [
        ("per", "maths", "kind must be one of peer, data, privacy, safety, got 'per'"),
        ("peer", " \t", "by is empty: a review is recorded with the team that gave it"),
    ],
)
def test_a_review_needs_a_known_kind_and_a_team(
    bench: Workbench, brief: Brief, kind: str, by: str, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        record_review(bench.home, brief, POLICY, kind=kind, by=by, note="", at=NOW)


def test_a_lock_by_hand_asks_for_a_reason_where_there_are_gaps(bench: Workbench, brief: Brief) -> None:
    with pytest.raises(BriefLockedError, match=r"is not ready to start:\n  reviews: a low-risk change needs"):
        lock_by_hand(bench, brief, at(0), by="maths")
    assert locked_of(bench.home, brief) is None
    record_review(bench.home, brief, POLICY, kind="peer", by="maths", note="", at=at(1))
    lock = lock_by_hand(bench, brief, at(2), by="maths")
    assert (lock.gaps, lock.days_seen, lock_check(lock).verdict) == ((), None, "pass")
    with pytest.raises(BriefLockedError, match="was locked at 2026-03-02 11:00 UTC"):
        lock_by_hand(bench, brief, at(3), by="maths", reason="again")
    assert [gaps for _, gaps in readiness_log(bench.home, brief)] == [
        ("reviews: a low-risk change needs a review of kind 'peer', and there is none",), (),
    ]  # fmt: skip


def test_a_start_with_gaps_is_told_in_the_memo(bench: Workbench, brief: Brief) -> None:
    lock = lock_by_hand(bench, brief, at(0), by="maths", reason="term  begins")
    check = lock_check(lock)
    assert check.verdict == "warn"
    assert check.evidence == (
        "Locked on 2026-03-02 and unchanged since. It started though it was not ready: reviews: a low-risk "
        "change needs a review of kind 'peer', and there is none."
    )
    told = [line.told for line in history_of_brief(bench.home, brief) if line.what == "locked"]
    assert "because: term begins; it was not ready: reviews" in told[0]


def test_nothing_is_locked_before_there_are_data(bench: Workbench, brief: Brief) -> None:
    assert lock_if_started(bench, brief, at(0)).locked_digest is None
    assert readiness_log(bench.home, brief) == ()


def test_the_queue_shows_state_reviews_and_what_is_missing(bench: Workbench, brief: Brief) -> None:
    (row,) = intake_rows(bench.home, bench.catalog)
    assert (row.state, row.waits_for, row.priority) == ("draft", ("peer",), None)
    assert "intake: impact, confidence and effort, 1 to 5 each" in row.missing
    lock_by_hand(bench, brief, at(0), by="maths", reason="now")
    record_review(bench.home, brief, POLICY, kind="peer", by="maths", note="", at=at(1))
    (row,) = intake_rows(bench.home, bench.catalog)
    assert (row.state, row.waits_for, row.reviewed) == ("locked", (), ("peer by maths on 2026-03-02",))
