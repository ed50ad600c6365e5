"""Other defensible analyses beside the headline: each against plain numpy, scipy or brute force."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from scipy import stats

from exp_pipeline.analysis.readout import read_out
from exp_pipeline.model.readout import RobustnessRow
from exp_pipeline_tests.analysis.builders import brief_of, inputs_of, metric_of, units_table

SCORE = metric_of("score", type="mean", display="number", per=10.0)
RATE = metric_of("rate", type="ratio", denominator="base")


def world(n: int = 800, *, seed: int = 2, **columns: Any) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    arms = ["control", "treatment"] * (n // 2)
    treated = np.arange(n) % 2 == 1
    before = rng.normal(size=n)
    stratum = np.arange(n) // 2 % 3
    score = before * np.where(treated, 1.5, 0.5) + 0.4 * treated + rng.exponential(1.0, n) + stratum
    return units_table(
        arms,
        **(
            {
                "score__num": score,
                "rate__num": np.abs(score),
                "rate__den": np.full(n, 2.0),
                "pre__score": before,
                "stratum": [f"s{one}" for one in stratum],
                "contaminated": [bool(one) for one in np.arange(n) % 200 == 3],
            }
            | columns
        ),
    )


def rows_of(mad: pl.DataFrame, primary: str = "score", **changes: Any) -> dict[str, RobustnessRow]:
    brief = brief_of(
        primary=primary, variance_reduction={"method": "cuped", "covariates": ("score",)}, **changes
    )
    found = read_out(inputs_of(brief, {"score": SCORE, "rate": RATE}, mad))
    assert not found.blinded, found.blinding_reason
    assert found.robustness[0].variant == "headline"
    assert found.robustness[0].absolute == found.estimates[0].absolute
    assert found.robustness[0].why == found.estimates[0].why
    return {row.variant: row for row in found.robustness}


def test_every_analysis_that_the_design_allows_is_there() -> None:
    flat = rows_of(world())
    assert list(flat) == [
        "headline", "unadjusted", "adjusted", "without contaminated units", "largest 1 % capped",
        "adjusted, slopes by arm", "randomisation inference",
    ]  # fmt: skip
    strata = rows_of(world(), strata=("platform",))
    assert "ignoring strata" in strata
    assert "adjusted, slopes by arm" not in strata
    classes = [f"c{place % 2}{place // 80:02d}" for place in range(800)]
    clustered = rows_of(world(cluster_id=classes), randomisation_unit="class")
    assert clustered["ignoring clusters"].kind == "diagnostic"
    assert {"wild bootstrap by cluster", "randomisation inference"} < set(clustered)
    ratio = rows_of(world(), "rate")
    assert "randomisation inference" not in ratio
    classed = rows_of(world(cluster_id=classes), "rate", randomisation_unit="class")
    assert classed["wild bootstrap by cluster"].absolute == pytest.approx(
        classed["headline"].absolute, rel=0.05
    )
    assert all(row.method for row in (*flat.values(), *strata.values(), *clustered.values()))


def test_capped_values_and_slopes_by_arm_agree_with_plain_regressions() -> None:
    mad = world()
    rows = rows_of(mad)
    y, arm = mad["score__num"].to_numpy() * 10.0, (mad["arm"] == "treatment").to_numpy()
    low = np.minimum(y, np.quantile(y, 0.99))
    expected = stats.ttest_ind(low[arm], low[~arm], equal_var=False)
    capped = rows["largest 1 % capped"]
    assert capped.absolute == pytest.approx(low[arm].mean() - low[~arm].mean())
    assert capped.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert capped.note.startswith("8 values")
    before = mad["pre__score"].to_numpy()
    centred = before - before.mean()
    design = sm.add_constant(np.column_stack([arm, centred, arm * centred]).astype(float))
    assert rows["adjusted, slopes by arm"].absolute == pytest.approx(sm.OLS(y, design).fit().params[1])


def test_capping_within_strata_and_clusters_uses_their_estimator() -> None:
    mad = world()
    strata = rows_of(mad, strata=("platform",))
    y, arm = mad["score__num"].to_numpy() * 10.0, (mad["arm"] == "treatment").to_numpy()
    low = np.minimum(y, np.quantile(y, 0.99))
    layers = [(mad["stratum"] == f"s{place}").to_numpy() for place in range(3)]
    design = np.column_stack([arm, *layers]).astype(float)
    expected = np.linalg.lstsq(design, low, rcond=None)[0][0]
    assert strata["largest 1 % capped"].absolute == pytest.approx(expected)
    flat = np.linalg.lstsq(
        np.column_stack([np.ones(y.size), arm, mad["pre__score"].to_numpy()]), y, rcond=None
    )
    assert strata["ignoring strata"].absolute == pytest.approx(flat[0][1])


def test_few_units_go_through_every_assignment() -> None:
    rng = np.random.default_rng(8)
    y = rng.normal(size=10) + np.tile([0.0, 1.5], 5)
    mad = units_table(["control", "treatment"] * 5, score__num=y)
    row = rows_of(mad, minimum_cell=1)["randomisation inference"]

    def t(chosen: np.ndarray) -> float:
        a, b = 10 * y[chosen], 10 * y[~chosen]
        # Least squares with HC1: the variance of each arm with divisor n, times n / (n - 2).
        return float(abs(a.mean() - b.mean()) / np.sqrt((a.var() / a.size + b.var() / b.size) * 10 / 8))

    observed = t(np.arange(10) % 2 == 1)
    every = [t(np.isin(np.arange(10), pick)) for pick in combinations(range(10), 5)]
    assert row.p_value == pytest.approx(np.mean(np.array(every) >= observed * (1 - 1e-9)))
    assert "all assignments" in row.note


def test_draws_agree_with_the_reference_and_with_themselves() -> None:
    first, again = rows_of(world()), rows_of(world())
    row = first["randomisation inference"]
    assert row == again["randomisation inference"]
    plain = first["unadjusted"]
    assert row.absolute == pytest.approx(plain.absolute)
    for drawn, told in ((row.ci_lower, plain.ci_lower), (row.ci_upper, plain.ci_upper)):
        assert drawn is not None
        assert told is not None
        # Quantiles of 799 draws lie within a few per cent of the interval's width.
        assert abs(drawn - told) < 0.08 * (plain.ci_upper - plain.ci_lower)  # type: ignore[operator]


def test_many_units_are_not_drawn_and_it_says_why() -> None:
    row = rows_of(world(6_000))["randomisation inference"]
    assert row.p_value is None
    assert "6,000 units" in row.note


def test_the_wild_bootstrap_agrees_with_drawing_signs_by_hand() -> None:
    n, classes = 600, 20
    rng = np.random.default_rng(4)
    cluster = np.repeat(np.arange(classes), n // classes)
    arm = cluster % 2 == 1
    y = rng.normal(size=classes)[cluster] + rng.normal(size=n) + 0.9 * arm
    mad = units_table(
        ["treatment" if one else "control" for one in arm],
        score__num=y,
        cluster_id=[f"c{one:02d}" for one in cluster],
    )
    row = rows_of(mad, randomisation_unit="class")["wild bootstrap by cluster"]

    def t(values: np.ndarray) -> float:
        gap = values[arm].mean() - values[~arm].mean()
        left = values - np.where(arm, values[arm].mean(), values[~arm].mean())
        sums = np.bincount(cluster, left / np.where(arm, arm.sum(), (~arm).sum()))
        return float(abs(gap) / np.sqrt(np.sum(sums**2)))

    null = y - y.mean()
    draws = [t(null * rng.choice([-1.0, 1.0], classes)[cluster]) for _ in range(4_000)]
    expected = np.mean(np.array(draws) >= t(y))
    assert row.p_value == pytest.approx(expected, abs=0.03)
