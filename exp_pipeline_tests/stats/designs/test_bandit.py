from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from exp_pipeline.stats.designs.bandit import (
    AdaptiveReadout,
    adaptive_estimates,
    beta_allocation,
    normal_allocation,
)
from exp_pipeline.stats.results import NotEstimable


def estimated(result: AdaptiveReadout | NotEstimable) -> AdaptiveReadout:
    assert isinstance(result, AdaptiveReadout), result
    return result


@pytest.mark.parametrize(
    ("successes", "trials"),
    [((3, 5), (10, 9)), ((0, 4), (50, 7)), ((400, 460), (5000, 5000)), ((0, 0), (0, 40))],
)
def test_two_rates_equal_the_closed_sum(successes: tuple[int, int], trials: tuple[int, int]) -> None:
    # P(second > first) for whole-number Betas, as a finite sum of beta functions (Miller 2013).
    from scipy.special import betaln

    a, b = 1 + successes[0], 1 + trials[0] - successes[0]
    c, d = 1 + successes[1], 1 + trials[1] - successes[1]
    total = sum(
        math.exp(betaln(a + i, b + d) - math.log(d + i) - betaln(1 + i, d) - betaln(a, b)) for i in range(c)
    )
    # The sum is P(first rate < second rate) with roles as in the formula: i runs over the second's successes.
    found = beta_allocation(dict(zip("xy", successes, strict=True)), dict(zip("xy", trials, strict=True)))
    assert found.best["y"] == pytest.approx(total, abs=1e-9)
    assert sum(found.best.values()) == pytest.approx(1.0, abs=1e-12)


def test_three_rates_equal_adaptive_quadrature() -> None:
    counts = {"a": (12, 40), "b": (9, 20), "c": (300, 900)}
    prior = (0.5, 2.0)
    posterior = {arm: stats.beta(prior[0] + s, prior[1] + n - s) for arm, (s, n) in counts.items()}
    found = beta_allocation(
        {arm: s for arm, (s, _) in counts.items()}, {arm: n for arm, (_, n) in counts.items()}, prior=prior
    )
    for arm in counts:
        others = [posterior[other] for other in counts if other != arm]
        exact = integrate.quad(
            lambda x, arm=arm, others=others: posterior[arm].pdf(x) * math.prod(o.cdf(x) for o in others),
            0,
            1,
            points=[0.2, 0.3, 0.33, 0.37, 0.45, 0.6],
            limit=300,
            epsabs=1e-13,
        )[0]
        assert found.best[arm] == pytest.approx(exact, abs=1e-9)


def test_two_normal_means_equal_the_closed_form() -> None:
    found = normal_allocation({"a": 1.0, "b": 1.3}, {"a": 0.2, "b": 0.0001})
    assert found.best["b"] == pytest.approx(stats.norm.cdf(0.3 / math.hypot(0.2, 0.0001)), abs=1e-10)
    shrunk = normal_allocation({"a": 1.0, "b": 1.3}, {"a": 0.2, "b": 0.3}, prior_mean=0.5, prior_sd=0.4)
    at = {}
    for arm, mean, error in (("a", 1.0, 0.2), ("b", 1.3, 0.3)):
        variance = 1 / (1 / error**2 + 1 / 0.16)
        at[arm] = (variance * (mean / error**2 + 0.5 / 0.16), variance)
    z = (at["b"][0] - at["a"][0]) / math.sqrt(at["a"][1] + at["b"][1])
    assert shrunk.best["b"] == pytest.approx(stats.norm.cdf(z), abs=1e-10)


def test_floors_and_draws() -> None:
    found = beta_allocation({"a": 0, "b": 90}, {"a": 100, "b": 100}, floor=0.05)
    assert found.probability["a"] == pytest.approx(0.05, abs=1e-9)
    assert sum(found.probability.values()) == pytest.approx(1.0)
    drawn = found.draw(20_000, np.random.default_rng(1))
    assert drawn.count("a") / 20_000 == pytest.approx(0.05, abs=0.006)  # four errors of a share of 5 %


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 300)), min_size=2, max_size=5),
    shift=st.floats(-50, 50),
)
def test_failures_for_successes_turns_the_last_into_the_first(
    counts: list[tuple[int, int]], shift: float
) -> None:
    arms = [f"a{i}" for i in range(len(counts))]
    trials = {arm: s + extra for arm, (s, extra) in zip(arms, counts, strict=True)}
    won = {arm: s for arm, (s, _) in zip(arms, counts, strict=True)}
    found = beta_allocation(won, trials)
    turned = beta_allocation(dict(reversed(won.items())), trials)
    assert all(turned.best[arm] == pytest.approx(found.best[arm], abs=1e-10) for arm in arms)
    if len(arms) == 2:
        lost = beta_allocation({arm: trials[arm] - won[arm] for arm in arms}, trials)
        assert lost.best["a0"] == pytest.approx(found.best["a1"], abs=1e-10)
    means = {arm: s / 10 for arm, (s, _) in zip(arms, counts, strict=True)}
    errors = {arm: 0.1 + extra / 100 for arm, (_, extra) in zip(arms, counts, strict=True)}
    straight = normal_allocation(means, errors)
    moved = normal_allocation({arm: m + shift for arm, m in means.items()}, errors)
    assert all(moved.best[arm] == pytest.approx(straight.best[arm], abs=1e-8) for arm in arms)


def test_estimates_by_a_loop_over_rows() -> None:
    rng = np.random.default_rng(3)
    n, arms = 60, ["a", "b", "c"]
    batch = np.repeat(np.arange(6), 10)
    chance = np.repeat(rng.dirichlet([3, 3, 3], 6), 10, axis=0)
    got = [int(rng.choice(3, p=row)) for row in chance]
    y = rng.normal(5, 1, n)
    logged = {name: chance[:, i] for i, name in enumerate(arms)}
    for method in ("adaptive-aipw", "aipw", "ipw"):
        found = estimated(
            adaptive_estimates([arms[g] for g in got], y, logged, control="a", batch=batch, method=method)
        )
        for i, one in enumerate(found.arms):
            top = bottom = 0.0
            rows = []
            for t in range(n):
                known = [y[s] for s in range(n) if got[s] == i and batch[s] < max(batch[t], 1)]
                m = 0.0 if method == "ipw" else sum(known) / len(known)
                drawn = sum(got[s] == i for s in range(10)) / 10
                e = drawn if batch[t] == 0 and method != "ipw" else chance[t, i]
                score = m + (y[t] - m) / e * (got[t] == i)
                h = math.sqrt(chance[t, i]) if method == "adaptive-aipw" else 1.0
                top, bottom = top + h * score, bottom + h
                rows.append((h, score))
            mean = top / bottom
            assert one.mean == pytest.approx(mean, rel=1e-12)
            taught = sum(got[s] == i for s in range(10))
            more_at_first = taught / (taught - 1) if taught > 1 and method != "ipw" else 1.0
            spent = [more_at_first if t < 10 else 1.0 for t in range(n)]
            terms = [h**2 * (score - mean) ** 2 * more for (h, score), more in zip(rows, spent, strict=True)]
            variance = sum(terms) / bottom**2
            assert one.se == pytest.approx(math.sqrt(variance), rel=1e-12)
        assert [e.absolute for e in found.effects] == pytest.approx(
            [one.mean - found.arms[0].mean for one in found.arms[1:]], rel=1e-9
        )


def test_one_batch_is_the_plain_mean_and_without_model_horvitz_thompson() -> None:
    rng = np.random.default_rng(4)
    got = rng.choice(["a", "b"], 200, p=[0.3, 0.7])
    y = rng.normal(10, 2, 200)
    logged = {"a": np.full(200, 0.3), "b": np.full(200, 0.7)}
    one = estimated(adaptive_estimates(got.tolist(), y, logged, control="a", batch=np.zeros(200)))
    assert [a.mean for a in one.arms] == pytest.approx(
        [y[got == "a"].mean(), y[got == "b"].mean()], rel=1e-12
    )
    by_arm = [y[got == a].var(ddof=1) / (got == a).sum() for a in "ab"]
    assert one.effects[0].se == pytest.approx(math.sqrt(sum(by_arm)), rel=1e-12)
    plain = estimated(adaptive_estimates(got.tolist(), y, logged, control="a", method="ipw"))
    assert plain.arms[1].mean == pytest.approx(y[got == "b"].sum() / 0.7 / 200, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 50), shift=st.floats(-20, 20))
def test_scale_shift_and_swapped_arms(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    batch = np.repeat(np.arange(5), 12)
    chance = np.repeat(rng.uniform(0.2, 0.8, 5), 12)
    got = np.where(rng.random(60) < chance, "b", "a")
    got[:2] = ["a", "b"]
    y = rng.normal(size=60)
    logged = {"a": 1 - chance, "b": chance}
    one = estimated(adaptive_estimates(got.tolist(), y, logged, control="a", batch=batch)).effects[0]
    two = estimated(
        adaptive_estimates(
            got.tolist(), scale * y + shift, dict(reversed(logged.items())), control="b", batch=batch
        )
    ).effects[0]
    assert two.absolute == pytest.approx(-scale * one.absolute, rel=1e-6, abs=1e-9)
    assert two.se == pytest.approx(scale * one.se, rel=1e-6)
    assert two.p_value == pytest.approx(one.p_value, rel=1e-5)


def test_refusals_and_mistakes() -> None:
    half = {"a": [0.5] * 4, "b": [0.5] * 4}
    cases_refused: list[tuple[str, list[float], dict[str, Any], Any, str]] = [
        ("aaaa", [1, 2, 3, 4], half, "aipw", "arm b has no unit"),
        ("abab", [1, 2, 1, 3], half, "aipw", "rewards of arm a have no spread"),
        ("abba", [1, 2, 1, 3], {"a": [0.5, 0.5, 0, 1], "b": [0.5, 0.5, 1, 0]}, "aipw", "propensity of 0"),
    ]
    for got, y, logged, method, words in cases_refused:
        result = adaptive_estimates(list(got), y, logged, control="a", method=method)
        assert isinstance(result, NotEstimable)
        assert words in result.reason
    dropped = {"a": [0.5, 0.5, 0, 1], "b": [0.5, 0.5, 1, 0]}
    assert isinstance(adaptive_estimates(list("abba"), [1, 2, 1, 3], dropped, control="a"), AdaptiveReadout)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"propensity": {"a": [0.5] * 4, "b": [0.6] * 4}}, "add up to 1 in each row, row 0 has 1.1"),
        ({"control": "z"}, "control must be one of a, b"),
        ({"batch": [1, 0, 2, 3]}, "never fall"),
        ({"arm": list("abcb")}, "'c', which has no propensity"),
        ({"propensity": {"a": [1, 1, 1, 1], "b": [0, 0, 0, 0]}}, "row 1 got 'b' at a logged propensity of 0"),
    ]
    for change, words in cases:
        arguments: dict[str, Any] = {
            "arm": list("abab"),
            "reward": [1, 2, 3, 4],
            "propensity": half,
            "control": "a",
        }
        with pytest.raises(ValueError, match=words):
            adaptive_estimates(**{**arguments, **change})
    with pytest.raises(ValueError, match="floor"):
        beta_allocation({"a": 1, "b": 1}, {"a": 2, "b": 2}, floor=0.6)
    with pytest.raises(ValueError, match="successes of 'a'"):
        beta_allocation({"a": 3, "b": 1}, {"a": 2, "b": 2})
    with pytest.raises(ValueError, match="same two or more arms"):
        normal_allocation({"a": 3.0}, {"b": 2.0})


def test_under_thompson_sampling_the_plain_mean_is_biased_and_ours_covers() -> None:
    rng = np.random.default_rng(5)
    rate, batches, size, runs = 0.3, 8, 40, 250
    ours, plain = [], []
    covered = covered_difference = 0
    for _ in range(runs):
        won, tried = {"a": 0, "b": 0}, {"a": 0, "b": 0}
        arm: list[str] = []
        reward: list[float] = []
        chance: list[float] = []
        for _ in range(batches):
            allocation = beta_allocation(won, tried, floor=0.05)
            for name in allocation.draw(size, rng):
                y = int(rng.random() < rate)
                won[name] += y
                tried[name] += 1
                arm.append(name)
                reward.append(y)
                chance.append(allocation.probability["b"])
        b = np.array(chance)
        found = estimated(
            adaptive_estimates(
                arm, reward, {"a": 1 - b, "b": b}, control="a", batch=np.repeat(np.arange(batches), size)
            )
        )
        one = found.arms[1]
        ours.append(one.mean)
        plain.append(one.plain_mean)
        covered += one.ci_lower <= rate <= one.ci_upper
        covered_difference += found.effects[0].ci_lower <= 0 <= found.effects[0].ci_upper
    error = np.std(ours) / runs**0.5
    assert abs(np.mean(ours) - rate) < 4 * error
    assert np.mean(plain) < rate - 3 * np.std(plain) / runs**0.5
    # 250 runs know 95 % to 1.4 points.
    assert 0.9 < covered / runs < 0.99, covered
    assert 0.9 < covered_difference / runs < 0.99, covered_difference
