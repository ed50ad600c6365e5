from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.effects.compliance import ComplierEffect, complier_effect
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.stats.golden import golden

R = golden("compliance")
PYTHON = golden("iv")
# Both sides work in double precision from the same rows.
DIGITS = 1e-9


def estimated(result: ComplierEffect | NotEstimable) -> ComplierEffect:
    assert isinstance(result, ComplierEffect), result
    return result


def rows_of(
    case: dict[str, Any], received: str
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], dict[str, Any]]:
    extra: dict[str, Any] = {}
    if case.get("covariates"):
        extra["covariates"] = np.array(case["covariates"]).T
    if case.get("strata"):
        extra["strata"] = np.array(case["strata"], dtype=int)
    return (np.array(case["y"]), np.array(case["arm"]) == 1, np.array(case[received])), extra


@pytest.mark.parametrize("name", R)
def test_two_stage_least_squares_equals_r(name: str) -> None:
    case = R[name]
    rows, extra = rows_of(case, "d")
    cluster = np.array(case["cluster"], dtype=int)
    robust = estimated(complier_effect(*rows, **extra, method="cr1"))
    assert robust.absolute == pytest.approx(case["absolute"], rel=DIGITS)
    assert robust.se == pytest.approx(case["hc1"], rel=DIGITS)
    assert robust.first_stage.absolute == pytest.approx(case["first_stage"], rel=DIGITS)
    assert robust.first_stage.f == pytest.approx(case["f_hc1"], rel=DIGITS)
    assert robust.itt.absolute == pytest.approx(case["itt"], rel=DIGITS)
    assert robust.itt.se == pytest.approx(case["itt_hc1"], rel=DIGITS)
    # R's root finder stops at 1e-12 of the effect.
    assert robust.anderson_rubin.kind == "interval"
    ends = (robust.anderson_rubin.lower, robust.anderson_rubin.upper)
    assert ends == pytest.approx(case["ar"], rel=1e-8)
    if len(set(case["cluster"])) == len(case["cluster"]):
        return
    cr1 = estimated(complier_effect(*rows, **extra, cluster=cluster, method="cr1"))
    assert cr1.se == pytest.approx(case["cr1"], rel=DIGITS)
    assert cr1.first_stage.f == pytest.approx(case["f_cr1"], rel=DIGITS)
    assert cr1.df == len(set(case["cluster"])) - 1
    few = estimated(complier_effect(*rows, **extra, cluster=cluster))
    assert few.method == "2sls-cr2"
    assert few.se == pytest.approx(case["cr2"]["se"], rel=1e-8)
    assert few.df == pytest.approx(case["cr2"]["df"], rel=1e-7)


@pytest.mark.parametrize("name", PYTHON)
def test_two_stage_least_squares_equals_linearmodels(name: str) -> None:
    case = PYTHON[name]
    rows, extra = rows_of(case, "received")
    cluster = np.array(case["cluster"])
    robust = estimated(complier_effect(*rows, **extra, method="cr1"))
    assert robust.absolute == pytest.approx(case["absolute"], rel=DIGITS)
    assert robust.se == pytest.approx(case["robust_se"], rel=DIGITS)
    clustered = estimated(complier_effect(*rows, **extra, cluster=cluster, method="cr1"))
    assert clustered.se == pytest.approx(case["clustered_se"], rel=DIGITS)
    assert (robust.first_stage.complier_share is None) == (name == "dose")


def test_the_ratio_of_two_differences_by_the_cluster_jackknife() -> None:
    # A second way to the standard error: leave each cluster out.
    case = R["onesided"]
    (y, arm, d), _ = rows_of(case, "d")
    cluster = np.array(case["cluster"], dtype=int)
    result = estimated(complier_effect(y, arm, d, cluster=cluster, method="cr2"))

    def wald(keep: np.ndarray) -> float:
        yes, no = keep & arm, keep & ~arm
        return float((y[yes].mean() - y[no].mean()) / (d[yes].mean() - d[no].mean()))

    names = np.unique(cluster)
    left_out = np.array([wald(cluster != g) for g in names])
    assert result.absolute == pytest.approx(wald(np.ones(y.size, dtype=bool)), rel=1e-12)
    jackknife = math.sqrt((names.size - 1) / names.size * np.sum((left_out - left_out.mean()) ** 2))
    # The jackknife is a third-order neighbour of CR2: within a few percent at 40 clusters.
    assert result.se == pytest.approx(jackknife, rel=0.05)
    assert result.first_stage.one_sided is True
    assert result.first_stage.always_share == 0.0
    assert result.first_stage.never_share == pytest.approx(1 - d[arm].mean())
    assert result.first_stage.complier_share == pytest.approx(d[arm].mean())
    assert not any("moved nobody" in flag for flag in result.flags)


def test_full_compliance_is_the_effect_of_assignment() -> None:
    rng = np.random.default_rng(1)
    arm = np.arange(60) % 2 == 1
    y = rng.normal(size=60) + arm
    result = estimated(complier_effect(y, arm, arm))
    assert (result.absolute, result.se) == pytest.approx((result.itt.absolute, result.itt.se), rel=1e-10)
    assert (result.ci_lower, result.ci_upper) == pytest.approx((result.itt.ci_lower, result.itt.ci_upper))
    robin = result.anderson_rubin
    assert (robin.lower, robin.upper) == pytest.approx((result.itt.ci_lower, result.itt.ci_upper))
    assert result.first_stage.f == math.inf
    assert "that of assignment" in result.flags[-1]


def test_the_p_value_is_that_of_assignment() -> None:
    (y, arm, d), _ = rows_of(R["individual"], "d")
    result = estimated(complier_effect(y, arm, d))
    assert result.p_value == result.itt.p_value
    assert any("moved nobody" in flag for flag in result.flags)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 1.0), st.booleans())
def test_anderson_rubin_set_by_testing_every_effect(seed: int, strength: float, clustered: bool) -> None:
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(20), 4) if clustered else np.arange(80)
    arm = cluster % 2 == 1
    u = rng.normal(size=80)
    d = (strength * arm + u > 0.4).astype(float)
    y = 0.5 * d + u + rng.normal(size=80)
    result = complier_effect(y, arm, d, cluster=cluster)
    if isinstance(result, NotEstimable):
        assert "first stage" in result.reason
        return
    robin = result.anderson_rubin
    for b in np.concatenate([np.linspace(-30, 30, 41), result.absolute + result.se * np.linspace(-4, 4, 17)]):
        effect = clustered_difference(y - b * d, arm, cluster)
        assert isinstance(effect, Effect)
        kept = effect.p_value > 0.05
        if robin.kind == "everything":
            assert kept
            continue
        assert robin.lower is not None
        assert robin.upper is not None
        if min(abs(b - robin.lower), abs(b - robin.upper)) < 1e-6 * (1 + abs(b)):
            continue
        inside = robin.lower < b < robin.upper
        assert kept == (inside if robin.kind == "interval" else not inside)


def test_weak_instruments_where_only_anderson_rubin_holds() -> None:
    rng = np.random.default_rng(2)
    runs, wald_misses, robin_misses, flagged = 400, 0, 0, 0
    for _ in range(runs):
        arm = np.arange(100) % 2 == 1
        u = rng.normal(size=100)
        d = (0.15 * arm + u > 0.2).astype(float)
        y = d + 3 * u + 0.3 * rng.normal(size=100)
        result = complier_effect(y, arm, d)
        if isinstance(result, NotEstimable):
            runs -= 1
            continue
        wald_misses += not result.ci_lower <= 1 <= result.ci_upper
        effect = clustered_difference(y - d, arm, np.arange(100))
        assert isinstance(effect, Effect)
        robin = result.anderson_rubin
        kept = robin.kind == "everything"
        if robin.lower is not None and robin.upper is not None:
            inside = robin.lower <= 1 <= robin.upper
            kept = inside if robin.kind == "interval" else not inside
        robin_misses += not kept
        flagged += "weak first stage" in " ".join(result.flags)
    # Four standard errors of 400 runs at 5 % are 4.4 points.
    assert robin_misses / runs < 0.094
    assert wald_misses / runs > 0.1
    assert flagged / runs > 0.9


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 50), st.floats(-100, 100))
def test_metamorphic(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(14), 5)
    arm = cluster % 2 == 1
    u = rng.normal(size=70)
    x = rng.normal(size=(70, 1))
    d = (1.5 * arm + u > 0.7).astype(float)
    y = d + u + x[:, 0] + rng.normal(size=14)[cluster]

    def late(*rows: Any, cluster: np.ndarray, x: np.ndarray) -> ComplierEffect:
        return estimated(complier_effect(*rows, cluster=cluster, covariates=x))

    base = late(y, arm, d, cluster=cluster, x=x)
    order = rng.permutation(70)
    for other, factor in (
        (late(y[order], arm[order], d[order], cluster=100 - cluster[order], x=x[order]), 1.0),
        (late(y * scale + shift, arm, d, cluster=cluster, x=x * 3 - 1), scale),
        (late(y, ~arm, d, cluster=cluster, x=x), 1.0),
        (late(y, ~arm, 1 - d, cluster=cluster, x=x), -1.0),
    ):
        assert other.absolute == pytest.approx(factor * base.absolute, rel=1e-7, abs=1e-9)
        assert other.se == pytest.approx(abs(factor) * base.se, rel=1e-7)
        assert other.df == pytest.approx(base.df, rel=1e-7)
        assert other.first_stage.f == pytest.approx(base.first_stage.f, rel=1e-7)
        assert other.p_value == pytest.approx(base.p_value, rel=1e-6)


def test_a_dose_counts_by_unit_of_dose() -> None:
    rng = np.random.default_rng(3)
    arm = np.arange(200) % 2 == 1
    hours = rng.gamma(2, 1, 200) * (1 + arm)
    y = 0.7 * hours + rng.normal(size=200)
    by_hour = estimated(complier_effect(y, arm, hours))
    by_minute = estimated(complier_effect(y, arm, hours * 60))
    assert by_minute.absolute * 60 == pytest.approx(by_hour.absolute, rel=1e-10)
    assert by_hour.first_stage.complier_share is None
    assert by_hour.first_stage.one_sided is None


def test_received_less_is_flagged() -> None:
    (y, arm, d), _ = rows_of(R["individual"], "d")
    result = estimated(complier_effect(y, arm, 1 - d))
    assert any("received less" in flag for flag in result.flags)


def test_a_middling_first_stage_where_wald_is_lopsided_and_anderson_rubin_even() -> None:
    rng = np.random.default_rng(5)
    runs, wald, robin, flagged = 500, np.zeros(2), np.zeros(2), 0
    for _ in range(runs):
        arm = rng.permutation(np.arange(200) % 2 == 1)
        u = rng.normal(size=200)
        d = (arm + u > 0.8).astype(float)
        result = estimated(complier_effect(d + 3 * u, arm, d))
        wald += [result.ci_lower > 1, result.ci_upper < 1]
        flagged += "one end" in " ".join(result.flags)
        if result.anderson_rubin.kind == "interval":
            assert result.anderson_rubin.lower is not None
            assert result.anderson_rubin.upper is not None
            robin += [result.anderson_rubin.lower > 1, result.anderson_rubin.upper < 1]
    # Four standard errors of 500 runs at 2.5 % are 2.8 points.
    assert np.all(robin / runs < 0.053)
    assert np.all(robin > 0)
    assert max(wald) > 4 * min(wald)
    assert max(wald) / runs > 0.035
    assert flagged / runs > 0.95


def test_interval_covers_the_complier_effect() -> None:
    rng = np.random.default_rng(4)
    runs, low, high = 500, 0, 0
    for _ in range(runs):
        arm = rng.permutation(np.repeat([False, True], 150))
        u = rng.normal(size=300)
        d = ((u > 0.3) & arm).astype(float)
        y = 2 * d + u + rng.normal(size=300)
        result = estimated(complier_effect(y, arm, d))
        low += result.ci_lower > 2
        high += result.ci_upper < 2
    # Four standard errors of 500 runs at 2.5 % are 2.8 points.
    assert low / runs < 0.053
    assert high / runs < 0.053


@pytest.mark.parametrize(
    ("arm", "received", "y", "words"),
    [
        ([0, 0, 0, 0], [0, 0, 0, 1], [1, 2, 3, 4], "treatment arm is empty"),
        ([0, 0, 1, 1], [0, 1, 0, 1], [1, 2, 3, 4], "no first stage"),
        ([0, 0, 1, 1], [1, 1, 1, 1], [1, 2, 3, 4], "no first stage"),
        ([0, 0, 1, 1], [0, 0, 0, 1], [5, 5, 5, 5], "no spread"),
        ([0, 0, 0, 1], [0, 0, 0, 1], [1, 2, 3, 4], "one cluster"),
        ([0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1], [3, 3, 3, 3, 8, 8], "no spread"),
    ],
)
def test_what_cannot_be_estimated_says_why(
    arm: list[int], received: list[int], y: list[float], words: str
) -> None:
    result = complier_effect(y, arm, received)
    assert isinstance(result, NotEstimable), result
    assert words in result.reason
    assert result.method.startswith("2sls-")


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="received"):
        complier_effect([1.0, 2.0], [True, False], [1.0])
    with pytest.raises(ValueError, match="assigned"):
        complier_effect([1.0, 2.0], [2, 0], [1.0, 0.0])
    with pytest.raises(ValueError, match="received must be finite"):
        complier_effect([1.0, 2.0], [1, 0], [1.0, np.nan])
