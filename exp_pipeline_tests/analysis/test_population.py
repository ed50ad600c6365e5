"""Eligibility and exclusions really take units out, and each of them is counted under one reason."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pipeline.analysis.population import split_population
from exp_pipeline.analysis.readout import read_out
from exp_pipeline.model.populations import Condition, Exclusion
from exp_pipeline_tests.analysis.builders import brief_of, inputs_of, metric_of, units_table

ASKED = (Condition(column="platform", values=("web", "ios")),)
OUT = (Exclusion(column="school_id", values=("s9",), reason="pilot school"),)


def test_only_eligible_units_are_estimated() -> None:
    arms = ["control", "treatment"] * 400
    platforms = ["web"] * 400 + ["kiosk"] * 200 + ["ios"] * 200
    schools = ["s1"] * 700 + ["s9"] * 100
    solved = [float(place % 7 < 3) for place in range(800)]
    mad = units_table(arms, segment__platform=platforms, segment__school_id=schools, solved__num=solved)
    brief = brief_of(eligibility=ASKED, exclusions=OUT)
    found = read_out(inputs_of(brief, {"solved": metric_of("solved")}, mad))
    told = {one.reason: one.units for one in found.left_out}
    assert told == {
        "platform other than web or ios": {"control": 100, "treatment": 100},
        "school_id s9: pilot school": {"control": 50, "treatment": 50},
    }
    assert [count.assigned for count in found.counts] == [250, 250]
    by_hand = mad.filter((pl.col("segment__platform") != "kiosk") & (pl.col("segment__school_id") != "s9"))
    means = dict(by_hand.group_by("arm").agg(pl.col("solved__num").mean()).iter_rows())
    (row,) = found.estimates
    assert row.mean_control == pytest.approx(means["control"])
    assert row.mean_treatment == pytest.approx(means["treatment"])
    assert any("300 assigned units are not analysed" in limit for limit in found.limits)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["control", "treatment"]),
            st.sampled_from(["web", "ios", "kiosk", None]),
            st.sampled_from(["s1", "s9", None]),
        ),
        max_size=40,
    )
)
def test_every_unit_is_kept_or_counted_once(rows: list[tuple[str, str | None, str | None]]) -> None:
    frame = pl.DataFrame(
        {
            "arm": [row[0] for row in rows],
            "segment__platform": [row[1] for row in rows],
            "segment__school_id": [row[2] for row in rows],
        },
        schema={"arm": pl.String, "segment__platform": pl.String, "segment__school_id": pl.String},
    )
    kept, left = split_population(frame, brief_of(eligibility=ASKED, exclusions=OUT))
    eligible = [row for row in rows if row[1] in ("web", "ios") and row[2] != "s9"]
    assert kept.rows() == eligible
    assert sum(sum(one.units.values()) for one in left) == len(rows) - len(eligible)
    unknown = sum(row[1] is None for row in rows)
    assert sum(sum(one.units.values()) for one in left if "not known" in one.reason) == unknown


def test_nothing_is_left_out_of_a_brief_that_asks_for_nothing() -> None:
    frame = pl.DataFrame({"arm": ["control"]})
    assert split_population(frame, brief_of()) == (frame, ())


def test_a_column_that_units_do_not_carry_is_an_error() -> None:
    frame = pl.DataFrame({"arm": ["control"], "segment__locale": ["de"]})
    with pytest.raises(ValueError, match=r"read platform, which the units do not carry; they carry: locale"):
        split_population(frame, brief_of(eligibility=ASKED))
