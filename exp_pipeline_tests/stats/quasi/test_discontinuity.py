from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from exp_pipeline.stats.quasi.density import DensityJump, density_jump
from exp_pipeline.stats.quasi.discontinuity import (
    Discontinuity,
    discontinuity_effect,
    donut_effects,
    placebo_covariates,
)
from exp_pipeline.stats.quasi.local_polynomial import neighbour_residuals
from exp_pipeline.stats.quasi.outcome import NOT_RANDOMISED
from exp_pipeline.stats.results import NotEstimable
from exp_pipeline_tests.stats.golden import golden

RDROBUST = golden("quasi_discontinuity")
# Both sides solve the same small least squares; pilots raise differences to small powers.
DIGITS = 1e-8


def estimated(result: Discontinuity | NotEstimable) -> Discontinuity:
    assert isinstance(result, Discontinuity), result
    assert result.effect.label == NOT_RANDOMISED
    return result


def jumped(result: DensityJump | NotEstimable) -> DensityJump:
    assert isinstance(result, DensityJump), result
    return result


@pytest.mark.parametrize("name", RDROBUST)
def test_estimates_and_bandwidths_equal_rdrobust(name: str) -> None:
    case = RDROBUST[name]
    found = estimated(
        discontinuity_effect(
            case["y"], case["x"], cutoff=case["cutoff"], received=case["received"], bandwidth=case["given"]
        )
    )
    assert found.bandwidth == pytest.approx(case["bandwidth"], rel=DIGITS)
    assert found.bias_bandwidth == pytest.approx(case["bias_bandwidth"], rel=DIGITS)
    assert found.conventional == pytest.approx(case["estimates"][0], rel=DIGITS)
    assert found.conventional_se == pytest.approx(case["se"][0], rel=DIGITS)
    assert found.effect.absolute == pytest.approx(case["estimates"][1], rel=DIGITS)
    assert found.effect.se == pytest.approx(case["se"][2], rel=DIGITS)
    assert (found.effect.ci_lower, found.effect.ci_upper) == pytest.approx(case["ci"], rel=1e-7)
    assert [found.effect.n_control, found.effect.n_treatment] == case["rows"]
    assert any("share a value" in flag for flag in found.effect.flags) == (name in ("marks", "coarse"))


def drawn(seed: int, n: int = 400, jump: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return 2 + x + 0.5 * x**2 + jump * (x >= 0) + rng.normal(size=n), x


def test_one_bandwidth_is_a_local_quadratic() -> None:
    # With both bandwidths alike the correction makes the quadratic's own jump: a fit of another kind.
    y, x = drawn(1)
    found = estimated(discontinuity_effect(y, x, bandwidth=0.8))
    w = np.sqrt(np.maximum(1 - np.abs(x) / 0.8, 0))
    right = x >= 0
    for order, wanted in ((1, found.conventional), (2, found.effect.absolute)):
        columns = [(x**k) * side for side in (~right, right) for k in range(order + 1)]
        fit = np.linalg.lstsq(np.column_stack(columns) * w[:, None], y * w, rcond=None)[0]
        assert fit[order + 1] - fit[0] == pytest.approx(wanted, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 40), st.booleans())
def test_neighbours_by_looking_at_every_pair(seed: int, n: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    at = np.sort(rng.integers(0, 12, n).astype(float) if ties else rng.normal(size=n))
    y = rng.normal(size=(n, 1))
    found = neighbour_residuals(at, y)[:, 0]
    for i in range(n):
        away = np.abs(at - at[i])
        # Rows at one distance come together, on both sides.
        limit = np.sort(np.delete(away, i))[min(3, n - 1) - 1]
        chosen = np.flatnonzero((away <= limit + 1e-12) & (np.arange(n) != i))
        j = chosen.size
        assert found[i] == pytest.approx(math.sqrt(j / (j + 1)) * (y[i, 0] - y[chosen, 0].mean()), abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 10_000),
    st.floats(0.1, 40.0),
    st.floats(-500.0, 500.0),
    st.floats(0.1, 30.0),
    st.booleans(),
)
def test_scale_shift_order_and_mirror(
    seed: int, scale: float, shift: float, stretch: float, fuzzy: bool
) -> None:
    y, x = drawn(seed, 250)
    rng = np.random.default_rng(seed)
    received = (rng.random(250) < np.where(x >= 0, 0.9, 0.2)).astype(float) if fuzzy else None
    plain = estimated(discontinuity_effect(y, x, received=received))
    turned = rng.permutation(250)
    found = estimated(
        discontinuity_effect(
            (y * scale + shift)[turned],
            (x * stretch + 3.0)[turned],
            cutoff=3.0,
            received=None if received is None else received[turned],
        )
    )
    assert found.effect.absolute == pytest.approx(plain.effect.absolute * scale, rel=1e-5, abs=1e-7)
    assert found.effect.se == pytest.approx(plain.effect.se * scale, rel=1e-5)
    assert found.bandwidth == pytest.approx(plain.bandwidth * stretch, rel=1e-5)
    mirrored = estimated(discontinuity_effect(y, -x, received=None if received is None else 1.0 - received))
    assert mirrored.effect.absolute == pytest.approx(-plain.effect.absolute, rel=1e-6, abs=1e-9)
    assert mirrored.effect.se == pytest.approx(plain.effect.se, rel=1e-6)


def test_full_compliance_is_the_sharp_design() -> None:
    y, x = drawn(3)
    sharp = estimated(discontinuity_effect(y, x, bandwidth=0.9, bias_bandwidth=1.3))
    fuzzy = estimated(discontinuity_effect(y, x, received=x >= 0, bandwidth=0.9, bias_bandwidth=1.3))
    assert fuzzy.effect.absolute == pytest.approx(sharp.effect.absolute, rel=1e-10)
    assert fuzzy.effect.se == pytest.approx(sharp.effect.se, rel=1e-10)
    assert fuzzy.first_stage is not None
    assert fuzzy.first_stage.estimate == pytest.approx(1.0)


def test_covers_a_bent_curve_where_the_conventional_interval_does_not() -> None:
    rng = np.random.default_rng(75)
    hits = plain = 0
    trials = 150
    for _ in range(trials):
        x = 2 * rng.beta(2, 4, 500) - 1
        # Lee's (2008) curve as Calonico, Cattaneo and Titiunik (2014) simulate it, in its harder form.
        left = 3.71 + 2.30 * x + 3.28 * x**2 + 1.45 * x**3 + 0.23 * x**4 + 0.03 * x**5
        right = 0.26 + 18.49 * x - 54.81 * x**2 + 74.30 * x**3 - 45.02 * x**4 + 9.83 * x**5
        y = np.where(x < 0, left, right) + 0.1295 * rng.normal(size=500)
        found = estimated(discontinuity_effect(y, x))
        truth = 0.26 - 3.71
        hits += found.effect.ci_lower < truth < found.effect.ci_upper
        plain += abs(found.conventional - truth) < 1.96 * found.conventional_se
    # Three Monte Carlo errors are 0.053.
    assert 0.897 < hits / trials < 0.993
    assert plain / trials < hits / trials - 0.04


def test_placebo_and_donut() -> None:
    rng = np.random.default_rng(12)
    y, x = drawn(12, 800)
    covariates = np.column_stack(
        [rng.normal(size=800) + x, rng.normal(size=800) + 2.0 * (x >= 0), np.ones(800)]
    )
    rows = placebo_covariates(covariates, x, names=["age", "sorted", "constant"])
    assert rows[0].p_holm is not None
    assert rows[1].p_holm is not None
    assert rows[0].p_holm > 0.05
    assert rows[1].p_holm < 1e-6
    assert rows[2].p_value is None
    assert rows[2].reason is not None
    donut = donut_effects(y, x, (0.0, 0.05))
    whole = estimated(discontinuity_effect(y, x))
    assert isinstance(donut[0].result, Discontinuity)
    assert donut[0].result == whole
    assert donut[1].left_out == int((np.abs(x) < 0.05).sum())
    assert isinstance(donut[1].result, Discontinuity)
    assert abs(donut[1].result.effect.absolute - 1.0) < 4 * donut[1].result.effect.se


def test_reasons_and_misuse() -> None:
    y, x = drawn(5, 200)
    for result, words in (
        (discontinuity_effect(y, np.abs(x) + 0.1), "below the cutoff"),
        (discontinuity_effect(np.full(200, 2.2), x), "does not vary"),
        (discontinuity_effect(y, x, received=np.ones(200)), "no first stage"),
        (discontinuity_effect(y, x, bandwidth=1e-6), "within the bandwidth"),
        (discontinuity_effect(y, np.sign(x)), "five different values"),
        (density_jump(x[:30]), "a density needs"),
    ):
        assert isinstance(result, NotEstimable)
        assert words in result.reason, result.reason
    with pytest.raises(ValueError, match="running must"):
        discontinuity_effect(y, x[1:])
    with pytest.raises(ValueError, match="bandwidth"):
        discontinuity_effect(y, x, bandwidth=-1.0)
    with pytest.raises(ValueError, match="bias_bandwidth"):
        discontinuity_effect(y, x, bias_bandwidth=1.0)
    with pytest.raises(ValueError, match="radii"):
        donut_effects(y, x, (-0.1,))
    rng = np.random.default_rng(1)
    weak = estimated(discontinuity_effect(y, x, received=rng.normal(size=200) + 0.05 * (x >= 0)))
    assert any("weak first stage" in flag for flag in weak.effect.flags)


def test_the_density_is_unbiased_for_a_quadratic() -> None:
    # The kernel integrates any quadratic to its value at the boundary: by numerical integration.
    from exp_pipeline.stats.quasi.density import _boundary_kernel

    for coefficients in ((1.0, 0.0, 0.0), (0.4, -1.3, 0.7)):
        wanted = coefficients[0]
        found = quad(
            lambda u, c=coefficients: (
                float(_boundary_kernel(np.array([u]))[0]) * float(np.polyval(c[::-1], u))
            ),
            0,
            1,
        )[0]
        assert found == pytest.approx(wanted, abs=1e-10)


def test_the_density_is_mccrarys_with_narrow_bins() -> None:
    x = np.random.default_rng(9).normal(0.3, 1, 3000)
    found = jumped(density_jump(x, bandwidth=0.7))
    width = 1e-4
    heights = []
    for side in (-x[x < 0], x[x >= 0]):
        count, edges = np.histogram(side, np.arange(0, 0.7 + width, width))
        middle = (edges[:-1] + edges[1:]) / 2
        w = np.sqrt(np.maximum(1 - middle / 0.7, 0))
        fit = np.linalg.lstsq(
            np.vander(middle, 3, increasing=True) * w[:, None], count / (x.size * width) * w, rcond=None
        )[0]
        heights.append(fit[0])
    # Bins of 1e-4 of a bandwidth of 0.7 move a height by about their ratio.
    assert (found.below, found.above) == pytest.approx(heights, rel=1e-3)
    from exp_pipeline.stats.quasi.density import _boundary_kernel

    # The jump is a mean over units, each with its weight, so its error is that of a mean.
    each = np.where(np.abs(x) < 0.7, np.sign(x) * _boundary_kernel(np.abs(x) / 0.7) / 0.7, 0.0)
    assert found.jump == pytest.approx(each.mean(), rel=1e-9)
    assert found.se == pytest.approx(each.std(ddof=1) / math.sqrt(x.size), rel=1e-9)


def test_the_density_test_keeps_its_size_and_sees_sorting() -> None:
    rng = np.random.default_rng(76)
    trials = 200
    alarms = seen = 0
    for _ in range(trials):
        x = rng.normal(0.4, 1.0, 1200)
        found = jumped(density_jump(x))
        alarms += found.p_value < 0.05
        moved = np.where((x < 0) & (x > -0.15) & (rng.random(1200) < 0.6), -x, x)
        seen += jumped(density_jump(moved)).p_value < 0.05
    # Three Monte Carlo errors are 0.046.
    assert alarms / trials < 0.096
    assert seen / trials > 0.5
    heaped = jumped(density_jump(np.round(rng.normal(size=2000), 1)))
    assert any("heaps" in flag for flag in heaped.flags)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 100.0))
def test_density_scales_and_mirrors(seed: int, scale: float) -> None:
    x = np.random.default_rng(seed).normal(0.2, 1, 300)
    plain = jumped(density_jump(x))
    found = jumped(density_jump(x * scale + 5, cutoff=5.0))
    assert found.jump * scale == pytest.approx(plain.jump, rel=1e-5, abs=1e-8)
    assert found.p_value == pytest.approx(plain.p_value, rel=1e-4, abs=1e-9)
    mirrored = jumped(density_jump(-x))
    assert mirrored.jump == pytest.approx(-plain.jump, rel=1e-8, abs=1e-10)
