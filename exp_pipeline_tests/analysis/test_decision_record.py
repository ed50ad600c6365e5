"""One line of the decision log from one readout."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from exp_pipeline.analysis.deciding.record import logged_recommendation
from exp_pipeline.analysis.readout import read_out
from exp_pipeline.model.readout import SegmentValue
from exp_pipeline_tests.analysis.test_launch_example import launch

AT = datetime(2026, 4, 1, 9, tzinfo=timezone(timedelta(hours=2)))


def test_a_recommendation_says_what_on_which_data_and_by_which_rule() -> None:
    readout = read_out(launch())
    row = logged_recommendation(readout, at=AT, memo="readouts/launch.html")
    assert (row.kind, row.outcome, row.arm, row.by) == ("recommended", "ship", "treatment", "rules")
    assert row.rule == "Primary metric"
    assert (row.experiment, row.snapshot, row.as_of) == ("worked-example", "snapshot-1", date(2026, 3, 29))
    assert (row.brief_digest, row.code_version) == (readout.brief.digest(), "test")
    assert (row.planned, row.effects_hidden) == (True, False)
    assert row.because == readout.decision.summary
    assert row.at == datetime(2026, 4, 1, 7, tzinfo=UTC)
    assert row.memo == "readouts/launch.html"
    assert row == logged_recommendation(readout, at=AT, memo="readouts/launch.html")


def test_each_outcome_names_the_rule_that_decided() -> None:
    for inputs, outcome, rule in (
        (launch(p95=1490.0), "roll_back", "No guardrail breached"),
        (launch(threshold=0.05), "iterate", "Primary metric"),
        (launch(control_n=1650, n_treatment=2350), "investigate", "Integrity"),
    ):
        row = logged_recommendation(read_out(inputs), at=AT, memo="")
        assert (row.outcome, row.rule) == (outcome, rule)


def test_segments_that_are_shipped_to_stand_in_the_line() -> None:
    readout = read_out(launch())
    (arm,) = readout.decision.arms
    places = (SegmentValue(column="language", value="a"),)
    scoped = arm.model_copy(update={"outcome": "ship_scoped", "segments": places})
    decision = readout.decision.model_copy(update={"outcome": "ship_scoped", "arms": (scoped,)})
    row = logged_recommendation(readout.model_copy(update={"decision": decision}), at=AT, memo="")
    assert row.segments == places


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="at must carry a time zone"):
        logged_recommendation(read_out(launch()), at=datetime(2026, 4, 1), memo="")
