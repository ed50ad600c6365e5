"""A decay is the later effect less the gain, for the same units, with an interval that can be had by hand."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from exp_pipeline.analysis.after.durability import alpha_of, durability_row, looks_of, missing_days, refused
from exp_pipeline.analysis.effects.estimates import Setting
from exp_pipeline.analysis.units import MetricUnits, frame_of_units, units_of_metric
from exp_pipeline.model.after import DurabilityRow
from exp_pipeline.model.brief import Arm, Brief
from exp_pipeline.model.metrics import Measure, Metric
from exp_pipeline_tests.analysis.builders import END, START, brief_of, locked, metric_of, units_table

DAY = timedelta(days=1)
BRIEF = brief_of(primary="solved")
LOOK = looks_of(BRIEF)[1]
MEAN = metric_of("solved", type="mean")
N = 400


def world(
    gain: float, later: float, *, seed: int = 1
) -> tuple[pl.DataFrame, pl.DataFrame, np.ndarray, np.ndarray]:
    """Units, their days (one in each stretch), and each unit's number in both stretches."""
    rng = np.random.default_rng(seed)
    arms = ["control", "treatment"] * (N // 2)
    treated = np.array([arm == "treatment" for arm in arms])
    own = rng.normal(10, 2, N)
    early = own + rng.normal(0, 1, N) + gain * treated
    late = own + rng.normal(0, 1, N) + later * treated
    days = pl.DataFrame(
        {
            "unit_id": [f"u{number:06d}" for number in range(N)] * 2,
            "event_date": [END - DAY] * N + [LOOK.due - DAY] * N,
            "solved": [*early, *late],
        }
    )
    mad = units_table(arms, solved__num=[0.0] * N, assigned_date=pl.Series([START] * N, dtype=pl.Date))
    return mad, days, early, late


def row_of(
    mad: pl.DataFrame, days: pl.DataFrame, brief: Brief = BRIEF, metric: Metric = MEAN
) -> DurabilityRow:
    units = frame_of_units(mad, brief)
    primary: MetricUnits = units_of_metric(units, metric, brief)
    setting = Setting(brief, "s", locked(brief), units.clustered)
    return durability_row(setting, primary, days, LOOK, "treatment")


def test_looks_come_two_four_and_eight_weeks_after_the_end() -> None:
    assert [look.due - END for look in looks_of(BRIEF)] == [DAY * 14, DAY * 28, DAY * 56]
    assert {look.days for look in looks_of(BRIEF)} == {14}
    assert {look.days for look in looks_of(brief_of(end=START + DAY * 20))} == {7}
    assert alpha_of(BRIEF) == pytest.approx(0.05 / 3)


def test_a_fading_mean_is_what_scipy_says_of_what_changed() -> None:
    mad, days, early, late = world(1.5, 0.2)
    row = row_of(mad, days)
    treated = np.arange(N) % 2 == 1
    change = late - early
    expected = stats.ttest_ind(change[treated], change[~treated], equal_var=False)
    bounds = expected.confidence_interval(0.95)
    assert row.gain == pytest.approx(early[treated].mean() - early[~treated].mean(), abs=1e-9)
    assert row.later == pytest.approx(late[treated].mean() - late[~treated].mean(), abs=1e-9)
    assert row.change == pytest.approx(row.later - row.gain, abs=1e-9)  # type: ignore[operator]
    assert (row.ci_lower, row.ci_upper) == pytest.approx((bounds.low, bounds.high), abs=1e-9)
    one_sided = stats.ttest_ind(change[treated], change[~treated], equal_var=False, alternative="less")
    assert row.p_value == pytest.approx(one_sided.pvalue, rel=1e-6)
    assert row.decayed
    both = early + late
    assert row.cumulative == pytest.approx(both[treated].mean() - both[~treated].mean(), abs=1e-9)


def test_what_lasts_grows_or_never_helped_has_not_decayed() -> None:
    assert not row_of(*world(1.5, 1.5)[:2]).decayed
    grown = row_of(*world(1.0, 2.0)[:2])
    assert not grown.decayed
    assert grown.p_value is not None
    assert grown.p_value > 0.5
    assert not row_of(*world(-1.0, -2.0)[:2]).decayed


def test_for_less_is_better_a_decay_is_a_rise() -> None:
    mad, days, _, _ = world(-1.5, -0.1)
    less = metric_of("solved", type="mean", direction="decrease")
    assert row_of(mad, days, metric=less).decayed
    assert not row_of(mad, days).decayed


def test_only_units_that_were_in_before_the_last_stretch_count() -> None:
    mad, days, _, _ = world(1.5, 0.2)
    late_comers = mad.with_columns(
        pl.when(pl.int_range(pl.len()) < 100)
        .then(pl.lit(END - DAY * 14))
        .otherwise(pl.col("assigned_date"))
        .alias("assigned_date")
    )
    some = row_of(late_comers, days)
    assert (some.n_control, some.n_treatment) == (150, 150)
    kept = days.filter(pl.col("unit_id").str.slice(1).cast(pl.Int64) >= 100)
    assert row_of(mad.slice(100), kept).change == pytest.approx(some.change)
    few = row_of(mad.head(12), days)
    assert not few.estimable
    assert "fewer than 10 units" in few.reason
    assert (few.n_control, few.gain) == (0, None)


def test_a_share_counts_who_did_it_in_a_stretch() -> None:
    arms = ["control", "treatment"] * (N // 2)
    mad = units_table(arms, solved__num=[0.0] * N, assigned_date=pl.Series([START] * N, dtype=pl.Date))
    did = {"early": range(0, N, 4), "late": range(1, N, 4)}
    days = pl.DataFrame(
        {
            "unit_id": [f"u{number:06d}" for name in did for number in did[name] for _ in range(2)],
            "event_date": [
                day - DAY * back
                for name, day in (("early", END), ("late", LOOK.due))
                for _ in did[name]
                for back in (1, 14)
            ],
            "solved": [1.0] * (4 * len(did["early"])),
        }
    )
    row = row_of(mad, days, metric=metric_of("solved"))
    # All who did it early are in control (even numbers), all who did it late in treatment: half of each.
    assert row.gain == pytest.approx(-0.5)
    assert row.later == pytest.approx(0.5)
    assert row.cumulative == pytest.approx(0.0)


def test_clusters_are_compared_as_clusters() -> None:
    mad, days, *_ = world(1.5, 0.2, seed=3)
    brief = brief_of(primary="solved", randomisation_unit="class")
    classes = mad.with_columns(
        pl.format("{}-{}", "arm", pl.int_range(pl.len()) // 2 % 20).alias("cluster_id")
    )
    row = row_of(classes, days, brief=brief)
    alone = row_of(mad, days)
    assert row.change == pytest.approx(alone.change)
    assert (row.ci_lower, row.ci_upper) != (alone.ci_lower, alone.ci_upper)


@pytest.mark.parametrize(
    ("metric", "brief", "reason"),
    [
        (metric_of("solved", type="quantile", quantile=0.9), {}, "no daily parts"),
        (MEAN, {"end": START + DAY * 10}, "fewer than 14 days"),
        (metric_of("other", type="mean"), {}, "hold no measure other"),
    ],
)
def test_what_cannot_be_followed_is_said(metric: Metric, brief: dict[str, Any], reason: str) -> None:
    _, days, _, _ = world(1, 1)
    assert reason in refused(brief_of(**brief), metric, days, {})


def test_a_measure_that_does_not_add_up_is_refused() -> None:
    _, days, _, _ = world(1, 1)
    most = Measure(
        name="solved", description="Most.", events=("answer_attempted",), aggregate="max", of="score"
    )
    assert "does not add up" in refused(BRIEF, MEAN, days, {"solved": most})


def test_missing_days_are_named() -> None:
    first = date(2026, 3, 1)
    assert missing_days(first, first + DAY * 3, [first]) == [first + DAY, first + DAY * 2]


def test_several_arms_share_the_level() -> None:
    arms = (Arm(name="control", share=0.5), Arm(name="treatment", share=0.25), Arm(name="other", share=0.25))
    assert alpha_of(brief_of(arms=arms)) == pytest.approx(0.05 / 6)
