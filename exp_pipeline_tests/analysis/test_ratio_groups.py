"""Units by platform, stratum and segment: the counts, their p-values, and what is withheld."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from exp_pipeline.analysis.integrity.ratio_groups import sample_ratio_groups
from exp_pipeline.analysis.units import frame_of_units
from exp_pipeline.model.readout import SampleRatioGroup
from exp_pipeline_tests.analysis.builders import brief_of, units_table


def groups_of(arms: list[str], **columns: Any) -> dict[tuple[str, str], SampleRatioGroup]:
    """The groups of a table of units, by column and value."""
    brief = brief_of()
    mad = units_table(arms, solved=[1.0] * len(arms), **columns)
    found = sample_ratio_groups(frame_of_units(mad, brief), brief)
    assert [(group.column, group.value) for group in found] == sorted(
        (group.column, group.value) for group in found
    )
    return {(group.column, group.value): group for group in found}


def test_each_group_is_counted_and_tested_and_few_units_are_not_told() -> None:
    arms = ["control", "treatment"] * 100 + ["control"] * 40 + ["treatment"] * 4
    platform = ["web"] * 120 + ["ios"] * 80 + ["android"] * 44
    found = groups_of(arms, segment__platform=platform)
    assert found["platform", "web"].counts == {"control": 60, "treatment": 60}
    assert found["platform", "web"].p_value == pytest.approx(1.0)
    # Four of android in one arm are fewer than ten; with ios told they would follow from the total.
    for value in ("android", "ios"):
        group = found["platform", value]
        assert (group.suppressed, group.counts, group.p_value) == (True, {}, None)


def test_a_mismatch_on_one_platform_is_found_after_holm() -> None:
    arms = ["control", "treatment"] * 60 + ["control"] * 60 + ["treatment"] * 20
    found = groups_of(arms, segment__platform=["web"] * 60 + ["ios"] * 60 + ["android"] * 80)
    android = found["platform", "android"]
    assert android.counts == {"control": 60, "treatment": 20}
    assert android.p_value is not None
    assert android.p_adjusted == pytest.approx(3 * android.p_value)
    # Pearson: (60 - 40)^2 / 40 twice is 20, whose upper tail of one degree is 7.7e-6.
    assert android.p_value == pytest.approx(7.744e-6, rel=1e-3)
    assert found["platform", "ios"].p_adjusted == pytest.approx(1.0)


def test_units_without_a_value_are_a_group_and_one_value_is_none() -> None:
    arms = ["control", "treatment"] * 40
    found = groups_of(arms, segment__grade=["6"] * 40 + [None] * 40, segment__school=["s1"] * 80)
    assert {column for column, _ in found} == {"grade"}
    assert sum(sum(group.counts.values()) for group in found.values()) == 80


def test_too_many_values_are_no_groups() -> None:
    arms = ["control", "treatment"] * 300
    places = pl.Series([f"place {number % 30}" for number in range(600)])
    assert groups_of(arms, segment__place=places) == {}
