from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.quasi.balance import balance_table, e_value, e_value_of_difference
from exp_pipeline.stats.quasi.matching import MatchedEffect, matched_effect
from exp_pipeline.stats.quasi.outcome import NOT_RANDOMISED, QuasiEffect
from exp_pipeline.stats.quasi.propensity import Propensity, propensity_scores
from exp_pipeline.stats.quasi.weighting import doubly_robust_effect, score_weights, weighted_effect
from exp_pipeline.stats.results import NotEstimable
from exp_pipeline_tests.stats.golden import golden

MATCHING = golden("quasi_matching")
WEIGHTING = golden("quasi_weighting")
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


def estimated(result: QuasiEffect | NotEstimable) -> QuasiEffect:
    assert isinstance(result, QuasiEffect), result
    assert result.label == NOT_RANDOMISED
    assert len(result.assumptions) >= 5
    return result


def matched(result: MatchedEffect | NotEstimable) -> MatchedEffect:
    assert isinstance(result, MatchedEffect), result
    return result


def rows_of(case: dict[str, Any]) -> Rows:
    covariates = np.column_stack([case["covariates"][name] for name in case["names"]]).astype(float)
    return np.array(case["y"], dtype=float), np.array(case["treated"]) == 1, covariates


def drawn(seed: int, n: int = 200, effect: float = 1.0, pull: float = 0.8) -> Rows:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    arm = rng.random(n) < 1 / (1 + np.exp(-pull * x[:, 0] + 0.4 * x[:, 1]))
    y = 2 + x[:, 0] + 0.5 * x[:, 1] + effect * arm + rng.normal(size=n)
    return y, arm, x


@pytest.mark.parametrize("name", WEIGHTING)
def test_scores_equal_statsmodels_and_ridge_scikit_learn(name: str) -> None:
    _, arm, x = rows_of(MATCHING[name])
    plain = propensity_scores(arm, x)
    assert isinstance(plain, Propensity)
    np.testing.assert_allclose(plain.scores, WEIGHTING[name]["scores"], rtol=1e-9)
    np.testing.assert_allclose(plain.logits, MATCHING[name]["fits"][0]["logits"], rtol=1e-8, atol=1e-9)
    wanted = WEIGHTING[name]["ridge"]
    ridge = propensity_scores(arm, x, ridge=wanted["penalty"])
    assert isinstance(ridge, Propensity)
    np.testing.assert_allclose(ridge.coefficients, wanted["coefficients"], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", WEIGHTING)
def test_weighted_and_doubly_robust_equal_statsmodels(name: str) -> None:
    y, arm, x = rows_of(MATCHING[name])
    y = (y - y.mean()) / y.std()
    # The sandwich of the method of moments has no factor G / (G - 1).
    plain = math.sqrt((y.size - 1) / y.size)
    ate = estimated(weighted_effect(y, arm, x))
    att = estimated(weighted_effect(y, arm, x, estimand="att"))
    both = estimated(doubly_robust_effect(y, arm, x))
    for found, wanted in (
        (ate, WEIGHTING[name]["ate"]),
        (att, WEIGHTING[name]["att"]),
        (both, WEIGHTING[name]["aipw"]),
    ):
        # statsmodels takes slopes of its moments by one-sided differences: good to 1e-5.
        assert found.absolute == pytest.approx(wanted[0], rel=1e-6)
        assert found.se * plain == pytest.approx(wanted[1], rel=2e-5)


@pytest.mark.parametrize("name", MATCHING)
def test_matching_equals_matching_of_r(name: str) -> None:
    y, arm, x = rows_of(MATCHING[name])
    for fit in MATCHING[name]["fits"]:
        estimand: Literal["att", "ate"] = "att" if fit["estimand"] == "ATT" else "ate"
        found = matched(matched_effect(y, arm, x, k=fit["k"], caliper=fit["caliper"], estimand=estimand))
        assert found.effect.absolute == pytest.approx(fit["effect"], rel=1e-9)
        if fit["caliper"] is None:
            assert found.unmatched == 0
            assert found.effect.se == pytest.approx(fit["se"], rel=1e-9)


@pytest.mark.parametrize("name", MATCHING)
def test_balance_equals_matchit(name: str) -> None:
    _, arm, x = rows_of(MATCHING[name])
    names = MATCHING[name]["names"]
    for fit in MATCHING[name]["fits"]:
        if fit["estimand"] != "ATT":
            continue
        table = balance_table(arm, x, fit["weights"], names=names, spread="treated")
        rows = {row.name: row for row in table.rows}
        for one, before, after in zip(names, fit["before"], fit["after"], strict=True):
            row = rows[one]
            for found, wanted in (
                (row.variance_ratio_before, before[1]),
                (row.variance_ratio_after, after[1]),
            ):
                assert (found is None) == (wanted is None)
                if found is not None:
                    assert found == pytest.approx(wanted, rel=1e-9)
            if row.variance_ratio_before is not None:
                assert row.difference_before == pytest.approx(before[0], rel=1e-9, abs=1e-12)
                assert row.difference_after == pytest.approx(after[0], rel=1e-9, abs=1e-12)
            else:
                # MatchIt takes p (1 - p) for what has two values; ours is the variance of units.
                n = int(arm.sum())
                lift = math.sqrt((n - 1) / n)
                assert row.difference_before == pytest.approx(before[0] * lift, rel=1e-9)
                assert row.difference_after == pytest.approx(after[0] * lift, rel=1e-9, abs=1e-12)
        sizes = [abs(row.difference_before or 0.0) for row in table.rows]
        assert sizes == sorted(sizes, reverse=True)


def brute_matching(
    y: np.ndarray, arm: np.ndarray, logits: np.ndarray, k: int, reach: float
) -> tuple[float, float]:
    gains, used, squares = [], np.zeros(y.size), np.zeros(y.size)
    for i in np.flatnonzero(arm):
        away = np.abs(logits - logits[i])
        away[arm] = np.inf
        limit = min(np.sort(away)[k - 1], reach) + 1e-11
        chosen = np.flatnonzero(away <= limit)
        if chosen.size:
            gains.append(y[i] - y[chosen].mean())
            used[chosen] += 1 / chosen.size
            squares[chosen] += 1 / chosen.size**2
    effect = float(np.mean(gains))
    variance = float(np.sum((np.array(gains) - effect) ** 2))
    for j in np.flatnonzero(~arm):
        away = np.where(arm, np.inf, np.abs(logits - logits[j]))
        away[j] = np.inf
        near = np.append(np.flatnonzero(away <= away.min() + 1e-11), j)
        variance += (used[j] ** 2 - squares[j]) * y[near].var(ddof=1)
    return effect, math.sqrt(variance) / len(gains)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.sampled_from([None, 0.05, 0.5]), st.booleans())
def test_matching_by_looking_at_every_pair(seed: int, k: int, caliper: float | None, ties: bool) -> None:
    y, arm, x = drawn(seed, 60)
    if ties:
        x = np.round(x)
    result = matched_effect(y, arm, x, k=k, caliper=caliper)
    score = propensity_scores(arm, x)
    if isinstance(result, NotEstimable) or isinstance(score, NotEstimable):
        return
    logits = score.logits
    sd = math.sqrt((logits[arm].var(ddof=1) + logits[~arm].var(ddof=1)) / 2)
    wanted = brute_matching(y, arm, logits, k, math.inf if caliper is None else caliper * sd)
    assert (result.effect.absolute, result.effect.se) == pytest.approx(wanted, rel=1e-8)
    weights = result.weights
    assert weights[arm] @ y[arm] - weights[~arm] @ y[~arm] == pytest.approx(wanted[0], rel=1e-9)


def stacked(y: np.ndarray, arm: np.ndarray, x: np.ndarray, kind: str, cluster: np.ndarray) -> float:
    """The sandwich by differences of all estimating equations at once: a second way to each error."""
    from scipy.optimize import fsolve

    z = np.column_stack([np.ones(y.size), x])
    d, p = arm.astype(float), z.shape[1]

    def psi(theta: np.ndarray) -> np.ndarray:
        e = 1 / (1 + np.exp(-z @ theta[:p]))
        logit = z * (d - e)[:, None]
        if kind.startswith("dr"):
            g0, g1, tau = theta[p : 2 * p], theta[2 * p : 3 * p], theta[-1]
            m0, m1 = z @ g0, z @ g1
            rows = [logit, z * ((1 - d) * (y - m0))[:, None], z * (d * (y - m1))[:, None]]
            if kind == "dr-ate":
                last = m1 - m0 + d * (y - m1) / e - (1 - d) * (y - m0) / (1 - e) - tau
            else:
                last = d * (y - m0) - (1 - d) * e / (1 - e) * (y - m0) - d * tau
            return np.column_stack([*rows, last])
        w = {
            "ate": (1 / e, 1 / (1 - e)),
            "att": (np.ones(y.size), e / (1 - e)),
            "overlap": (1 - e, e),
        }[kind]
        a, b = theta[p], theta[p + 1]
        return np.column_stack([logit, d * w[0] * (y - a - b), (1 - d) * w[1] * (y - a)])

    size = 3 * p + 1 if kind.startswith("dr") else p + 2
    root = fsolve(lambda theta: psi(theta).mean(axis=0), np.zeros(size), xtol=1e-13)
    step = 1e-6
    slopes = np.column_stack(
        [
            (psi(root + step * unit).mean(axis=0) - psi(root - step * unit).mean(axis=0)) / (2 * step)
            for unit in np.eye(size)
        ]
    )
    sums = np.stack([psi(root)[cluster == g].sum(axis=0) for g in np.unique(cluster)])
    inverse = np.linalg.inv(slopes)
    covariance = inverse @ (sums.T @ sums) @ inverse.T / y.size**2
    groups = np.unique(cluster).size
    return math.sqrt(covariance[-1, -1] * groups / (groups - 1))


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("kind", ["ate", "att", "overlap", "dr-ate", "dr-att"])
def test_the_error_by_differences_of_all_equations(kind: str, clustered: bool) -> None:
    y, arm, x = drawn(11, 150)
    cluster = np.arange(150) // 5 if clustered else np.arange(150)
    extra: dict[str, Any] = {"cluster": cluster} if clustered else {}
    if kind.startswith("dr"):
        found = doubly_robust_effect(y, arm, x, estimand=kind[3:], **extra)  # type: ignore[arg-type]
    else:
        found = weighted_effect(y, arm, x, estimand=kind, **extra)  # type: ignore[arg-type]
    # Central differences have an error of about the step squared.
    assert estimated(found).se == pytest.approx(stacked(y, arm, x, kind, cluster), rel=1e-6)


METHODS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], QuasiEffect | NotEstimable]] = {
    "ate": lambda y, arm, x: weighted_effect(y, arm, x),
    "overlap": lambda y, arm, x: weighted_effect(y, arm, x, estimand="overlap"),
    "doubly robust": lambda y, arm, x: doubly_robust_effect(y, arm, x),
    "matched": lambda y, arm, x: matched(matched_effect(y, arm, x, estimand="ate")).effect,
}


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 50.0), shift=st.floats(-1e3, 1e3))
def test_scale_shift_order_swap_and_units_of_covariates(
    name: str, seed: int, scale: float, shift: float
) -> None:
    y, arm, x = drawn(seed, 120)
    found = estimated(METHODS[name](y, arm, x))
    turned = np.random.default_rng(seed).permutation(y.size)
    moved = estimated(METHODS[name]((y * scale + shift)[turned], arm[turned], (x * [3.0, 0.01] + 7)[turned]))
    assert moved.absolute == pytest.approx(found.absolute * scale, rel=1e-6, abs=1e-7)
    assert moved.se == pytest.approx(found.se * scale, rel=1e-6)
    swapped = estimated(METHODS[name](y, ~arm, x))
    assert (swapped.absolute, swapped.se) == pytest.approx((-found.absolute, found.se), rel=1e-6)


def test_without_confounding_it_is_welch() -> None:
    # The arms have the same covariates, which tell nothing of the outcome: weights are equal.
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(2)
    x = np.tile(rng.normal(size=(12, 1)), (2, 1))
    arm = np.arange(24) < 12
    y = np.concatenate([rng.normal(1, 4, 12), rng.normal(0, 1, 12)])
    for side in (arm, ~arm):
        basis = np.column_stack([np.ones(12), x[side]])
        fit = basis @ np.linalg.lstsq(basis, y[side], rcond=None)[0]
        y[side] += float(y[side].mean()) - fit
    found = estimated(weighted_effect(y, arm, x))
    wanted = ttest_ind(y[arm], y[~arm], equal_var=False)
    assert found.absolute == pytest.approx(float(y[arm].mean() - y[~arm].mean()), rel=1e-9)
    assert found.df == pytest.approx(float(wanted.df), rel=1e-9)


def test_overlap_weights_balance_exactly() -> None:
    _, arm, x = drawn(4, 300, pull=1.5)
    score = propensity_scores(arm, x)
    assert isinstance(score, Propensity)
    table = balance_table(arm, x, score_weights(score.scores, arm, "overlap"))
    assert table.largest_before is not None
    assert table.largest_before > 0.5
    # Li, Morgan and Zaslavsky (2018), theorem 3.
    assert table.largest_after == pytest.approx(0.0, abs=1e-9)
    assert table.effective_treatment < arm.sum()
    plain = balance_table(arm, x)
    assert plain.largest_after == plain.largest_before
    assert any("covariate 1" in flag for flag in plain.flags)


def test_e_values_as_published() -> None:
    # VanderWeele and Ding (2017), maternal breastfeeding: 7.26 and, for the interval, 3.0.
    found = e_value(3.9, 1.8, 8.7)
    assert found.estimate == pytest.approx(7.26, abs=0.005)
    assert found.interval == pytest.approx(3.0, abs=0.005)
    turned = e_value(1 / 3.9, 1 / 8.7, 1 / 1.8)
    assert (turned.estimate, turned.interval) == pytest.approx((found.estimate, found.interval))
    assert e_value(1.3, 0.9, 1.8).interval == 1.0
    of_means = e_value_of_difference(-0.42, 0.14, 1.0)
    assert of_means.risk_ratio == pytest.approx(math.exp(-0.91 * 0.42))
    assert of_means.interval > 1.0
    with pytest.raises(ValueError, match="interval around"):
        e_value(2.0, 2.5, 3.0)


def test_covers_what_was_planted_where_a_plain_difference_does_not() -> None:
    rng = np.random.default_rng(73)
    trials = 300
    hits = dict.fromkeys(("ate", "overlap", "doubly robust", "matched"), 0)
    naive = 0
    for _ in range(trials):
        y, arm, x = drawn(int(rng.integers(1 << 31)), 250)
        for name in hits:
            found = estimated(METHODS[name](y, arm, x))
            hits[name] += found.ci_lower < 1.0 < found.ci_upper
        gap = y[arm].mean() - y[~arm].mean()
        naive += abs(gap - 1.0) < 1.96 * math.sqrt(y[arm].var() / arm.sum() + y[~arm].var() / (~arm).sum())
    # Three Monte Carlo errors are 0.038 on either side.
    for name, held in hits.items():
        assert 0.912 < held / trials < 0.988, name
    assert naive / trials < 0.4


def test_one_right_model_is_enough() -> None:
    rng = np.random.default_rng(74)
    n = 4000
    x = rng.normal(size=(n, 1))
    # The log-odds bend, so the model of treatment is wrong; the outcome is a straight line.
    arm = rng.random(n) < 1 / (1 + np.exp(-(x[:, 0] ** 2 - 1 + x[:, 0])))
    y = 3 * x[:, 0] + arm + rng.normal(size=n)
    both = estimated(doubly_robust_effect(y, arm, x))
    alone = estimated(weighted_effect(y, arm, x))
    assert abs(both.absolute - 1.0) < 4 * both.se
    assert abs(alone.absolute - 1.0) > 4 * alone.se


def test_reasons() -> None:
    y, arm, x = drawn(6, 80)
    decided = x[:, 0] > 0
    for result, words in (
        (weighted_effect(y, decided, x), "separate"),
        (weighted_effect(y, decided, x, ridge=0.01), "no overlap"),
        (weighted_effect(y, np.ones(80, dtype=bool), x), "control group is empty"),
        (weighted_effect(y, arm, np.ones((80, 1))), "no covariate varies"),
        (weighted_effect(np.full(80, 3.3), arm, x), "no spread"),
        (weighted_effect(y, arm, x, trim=(0.98, 0.99)), "trimming leaves"),
        (matched_effect(y, arm, x, caliper=1e-9), "within the caliper"),
        (doubly_robust_effect(y[:30], np.arange(30) < 3, drawn(9, 30)[2]), "model of the outcome"),
    ):
        assert isinstance(result, NotEstimable)
        assert words in result.reason, result.reason
    # Separated in one direction only: some kinds of units were never treated.
    never = np.column_stack([x, (np.arange(80) < 20).astype(float)])
    quasi = propensity_scores(arm & (np.arange(80) >= 20), never)
    assert isinstance(quasi, NotEstimable)


def test_misuse_is_named() -> None:
    y, arm, x = drawn(6, 80)
    with pytest.raises(ValueError, match="estimand"):
        weighted_effect(y, arm, x, estimand="atc")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="trim"):
        weighted_effect(y, arm, x, trim=(0.9, 0.1))
    with pytest.raises(ValueError, match="ridge"):
        propensity_scores(arm, x, ridge=-1.0)
    with pytest.raises(ValueError, match="k must"):
        matched_effect(y, arm, x, k=0)
    with pytest.raises(ValueError, match="caliper"):
        matched_effect(y, arm, x, caliper=0.0)
    with pytest.raises(ValueError, match="weights"):
        balance_table(arm, x, -np.ones(80))
    with pytest.raises(ValueError, match="finite"):
        weighted_effect(y, arm, np.where(x > 2, np.nan, x))


def test_few_matches_are_told() -> None:
    y, _, x = drawn(9, 60)
    found = matched(matched_effect(y, np.arange(60) % 10 == 0, x, caliper=None))
    assert any("only 6 units" in flag for flag in found.effect.flags)
    assert found.weights.sum() == pytest.approx(2.0)


def test_trimming_and_heavy_units_are_told() -> None:
    y, arm, x = drawn(8, 300, pull=2.5)
    trimmed = estimated(weighted_effect(y, arm, x, trim=(0.1, 0.9)))
    assert any("left out" in flag for flag in trimmed.flags)
    y[0], x[0], arm[0] = 5.0, [3.5, 0.0], False
    heavy = estimated(weighted_effect(y, arm, x))
    assert any("of the weight" in flag for flag in heavy.flags)
    repeated = estimated(weighted_effect(y, arm, np.column_stack([x, x[:, 0] * 2])))
    assert repeated.absolute == pytest.approx(heavy.absolute, rel=1e-8)
    assert any("number 3 dropped" in flag for flag in repeated.flags)
