"""What receiving did: against a ratio of two regressions, per arm, by cluster, and never where unknown."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm

from exp_pipeline.analysis.readout import read_out
from exp_pipeline.model.brief import Arm
from exp_pipeline.model.readout import Readout
from exp_pipeline_tests.analysis.builders import brief_of, inputs_of, metric_of, units_table

MINUTES = metric_of("minutes", type="mean", display="minutes")
ACCEPTED = metric_of("accepted", type="ratio", denominator="answers")


def world(n: int = 900, *, taken: float = 0.6, crossed: float = 0.0, seed: int = 5) -> pl.DataFrame:
    """Some of either arm are exposed, some of those of control to treatment as well; that adds five."""
    rng = np.random.default_rng(seed)
    arms = ["control", "treatment"] * (n // 2)
    treated = np.tile([False, True], n // 2)
    keen = rng.random(n) < taken
    strays = ~treated & keen & (rng.random(n) < crossed)
    received = (treated & keen) | strays
    exposed = keen
    moment = datetime(2026, 3, 3, 9)
    return units_table(
        arms,
        minutes__num=20.0 + 4.0 * keen + 5.0 * received + rng.normal(0, 3, n),
        accepted__num=rng.poisson(3, n).astype(float),
        accepted__den=np.full(n, 6.0),
        exposed=[bool(one) for one in exposed],
        contaminated=[bool(one) for one in strays],
        first_exposed_at=pl.Series([moment if one else None for one in exposed], dtype=pl.Datetime("us")),
        exposures=[int(one) for one in exposed],
        cluster_id=[f"c{place // 10 * 2 + place % 2:03d}" for place in range(n)],
    )


def readout(mad: pl.DataFrame, primary: str = "minutes", **changes: Any) -> Readout:
    brief = brief_of(primary=primary, contamination_limit=1.0, **changes)
    return read_out(inputs_of(brief, {"minutes": MINUTES, "accepted": ACCEPTED}, mad))


def two_stages(y: np.ndarray, arm: np.ndarray, dose: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Ratio of coefficients, and its error from the stacked residuals by group, by plain least squares."""
    design = np.column_stack([np.ones(y.size), arm])
    effect = np.linalg.lstsq(design, y, rcond=None)[0][1] / np.linalg.lstsq(design, dose, rcond=None)[0][1]
    structural = y - effect * dose
    fit = sm.OLS(structural, design).fit(cov_type="cluster", cov_kwds={"groups": groups})
    stage = np.linalg.lstsq(design, dose, rcond=None)[0][1]
    return float(effect), float(fit.bse[1] / abs(stage))


def test_the_effect_on_those_who_were_exposed_is_recovered() -> None:
    mad = world()
    found = readout(mad)
    (row,) = found.compliance
    arm = (mad["arm"] == "treatment").to_numpy()
    dose = (arm & mad["exposed"].to_numpy()).astype(float)
    y = mad["minutes__num"].to_numpy()
    effect, se = two_stages(y, arm.astype(float), dose, np.arange(y.size))
    assert row.absolute == pytest.approx(effect, rel=1e-9)
    assert row.se == pytest.approx(se, rel=1e-3)  # another factor for small samples
    assert row.ci_lower is not None
    assert row.ci_upper is not None
    assert row.ci_lower < 5.0 < row.ci_upper
    assert row.sides == "one"
    assert row.received_control == 0.0
    assert not row.weak
    assert row.received_treatment == pytest.approx(dose[arm].mean())
    # The headline stays that of assignment, and the decision rests on it.
    assert found.estimates[0].absolute == pytest.approx(row.itt)
    assert found.estimates[0].absolute == pytest.approx(y[arm].mean() - y[~arm].mean())


def test_two_sided_receipt_is_told_and_by_cluster_the_error_grows() -> None:
    mad = world(crossed=0.2)
    (row,) = readout(mad).compliance
    assert row.sides == "two"
    assert row.received_control is not None
    assert row.received_control > 0.05
    assert any("control received it too" in flag for flag in row.flags)
    (clustered,) = readout(mad, randomisation_unit="class").compliance
    arm = (mad["arm"] == "treatment").to_numpy()
    dose = np.where(arm, mad["exposed"].to_numpy(), mad["contaminated"].to_numpy()).astype(float)
    groups = mad["cluster_id"].rank("dense").to_numpy().astype(int)
    effect, se = two_stages(mad["minutes__num"].to_numpy(), arm.astype(float), dose, groups)
    assert clustered.absolute == pytest.approx(effect, rel=1e-9)
    assert clustered.clusters == 180
    assert clustered.se == pytest.approx(se, rel=2e-2)  # CR1 or CR2 against statsmodels' factor


def test_a_weak_first_stage_has_an_interval_that_holds_anyway() -> None:
    (row,) = readout(world(300, taken=0.02, seed=8)).compliance
    assert row.weak
    assert row.first_stage_f is not None
    assert row.first_stage_f < 10.0
    assert any("Anderson-Rubin" in flag for flag in row.flags)
    if row.robust_kind == "everything":
        assert row.robust_lower is None
    else:
        # No effect that a test of y - b received rejects lies inside.
        assert row.robust_lower is not None
        assert row.robust_upper is not None


def test_every_arm_has_its_own_and_what_cannot_be_told_is_refused_in_words() -> None:
    arms = (Arm(name="control", share=0.5), Arm(name="a", share=0.25), Arm(name="b", share=0.25))
    mad = world(1_200).with_columns(
        pl.when(pl.col("arm") == "treatment")
        .then(pl.when(pl.int_range(pl.len()) // 56 % 2 == 1).then(pl.lit("a")).otherwise(pl.lit("b")))
        .otherwise("arm")
        .alias("arm")
    )
    assert [row.arm for row in readout(mad, arms=arms).compliance] == ["a", "b"]
    (refused,) = readout(world(), primary="accepted").compliance
    assert not refused.estimable
    assert "ratio" in refused.reason
    assert refused.absolute is None
    unknown = world().with_columns(pl.lit(None, dtype=pl.Int64).alias("exposures"))
    assert readout(unknown).compliance == ()


def test_a_table_says_itself_what_was_received() -> None:
    mad = world().with_columns(
        pl.when(pl.col("arm") == "treatment").then(2.0).otherwise(0.5).alias("received"),
        pl.lit(None, dtype=pl.Int64).alias("exposures"),
    )
    found = readout(mad)
    (row,) = found.compliance
    assert row.sides is None
    assert row.first_stage == pytest.approx(1.5)
    assert row.itt is not None
    assert row.absolute == pytest.approx(row.itt / 1.5)
