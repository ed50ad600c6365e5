"""Unit tables from elsewhere: what they become, and what is said of those that cannot be read."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from exp_pipeline.analysis.readout import read_out
from exp_pipeline.analysis.tables.from_table import exclusions_of_table, mad_from_table
from exp_pipeline.model.brief import Arm, Brief
from exp_pipeline.model.errors import SpecError
from exp_pipeline_tests.analysis.builders import brief_of, inputs_of

ASSISTMENTS = Path(__file__).parents[3] / "shared" / "data" / "assistments_ab.csv"


def table_brief(table: dict[str, Any], **changes: Any) -> Brief:
    fixed: dict[str, Any] = {
        "unit_id": "user",
        "arm": "group",
        "arms": {"0": "control", "1": "treatment"},
        "metrics": {"solved": {"numerator": "done", "type": "proportion", "display": "share"}},
    }
    return brief_of(hash_scheme="none", table=fixed | table, **changes)


def users(**columns: Any) -> pl.DataFrame:
    fixed: dict[str, Any] = {"user": [1, 2, 3, 4], "group": [0, 1, 0, 1], "done": [1, 0, 1, 1]}
    return pl.DataFrame(fixed | columns)


@pytest.mark.parametrize("group", [[0, 1, 0, 1], ["0", "1", "0", "1"], [0.0, 1.0, 0.0, 1.0]])
def test_arm_values_are_compared_as_text(group: list[object]) -> None:
    mad, metrics = mad_from_table(users(group=group), table_brief({}))
    assert mad["arm"].to_list() == ["control", "treatment", "control", "treatment"]
    assert mad["solved__num"].to_list() == [1.0, 0.0, 1.0, 1.0]
    assert metrics["solved"].type == "proportion"


def test_unknown_arm_values_are_listed() -> None:
    with pytest.raises(SpecError, match=r"\(missing\), 2.*allowed: 0, 1"):
        mad_from_table(users(group=[0, 1, 2, None]), table_brief({}))


def test_every_missing_column_is_named_at_once() -> None:
    brief = table_brief({"unit_id": "person", "stratum": "school"})
    with pytest.raises(SpecError) as caught:
        mad_from_table(users(), brief)
    said = str(caught.value)
    assert "table.unit_id" in said
    assert "table.stratum" in said
    assert "allowed: user, group, done" in said


def test_text_among_numbers_is_named() -> None:
    with pytest.raises(SpecError, match="yes"):
        mad_from_table(users(done=["1", "yes", "NA", ""]), table_brief({}))


def test_a_proportion_takes_only_zero_and_one() -> None:
    with pytest.raises(SpecError, match="neither 0 nor 1"):
        mad_from_table(users(done=[1, 0, 1, 7]), table_brief({}))


def test_a_unit_in_two_arms_stays_in_its_first() -> None:
    frame = pl.DataFrame(
        {
            "user": ["a", "a", "b", "b", None],
            "group": [1, 0, 0, 0, 0],
            "done": [1, 0, 0, 1, 1],
            "at": [date(2026, 3, 9), date(2026, 3, 4), date(2026, 3, 3), date(2026, 3, 5), date(2026, 3, 5)],
        }
    )
    mad, _ = mad_from_table(frame, table_brief({"assigned_at": "at"}))
    assert mad.select("unit_id", "arm", "contaminated", "solved__num").rows() == [
        ("a", "control", True, 0.0),
        ("b", "control", False, 0.0),
    ]
    unordered, _ = mad_from_table(frame, table_brief({}))
    assert unordered["arm"].to_list() == ["treatment", "control"]
    counts = {count.reason: count.rows for count in exclusions_of_table(frame, table_brief({}))}
    assert counts == {"a later row of a unit that was already there": 2, "no unit id": 1}


def test_exposure_that_nobody_logged_is_said_to_be_unknown() -> None:
    brief = table_brief({})
    mad, metrics = mad_from_table(users(), brief)
    readout = read_out(inputs_of(brief, metrics, mad))
    check = {check.name: check for check in readout.integrity}["exposure"]
    assert check.verdict == "cannot_tell"


def test_the_assistments_table_reads_out_with_less_variance() -> None:
    if not ASSISTMENTS.exists():
        pytest.skip(f"the public ASSISTments table is not at {ASSISTMENTS}")
    frame = pl.read_csv(ASSISTMENTS)
    covariates = tuple(name for name in frame.columns if name.startswith("student_prior"))
    brief = brief_of(
        hash_scheme="none",
        primary="completed",
        arms=(Arm(name="text", share=0.5), Arm(name="video", share=0.5)),
        control="text",
        variance_reduction={"method": "cuped"},
        table={
            "unit_id": "user_id",
            "arm": "video",
            "arms": {"0": "text", "1": "video"},
            "metrics": {"completed": {"numerator": "completion", "type": "proportion", "display": "share"}},
            "covariates": covariates,
        },
    )
    mad, metrics = mad_from_table(frame, brief)
    readout = read_out(inputs_of(brief, metrics, mad, exclusions=exclusions_of_table(frame, brief)))
    (adjusted,), (plain,) = readout.estimates, readout.unadjusted
    assert (plain.n_control, plain.n_treatment) == (346, 337)
    # Counted in the file: 205 of 337 with video, 193 of 346 with text.
    assert plain.absolute == pytest.approx(205 / 337 - 193 / 346, abs=1e-12)
    assert adjusted.adjusted
    assert adjusted.se is not None
    assert plain.se is not None
    assert adjusted.se < plain.se
    assert readout.decision.outcome in ("extend", "iterate")
