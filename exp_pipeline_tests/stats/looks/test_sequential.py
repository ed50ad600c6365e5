from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from exp_pipeline.stats.effects.means import difference_in_proportions
from exp_pipeline.stats.looks.always_valid import (
    AlwaysValidInterval,
    Mixture,
    always_valid_interval,
    best_information,
)
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.stats.golden import golden

PLAIN = Effect(
    "welch",
    500,
    500,
    0.0,
    0.0,
    0.0,
    1.0,
    math.inf,
    -1.96,
    1.96,
    1.0,
    0.95,
    None,
    None,
    None,
    None,
    None,
    None,
)


def interval(effect: Effect, planned_n: int, side: str = "both", level: float = 0.95) -> AlwaysValidInterval:
    found = always_valid_interval(effect, planned_n=planned_n, side=side, level=level)  # type: ignore[arg-type]
    assert isinstance(found, AlwaysValidInterval)
    return found


def test_the_bounds_solve_the_mixture_by_brute_force() -> None:
    # The mixture of likelihood ratios over normal effects, integrated numerically, equals 1 / alpha there.
    from scipy import integrate, stats

    for n, planned_n in ((1000, 1000), (200, 1000), (4000, 1000)):
        effect = replace(PLAIN, n_control=n // 2, n_treatment=n // 2)
        both = interval(effect, planned_n)
        lower = interval(effect, planned_n, "lower")
        # Spread of the prior in standard errors of the planned size, from the closed forms' own optimum.
        for found, alpha, half in ((both, 0.05, False), (lower, 0.10, True)):
            grid = np.linspace(0.01, 60, 400_000)
            best = grid[np.argmin((1 + 1 / grid) * (np.log1p(grid) - 2 * np.log(alpha)))]
            tau = math.sqrt(best * n / planned_n)
            z = -found.lower

            def ratio(theta: float, z: float = z, tau: float = tau) -> float:
                return float(math.exp(theta * z - theta**2 / 2) * stats.norm.pdf(theta, 0, tau))

            value = integrate.quad(ratio, 0 if half else -40, 40, limit=300)[0] * (2 if half else 1)
            # The grid finds the optimum to 2e-4, quad integrates to 1e-8.
            assert value == pytest.approx(20.0, rel=2e-3)


@pytest.mark.parametrize(
    "case", golden("sequences")["normal_mixture"], ids=lambda case: f"{case['n']}-{case['one_sided']}"
)
def test_radius_equals_confseq(case: dict) -> None:  # type: ignore[type-arg]
    n = case["n"]
    effect = replace(PLAIN, n_control=n // 2, n_treatment=n // 2)
    # confseq tunes by an approximation of the optimum x = log((1 + x) / alpha^2) that ours solves: ask ours
    # for the size at which it tunes as confseq does.
    alpha = 0.10 if case["one_sided"] else 0.05
    theirs = -2 * math.log(alpha) + math.log1p(-2 * math.log(alpha))
    best = theirs
    for _ in range(100):
        best = math.log1p(best) - 2 * math.log(alpha)
    planned_n = round(case["planned_n"] * best / theirs)
    found = interval(effect, planned_n, "lower" if case["one_sided"] else "both")
    # A planned size rounded to a whole unit moves the radius by less than a part in ten thousand.
    assert -found.lower == pytest.approx(case["radius"], rel=1e-4)


def test_narrowest_at_the_planned_size_and_wider_than_one_look() -> None:
    def radius(planned_n: int) -> float:
        return interval(PLAIN, planned_n).upper

    best = radius(1000)
    assert best < min(radius(700), radius(1400))
    assert 1.96 < best < 3.2
    assert 1.645 < -interval(PLAIN, 1000, "lower").lower < best


@settings(max_examples=50, deadline=None)
@given(st.floats(-12, 12), st.integers(100, 100_000), st.sampled_from(["both", "lower", "upper"]))
def test_p_value_and_interval_agree(absolute: float, planned_n: int, side: str) -> None:
    found = interval(replace(PLAIN, absolute=absolute), planned_n, side)
    excluded = found.lower > 0 or found.upper < 0
    if abs(found.p_value - 0.05) > 1e-9:
        assert (found.p_value < 0.05) == excluded
    other = {"both": "both", "lower": "upper", "upper": "lower"}[side]
    mirrored = interval(replace(PLAIN, absolute=-absolute), planned_n, other)
    assert (mirrored.lower, mirrored.upper) == pytest.approx((-found.upper, -found.lower), abs=1e-9)


@pytest.mark.parametrize("df", [3.0, 22.0, 90.0])
@pytest.mark.parametrize("information", [0.05, 1.5, 30.0])
def test_the_t_mixture_is_the_bayes_factor_of_noncentral_t(df: float, information: float) -> None:
    from scipy import integrate, stats

    spread = math.sqrt(information)
    both, half = Mixture(information, df, one_sided=False), Mixture(information, df, one_sided=True)
    for t in (-2.5, 0.3, 2.0, 4.5):

        def weighed(shift: float, t: float = t) -> float:
            return float(stats.nct.pdf(t, df, shift) * stats.norm.pdf(shift, 0, spread))

        cuts = [-3 * spread, 0.0, t, 3 * spread]
        above = integrate.quad(weighed, 0, 8 * spread + 10, points=[c for c in cuts if c > 0], limit=400)[0]
        below = integrate.quad(weighed, -8 * spread - 10, 0, points=[c for c in cuts if c < 0], limit=400)[0]
        plain = stats.t.pdf(t, df)
        # The noncentral density of scipy keeps about eight digits.
        assert both.log_evidence(t) == pytest.approx(math.log((above + below) / plain), abs=1e-6)
        assert half.log_evidence(t) == pytest.approx(math.log(2 * above / plain), abs=1e-6)


@pytest.mark.parametrize("one_sided", [False, True])
def test_the_radius_is_where_the_evidence_is_enough(one_sided: bool) -> None:
    for df in (4.0, 30.0, math.inf):
        mixture = Mixture(9.0, df, one_sided)
        for alpha in (0.2, 0.05, 0.01):
            radius = mixture.radius(alpha)
            if math.isinf(radius):
                assert mixture.log_evidence(1e9) <= -math.log(alpha)
            else:
                assert mixture.log_evidence(radius) == pytest.approx(-math.log(alpha), rel=1e-9)
    exact, near = (Mixture(2.0, df, one_sided).radius(0.05) for df in (math.inf, 1e9))
    assert near == pytest.approx(exact, rel=1e-6)


def test_looks_at_a_handful_of_units_are_safe_here_and_not_with_the_normal_mixture() -> None:
    rng = np.random.default_rng(21)
    runs, looks, batch, planned = 4000, 40, 2, 24
    counts = batch * np.arange(1, looks + 1)
    rows = rng.normal(size=(runs, 2, batch * looks))
    mean = rows.cumsum(axis=2)[:, :, counts - 1] / counts
    square = (rows**2).cumsum(axis=2)[:, :, counts - 1] / counts
    variance = (square - mean**2) * counts / (counts - 1)
    t = (mean[:, 1] - mean[:, 0]) / np.sqrt(variance.sum(axis=1) / counts)
    for one_sided in (False, True):
        known, ours = np.zeros(runs, dtype=bool), np.zeros(runs, dtype=bool)
        for look, n in enumerate(counts):
            information = best_information(0.05, one_sided=one_sided) * 2 * n / planned
            size = t[:, look] if one_sided else np.abs(t[:, look])
            known |= size > Mixture(information, math.inf, one_sided).radius(0.05)
            ours |= size > Mixture(information, 2.0 * n - 2.0, one_sided).radius(0.05)
        # Taking the variance for known errs well above 5 % from the second unit on.
        assert ours.mean() <= 0.05
        assert known.mean() > 0.06


def test_too_early_is_said() -> None:
    dozen = replace(PLAIN, n_control=6, n_treatment=6, df=10.0)
    waiting = always_valid_interval(dozen, planned_n=2000)
    assert isinstance(waiting, NotEstimable)
    assert "too early" in waiting.reason
    # Tuned to dozens, the same dozen may speak, but farther out than a normal would.
    tuned = interval(dozen, 60)
    assert tuned.radius > interval(replace(dozen, df=math.inf), 60).radius


def test_the_relative_interval_is_as_far_out() -> None:
    counts = difference_in_proportions(400, 1000, 480, 1000)
    assert isinstance(counts, Effect)
    found = interval(counts, 4000)
    at = difference_in_proportions(400, 1000, 480, 1000, level=1 - 2 * float(special.ndtr(-found.radius)))
    assert isinstance(at, Effect)
    assert (found.relative_lower, found.relative_upper) == pytest.approx(
        (at.relative_ci_lower, at.relative_ci_upper), rel=1e-9
    )
    lower = interval(counts, 4000, "lower")
    assert lower.relative_upper == math.inf
    assert lower.relative_lower is not None
    assert found.relative_lower is not None
    assert lower.relative_lower > found.relative_lower


def test_one_sided_bounds_leave_the_other_side_open() -> None:
    assert interval(PLAIN, 1000, "lower").upper == math.inf
    assert interval(PLAIN, 1000, "upper").lower == -math.inf


def test_daily_looks_cost_nothing_here_and_much_without() -> None:
    rng = np.random.default_rng(11)
    runs, looks, batch = 1500, 28, 50
    gaps = rng.normal(size=(runs, 2, looks, batch)).mean(axis=3).cumsum(axis=2) / np.arange(1, looks + 1)
    absolute = gaps[:, 1] - gaps[:, 0]
    missed = np.zeros(runs, dtype=bool)
    crossed = np.zeros(runs, dtype=bool)
    naive = np.zeros(runs, dtype=bool)
    for look in range(looks):
        n = batch * (look + 1)
        effect = replace(PLAIN, n_control=n, n_treatment=n, se=math.sqrt(2 / n))
        planned_n = 2 * batch * looks
        missed |= np.abs(absolute[:, look]) > interval(effect, planned_n).upper
        crossed |= absolute[:, look] > -interval(effect, planned_n, "lower").lower
        naive |= np.abs(absolute[:, look]) > 1.96 * effect.se
    # Four standard errors of 1,500 runs at 5 % are 2.3 points; looking 28 times naively errs in over 25 %.
    assert missed.mean() <= 0.05
    assert crossed.mean() <= 0.05 + 0.01
    assert naive.mean() > 0.2


def test_refusals_and_mistakes() -> None:
    missing = NotEstimable("welch", "empty", 0, 1)
    assert always_valid_interval(missing, planned_n=100) is missing
    assert isinstance(always_valid_interval(replace(PLAIN, se=0.0), planned_n=100), NotEstimable)
    with pytest.raises(ValueError, match="planned_n"):
        always_valid_interval(PLAIN, planned_n=1)
    with pytest.raises(ValueError, match="side"):
        always_valid_interval(PLAIN, planned_n=10, side="left")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="level"):
        always_valid_interval(PLAIN, planned_n=10, level=95)
