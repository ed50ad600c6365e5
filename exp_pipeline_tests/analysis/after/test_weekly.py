"""A week against the one before: the numbers by counting, their intervals by leaving learners out."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from exp_pipeline.analysis.after.weekly import (
    in_order,
    last_whole_week,
    monday_of,
    refused,
    week_metric,
    week_of,
    week_quality,
    without_number,
)
from exp_pipeline.model.metrics import Measure
from exp_pipeline_tests.analysis.builders import metric_of

N = 300


def sums(seed: int = 1, fall: float = 0.0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    now, before = rng.random(N) < 0.8, rng.random(N) < 0.8
    den, den_before = rng.poisson(6, N) + 1.0, rng.poisson(6, N) + 1.0
    own = rng.uniform(0.2, 0.8, N)
    return pl.DataFrame(
        {
            "now": now,
            "before": before,
            "num": rng.binomial(den.astype(int), np.clip(own - fall, 0, 1)) * now.astype(float),
            "den": den * now,
            "num_before": rng.binomial(den_before.astype(int), own) * before.astype(float),
            "den_before": den_before * before,
        }
    )


def ratios(frame: pl.DataFrame) -> tuple[float, float]:
    total = {name: float(frame[name].sum()) for name in ("num", "den", "num_before", "den_before")}
    return total["num"] / total["den"], total["num_before"] / total["den_before"]


def test_a_ratio_s_interval_agrees_with_leaving_each_learner_out() -> None:
    frame = sums()
    ratio = metric_of("right", type="ratio", numerator="right", denominator="tried", per=1)
    row = week_metric(ratio, frame)
    now, before = ratios(frame)
    assert row.value == pytest.approx(now)
    assert row.before == pytest.approx(before)
    assert row.change == pytest.approx(now - before)
    assert (row.units, row.units_before) == (frame["now"].sum(), frame["before"].sum())
    left = []
    for place in range(N):
        one, other = ratios(frame.with_row_index().filter(pl.col("index") != place))
        left.append(one - other)
    spread = np.array(left) - np.mean(left)
    error = np.sqrt((N - 1) / N * (spread**2).sum())
    half = (row.ci_upper - row.ci_lower) / 2  # type: ignore[operator]
    # Jackknife and delta method agree to the order of 1/n.
    assert half == pytest.approx(stats.t.ppf(0.975, N - 1) * error, rel=0.02)


def test_a_mean_of_learners_who_came_both_weeks_is_the_paired_t() -> None:
    frame = sums().with_columns(pl.lit(True).alias("now"), pl.lit(True).alias("before"))
    row = week_metric(metric_of("right", type="mean"), frame)
    expected = stats.ttest_rel(frame["num"], frame["num_before"])
    bounds = expected.confidence_interval(0.95)
    assert (row.ci_lower, row.ci_upper) == pytest.approx((bounds.low, bounds.high))
    assert row.moved == (expected.pvalue < 0.05)


def test_a_share_counts_active_learners() -> None:
    frame = sums()
    row = week_metric(metric_of("right"), frame)
    both = frame.filter("now")
    assert row.value == pytest.approx(both.filter(pl.col("num") > 0).height / both.height)


@pytest.mark.parametrize(("direction", "good"), [("increase", False), ("decrease", True)])
def test_a_fall_is_good_where_less_is_better(direction: str, good: bool) -> None:
    metric = metric_of("right", type="ratio", numerator="right", denominator="tried", direction=direction)
    row = week_metric(metric, sums(fall=0.2))
    assert row.moved
    assert row.good is good


def test_what_cannot_be_told_has_a_reason_and_no_number() -> None:
    metric = metric_of("right", type="mean")
    few = week_metric(metric, sums().head(9))
    assert (few.value, few.units) == (None, 0)
    assert "fewer than 10 learners" in few.reason
    alone = week_metric(metric, sums().with_columns(pl.lit(False).alias("before")))
    assert alone.value is not None
    assert (alone.before, alone.change, alone.moved) == (None, None, False)
    assert "the week before" in alone.reason
    empty = sums().with_columns(pl.lit(0.0).alias("den"))
    ratio = metric_of("right", type="ratio", numerator="right", denominator="tried")
    assert "denominator is zero" in week_metric(ratio, empty).reason


def test_metrics_that_have_no_week_are_said() -> None:
    def measure(**changes: Any) -> Measure:
        fields: dict[str, Any] = {"name": "right", "description": "Right.", "events": ("answer_attempted",)}
        return Measure(**(fields | changes))

    most = measure(aggregate="max", of="score")
    assert refused(metric_of("right", type="mean"), {"right": measure()}) == ""
    assert "does not add up" in refused(metric_of("right", type="mean"), {"right": most})
    assert "measure right" in refused(metric_of("right", type="mean"), {})
    kept = metric_of("right", type="retention", from_day=2, window_days=9)
    assert "told only within an experiment" in refused(kept, {"right": measure()})


def test_weeks_are_iso_weeks() -> None:
    assert monday_of("2026-W01") == date(2025, 12, 29)
    assert week_of(date(2025, 12, 29)) == "2026-W01"
    assert [last_whole_week(date(2026, 3, day)) for day in (7, 8, 9, 15)] == [
        "2026-W09", "2026-W10", "2026-W10", "2026-W11",
    ]  # fmt: skip
    for text in ("2026-12", "2026-W54", "soon"):
        with pytest.raises(ValueError, match="must be an ISO week"):
            monday_of(text)


def test_rules_are_counted_by_week_and_quiet_ones_left_out() -> None:
    first = date(2026, 3, 9)
    told = [
        (first, "volume", "fail"),
        (first + timedelta(days=6), "volume", "warn"),
        (first + timedelta(days=7), "volume", "fail"),
        (first - timedelta(days=1), "volume", "pass"),
        (first - timedelta(days=8), "volume", "fail"),
        (first, "retries", "pass"),
        (first, "late_rows", "cannot_tell"),
    ]
    (row,) = week_quality(told, first)
    assert row.model_dump() == {
        "rule": "volume", "failed": 1, "warned": 1, "told": 2,
        "failed_before": 0, "warned_before": 0, "told_before": 1,
    }  # fmt: skip


def test_the_north_star_comes_first() -> None:
    rows = [
        without_number(metric_of(name, kind=kind), "x")
        for name, kind in (("a", "guardrail"), ("b", "input"), ("c", "north-star"), ("d", "output"))
    ]
    assert [row.metric for row in in_order(rows)] == ["c", "d", "b", "a"]
