"""Power achieved against planned: by simulation; told from all units together while effects are hidden."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from exp_pipeline.analysis.readout import read_out
from exp_pipeline.model.readout import GuardrailResult, PowerAchieved, Readout
from exp_pipeline_tests.analysis.builders import LAST_DAY, START, brief_of, inputs_of, metric_of, units_table

SCORE = metric_of("score", type="mean", display="number")
WAIT = metric_of("wait", type="mean", direction="decrease", display="number")


def readout(
    n: int = 600, *, as_of: date = LAST_DAY, spread: float = 1.0, because: str = "", **changes: Any
) -> Readout:
    rng = np.random.default_rng(12)
    treated = np.arange(n) % 2 == 1
    noise = rng.normal(size=n)
    mad = units_table(
        ["treatment" if one else "control" for one in treated],
        score__num=np.where(treated, spread, 1.0) * noise + 5.0 + 0.1 * treated,
        wait__num=10.0 + rng.normal(size=n),
    ).filter(pl.col("assigned_date") <= as_of)
    given = {"mde": {"absolute": 0.2}, "guardrails": ({"metric": "wait", "margin": 0.2},)} | changes
    brief = brief_of(primary="score", **given)
    return read_out(
        inputs_of(brief, {"score": SCORE, "wait": WAIT}, mad, as_of=as_of, unblinded_because=because)
    )


def told(found: Readout) -> PowerAchieved:
    assert found.power is not None
    return found.power


def test_the_power_told_is_how_often_the_planned_effect_would_be_found() -> None:
    found = readout()
    power, row = told(found), found.estimates[0]
    assert row.se is not None
    assert row.df is not None
    # Noncentral t, as a t test of that error with the planned effect would have it.
    critical = stats.t.ppf(0.975, row.df)
    exact = stats.nct.sf(critical, row.df, 0.2 / row.se) + stats.nct.cdf(-critical, row.df, 0.2 / row.se)
    assert power.achieved_power == pytest.approx(exact, abs=0.003)
    assert power.achieved_mde is not None
    at_mde = stats.nct.sf(critical, row.df, power.achieved_mde / row.se)
    assert at_mde == pytest.approx(0.8, abs=0.003)
    assert power.mde_at_horizon == power.achieved_mde


def test_before_the_end_the_horizon_finds_less() -> None:
    half = START + timedelta(days=13)
    found = readout(as_of=half, because="a board meeting")
    power = told(found)
    assert power.achieved_mde is not None
    assert power.mde_at_horizon == pytest.approx(power.achieved_mde * np.sqrt(0.5))


def test_while_blinded_power_rests_on_all_units_together() -> None:
    power = told(readout(as_of=START + timedelta(days=13), spread=3.0))
    n = power.observed_units_per_arm
    treated = np.arange(600) % 2 == 1
    noise = np.random.default_rng(12).normal(size=600)
    score = np.where(treated, 3.0, 1.0) * noise + 5.0 + 0.1 * treated
    seen = score[[place // 2 % 28 <= 13 for place in range(600)]]
    se = seen.std(ddof=1) * np.sqrt(2 / n)
    df = 2 * n - 2
    expected = (stats.t.ppf(0.975, df) + stats.t.ppf(0.8, df)) * se
    assert power.achieved_mde == pytest.approx(expected, rel=1e-3)  # degrees of freedom of twice as many


def guardrail(found: Readout) -> GuardrailResult:
    (row,) = found.guardrails
    return row


def test_a_guardrail_says_what_it_needs_and_what_it_could_have_shown() -> None:
    row = guardrail(readout())
    assert row.status == "underpowered"
    assert row.needed_units is not None
    assert row.harm is not None
    assert row.harm_bound is not None
    assert row.detectable_harm is not None
    assert row.needed_units > 300
    assert f"{row.needed_units:,} units in the larger arm" in row.reason
    # With a true harm of nil and a margin of that size, the bound lies within it four times in five.
    rng = np.random.default_rng(5)
    se = (row.harm_bound - row.harm) / stats.t.ppf(0.95, 598)
    bounds = rng.normal(0.0, se, 100_000) + stats.t.ppf(0.95, 598) * se
    assert np.mean(bounds <= row.detectable_harm) == pytest.approx(0.8, abs=0.005)
    settled = guardrail(readout(guardrails=({"metric": "wait", "margin": 2.0},)))
    assert settled.status == "pass"
    assert settled.needed_units is None


def test_a_hidden_readout_shows_guardrails_all_the_same() -> None:
    row = guardrail(readout(as_of=START + timedelta(days=13)))
    assert row.detectable_harm is not None
