"""Result tables keep their types where every value is missing, infinite or nested."""

from __future__ import annotations

import math

import polars as pl
import pytest

from exp_pipeline.model.readout import Estimate, IntegrityCheck
from exp_pipeline.steps.experiments.readouts import RESULTS, result_frame

ROW = Estimate(
    experiment="e", snapshot="s", metric="m", title="M", role="primary", display="share",
    direction="increase",
    arm="new", control="control", method="welch", n_control=3, n_treatment=4,
)  # fmt: skip


@pytest.mark.parametrize("name", RESULTS)
def test_no_column_is_without_a_type(name: str) -> None:
    assert pl.Null not in result_frame([], RESULTS[name]).dtypes


def test_the_types_do_not_depend_on_the_rows() -> None:
    full = ROW.model_copy(
        update={"absolute": 0.5, "df": math.inf, "clusters": 7, "segment": "platform", "flags": ("a", "b")}
    )
    frames = [result_frame(rows, Estimate) for rows in ([], [ROW], [full], [ROW, full])]
    assert len({tuple(frame.schema.items()) for frame in frames}) == 1
    assert frames[1]["absolute"].to_list() == [None]
    assert frames[2].select("absolute", "df", "clusters", "flags").row(0) == (0.5, math.inf, 7, '["a", "b"]')


def test_nested_numbers_are_json() -> None:
    check = IntegrityCheck(name="n", title="N", verdict="pass", evidence="", numbers={"p": 0.5, "n": 3})
    assert result_frame([check], IntegrityCheck)["numbers"].to_list() == ['{"n": 3, "p": 0.5}']
