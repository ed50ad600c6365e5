"""A stopped trial's estimate takes every look as its readout had it: covariates, strata and clusters too."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from exp_pipeline.analysis.effects.past_units import PastUnits
from exp_pipeline.analysis.readout import read_out
from exp_pipeline.analysis.units import frame_of_units, units_of_metric
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.metrics import Measure
from exp_pipeline.model.readout import Estimate
from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.effects.adjustment import adjusted_difference
from exp_pipeline.stats.looks.group_sequential import SpendingPlan, StoppedTrial, stopped_trial
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect
from exp_pipeline_tests.analysis.builders import END, START, brief_of, inputs_of, metric_of, units_table

MINUTES = metric_of("minutes", type="mean", display="minutes")
LOOKS = (START + timedelta(days=10), START + timedelta(days=20))
PLAN = SpendingPlan(planned_n=1_120, family="obrien-fleming")


def world(*, seed: int = 3, n: int = 1_120) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Forty units a day; each has minutes on three days, which last week's minutes foretell."""
    rng = np.random.default_rng(seed)
    arms = ["control", "treatment"] * (n // 2)
    days = [START + timedelta(days=place // 40) for place in range(n)]
    before = rng.normal(10, 3, n)
    rows = []
    total = np.zeros(n)
    for place in range(n):
        for step in (0, 1, 4):
            day = days[place] + timedelta(days=step)
            value = before[place] / 3 + rng.normal(0, 0.5) + 0.15 * (place % 2)
            if day < END:
                rows.append((f"u{place:06d}", day, value))
                total[place] += value
    moments = pl.Series([datetime(day.year, day.month, day.day, 9) for day in days], dtype=pl.Datetime("us"))
    mad = units_table(
        arms,
        assigned_at=moments,
        first_exposed_at=moments,
        assigned_date=pl.Series(days, dtype=pl.Date),
        minutes__num=total,
        pre__minutes=before,
        cluster_id=[f"c{place % 2}{place // 20:03d}" for place in range(n)],
    )
    return mad, pl.DataFrame(rows, schema=["unit_id", "event_date", "minutes"], orient="row")


def brief_with(**changes: Any) -> Brief:
    given = {
        "primary": "minutes",
        "looks": LOOKS,
        "stopping": {"rule": "obrien_fleming"},
        "expected_units_per_day": 40,
        "variance_reduction": {"method": "cuped", "covariates": ("minutes",)},
        "mde": {"absolute": 1.0},
    }
    return brief_of(**(given | changes))


def row_of(brief: Brief, frames: tuple[pl.DataFrame, pl.DataFrame]) -> Estimate:
    found = read_out(inputs_of(brief, {"minutes": MINUTES}, frames[0], days=frames[1]))
    assert not found.blinded, found.blinding_reason
    return found.estimates[0]


def by_hand(frames: tuple[pl.DataFrame, pl.DataFrame], end: date) -> pl.DataFrame:
    """Units assigned before a day and what they had by then, summed row by row."""
    sums: dict[str, float] = {}
    for unit, day, value in frames[1].iter_rows():
        if day < end:
            sums[unit] = sums.get(unit, 0.0) + value
    seen = frames[0].filter(pl.col("assigned_date") < end)
    return seen.with_columns(pl.Series("then", [sums.get(unit, 0.0) for unit in seen["unit_id"]]))


def expected(effects: list[Effect]) -> StoppedTrial:
    found = stopped_trial(PLAN, effects, final=True)
    assert isinstance(found, StoppedTrial)
    return found


def test_every_look_is_adjusted_as_the_last_is() -> None:
    frames = world()
    row = row_of(brief_with(), frames)
    assert row.method.startswith("cuped")
    effects = []
    for end in (*LOOKS, END):
        then = by_hand(frames, end)
        sides = [
            Moments.from_array(
                then.filter(pl.col("arm") == arm).select("then", "pre__minutes").to_numpy(), ["y", "x"]
            )
            for arm in ("control", "treatment")
        ]
        effect = adjusted_difference(sides[0], sides[1], outcome="y", covariates=("x",))
        assert isinstance(effect, Effect)
        effects.append(effect)
    wanted = expected(effects)
    assert row.stopped_estimate == pytest.approx(wanted.estimate, rel=1e-6)
    assert (row.stopped_lower, row.stopped_upper) == pytest.approx((wanted.lower, wanted.upper), rel=1e-6)
    # Unadjusted looks would have told much less.
    plain = row_of(brief_with(variance_reduction={"method": "none"}), frames)
    assert row.stopped_upper is not None
    assert row.stopped_lower is not None
    assert plain.stopped_upper is not None
    assert plain.stopped_lower is not None
    assert plain.stopped_upper - plain.stopped_lower > 1.5 * (row.stopped_upper - row.stopped_lower)


def test_every_look_knows_its_clusters() -> None:
    frames = world()
    row = row_of(brief_with(randomisation_unit="class", variance_reduction={"method": "none"}), frames)
    effects = []
    for end in (*LOOKS, END):
        then = by_hand(frames, end)
        effect = clustered_difference(
            then["then"].to_numpy(),
            (then["arm"] == "treatment").to_numpy(),
            then["cluster_id"].rank("dense").cast(pl.Int64).to_numpy(),
        )
        assert isinstance(effect, Effect)
        effects.append(effect)
    assert row.stopped_estimate == pytest.approx(expected(effects).estimate, rel=1e-6)


def test_days_that_do_not_add_up_to_the_snapshot_are_not_used() -> None:
    mad, days = world()
    row = row_of(brief_with(), (mad, days.with_columns(pl.col("minutes") * 1.1)))
    assert row.stopped_estimate is None
    assert any("do not add up" in flag for flag in row.flags)
    assert row.look_lower is not None


def test_what_has_no_daily_parts_says_so() -> None:
    mad, days = world()
    row = row_of(brief_with(), (mad, days.drop("minutes")))
    assert row.stopped_estimate is None
    assert any("no measure minutes" in flag for flag in row.flags)


def test_units_of_the_past_are_those_of_that_day() -> None:
    frames = world()
    brief = brief_with()
    units = units_of_metric(frame_of_units(frames[0], brief), MINUTES, brief)
    past = PastUnits.of(units, frames[1], dict[str, Measure]())
    assert past.agrees(END)
    for end in (*LOOKS, END):
        then = past.at(end, whole_windows=False).frame.sort("unit_id")
        wanted = by_hand(frames, end).sort("unit_id")
        assert then["unit_id"].to_list() == wanted["unit_id"].to_list()
        assert then["num"].to_list() == pytest.approx(wanted["then"].to_list())
    with pytest.raises(ValueError, match="the days hold no measure"):
        PastUnits.of(units, frames[1].drop("minutes"), {})
