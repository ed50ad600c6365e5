"""When a brief counts as locked in time: by what data were there, not by the wall clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from exp_pipeline.analysis.integrity.checks import brief_stands, lock_check
from exp_pipeline.catalog import lock_record, lock_state
from exp_pipeline.model.readout import LOCK_DAYS_ALLOWED
from exp_pipeline_tests.analysis.builders import brief_of

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize("days", [0, 1, LOCK_DAYS_ALLOWED])
def test_a_lock_made_with_the_first_days_stands(days: int) -> None:
    brief = brief_of()
    lock = lock_state(brief, lock_record(brief, NOW, brief.start + timedelta(days=days)))
    assert lock.days_seen == days
    assert brief_stands(lock)
    assert lock_check(lock).verdict == "pass"


def test_a_lock_made_after_days_of_data_is_no_promise() -> None:
    brief = brief_of()
    lock = lock_state(brief, lock_record(brief, NOW, brief.start + timedelta(days=LOCK_DAYS_ALLOWED + 1)))
    assert not brief_stands(lock)
    check = lock_check(lock)
    assert check.verdict == "warn"
    assert "4 days of the experiment's data were already there" in check.evidence


def test_a_lock_made_before_the_start_has_seen_nothing() -> None:
    brief = brief_of()
    assert lock_state(brief, lock_record(brief, NOW, date(2000, 1, 1))).days_seen == 0
