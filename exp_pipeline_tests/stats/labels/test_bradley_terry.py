from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from exp_pipeline.stats.labels.bradley_terry import (
    BradleyTerry,
    QuasiErrors,
    bradley_terry,
    quasi_errors,
    wins_to_rows,
)
from exp_pipeline.stats.results import NotEstimable
from exp_pipeline_tests.stats.golden import golden

CASES = golden("bradley_terry")
CHOIX = golden("choix")


def estimated(result: BradleyTerry | NotEstimable) -> BradleyTerry:
    assert isinstance(result, BradleyTerry), result
    return result


def fitted(case: str, **extra: Any) -> BradleyTerry:
    rows = CASES[case]
    if extra.pop("clustered", False):
        extra["cluster"] = rows["rater"]
    return estimated(bradley_terry(rows["first"], rows["second"], rows["outcome"], **extra))


def against_a(fit: BradleyTerry) -> tuple[list[float], list[float]]:
    gaps = [fit.contrast(item, "a").gap for item in "bcde"]
    return [gap.value for gap in gaps], [gap.se for gap in gaps]


def test_strengths_and_the_order_effect_equal_bradleyterry2() -> None:
    fit, case = fitted("no_ties", order_effect=True), CASES["no_ties"]
    values, errors = against_a(fit)
    # BradleyTerry2 stops at a relative change of deviance of 1e-8 or so: about seven digits of parameters.
    assert values == pytest.approx(case["value"], rel=1e-6)
    assert errors == pytest.approx(case["se"], rel=1e-6)
    # A glm of the same design, run until nothing moves.
    assert values == pytest.approx(case["glm_value"][:4], rel=1e-9)
    assert fit.order_effect is not None
    assert fit.order_effect.value == pytest.approx(case["glm_value"][4], rel=1e-9)
    assert fit.order_effect.se == pytest.approx(case["order_se"], rel=1e-6)
    assert fit.order_effect.p_value == pytest.approx(case["order_p"], rel=1e-5)
    assert fit.log_likelihood == pytest.approx(case["log_likelihood"], rel=1e-10)
    assert fit.method == "bradley-terry"
    assert fit.tie_effect is None
    assert fit.errors == "model"


def test_quasi_errors_equal_qvcalc() -> None:
    fit, case = fitted("no_ties", order_effect=True), CASES["no_ties"]
    found = quasi_errors(fit)
    assert isinstance(found, QuasiErrors)
    # BradleyTerry2's covariance has six to seven digits, qvcalc stops at a relative change of 1e-8.
    assert list(found.errors.values()) == pytest.approx(case["quasi_se"], rel=1e-5)
    assert (found.worst_low, found.worst_high) == pytest.approx(case["quasi_worst"], abs=1e-5)
    two = estimated(bradley_terry(["a", "a"], ["b", "b"], [1, 0]))
    assert isinstance(quasi_errors(two), NotEstimable)


def test_quasi_errors_of_independent_values_are_their_own() -> None:
    fit = fitted("davidson")
    own = [0.2, 0.5, 0.1, 0.9, 0.4]
    made = replace(fit, covariance=tuple(tuple(map(float, row)) for row in np.diag(np.square(own))))
    found = quasi_errors(made)
    assert isinstance(found, QuasiErrors)
    assert list(found.errors.values()) == pytest.approx(own, rel=1e-10)
    assert max(-found.worst_low, found.worst_high) < 1e-12


def test_errors_by_rater_equal_the_sandwich_of_r() -> None:
    fit = fitted("no_ties", order_effect=True, clustered=True)
    assert fit.order_effect is not None
    # sandwich takes the working residuals of the last glm step: nine digits.
    expected = CASES["no_ties"]["clustered_se"]
    assert [*against_a(fit)[1], fit.order_effect.se] == pytest.approx(expected, rel=1e-8)
    assert (fit.clusters, fit.df, fit.errors) == (25, 24.0, "clustered")


def test_davidson_equals_the_loglinear_model() -> None:
    fit, case = fitted("davidson", order_effect=True), CASES["davidson"]
    values, errors = against_a(fit)
    assert fit.order_effect is not None
    assert fit.tie_effect is not None
    found = [*values, fit.order_effect.value, fit.tie_effect.value]
    assert found == pytest.approx([*case["value"], case["order"], case["tie"]], rel=1e-8)
    found = [*errors, fit.order_effect.se, fit.tie_effect.se]
    assert found == pytest.approx([*case["se"], case["order_se"], case["tie_se"]], rel=1e-8)


def test_rao_and_kupper_equal_the_ordered_logit() -> None:
    fit, case = fitted("davidson", ties="rao-kupper", order_effect=True), CASES["rao_kupper"]
    values, errors = against_a(fit)
    assert fit.order_effect is not None
    assert fit.tie_effect is not None
    # polr climbs with numerical slopes and takes a numerical Hessian: four digits.
    found = [*values, fit.order_effect.value, fit.tie_effect.value]
    assert found == pytest.approx([*case["value"], case["order"], case["tie"]], rel=2e-4, abs=2e-5)
    found = [*errors, fit.order_effect.se, fit.tie_effect.se]
    assert found == pytest.approx([*case["se"], case["order_se"], case["tie_se"]], rel=1e-3)
    assert fit.log_likelihood == pytest.approx(case["log_likelihood"], rel=1e-9)


def test_a_table_of_wins_equals_choix_with_and_without_ridge() -> None:
    items = [f"m{i}" for i in range(7)]
    first, second, outcome, count = wins_to_rows(items, CHOIX["wins"])
    plain = estimated(bradley_terry(first, second, outcome, count=count))
    # ilsr was run to 1e-12 between steps.
    assert [s.value for s in plain.strengths] == pytest.approx(CHOIX["maximum"], abs=1e-9)
    # choix subtracts its alpha times the sum of squares, without the half.
    ridged = estimated(bradley_terry(first, second, outcome, count=count, ridge=2 * CHOIX["ridge"]))
    # scipy's Newton-CG stops when a step is below its tolerance times the number of parameters.
    assert [s.value for s in ridged.strengths] == pytest.approx(CHOIX["ridged"], abs=1e-7)
    assert any("ridge" in flag for flag in ridged.flags)
    assert sum(s.comparisons for s in plain.strengths) == 1000.0


def likelihood(model: str, parameters: np.ndarray, rows: list[tuple[int, int, float]]) -> float:
    """Chances spelled out with strengths pi, as the papers write them; the first item has strength one."""
    pi = np.exp(np.concatenate([[0.0], parameters[:-2]]))
    gamma, tie = math.exp(parameters[-2]), math.exp(parameters[-1])
    total = 0.0
    for i, j, y in rows:
        a, b = gamma * pi[i], pi[j]
        if model == "davidson":
            base = a + b + tie * math.sqrt(a * b)
            chance = {1.0: a / base, 0.0: b / base, 0.5: tie * math.sqrt(a * b) / base}[y]
        else:
            theta = 1.0 + tie
            chance = {1.0: a / (a + theta * b), 0.0: b / (b + theta * a)}.get(
                y, (theta**2 - 1.0) * a * b / ((a + theta * b) * (b + theta * a))
            )
        total += math.log(chance)
    return total


@pytest.mark.parametrize("model", ["davidson", "rao-kupper"])
def test_the_maximum_and_its_curvature_by_brute_force(model: Any) -> None:
    rng = np.random.default_rng(4)
    rows = [(i, j, float(rng.choice([0.0, 0.5, 1.0]))) for i, j in itertools.permutations(range(3), 2)]
    rows += [(i, j, y) for i, j in itertools.permutations(range(3), 2) for y in (0.0, 0.5, 1.0)]
    best = optimize.minimize(
        lambda p: -likelihood(model, p, rows), np.zeros(4), method="Nelder-Mead", tol=1e-13
    )
    fit = estimated(
        bradley_terry(
            [f"i{i}" for i, _, _ in rows],
            [f"i{j}" for _, j, _ in rows],
            [y for _, _, y in rows],
            ties=model,
            order_effect=True,
        )
    )
    assert fit.order_effect is not None
    assert fit.tie_effect is not None
    gaps = [fit.contrast(f"i{i}", "i0").gap.value for i in (1, 2)]
    # Nelder-Mead knows the place of a flat top to half the digits of its height.
    assert [*gaps, fit.order_effect.value] == pytest.approx(best.x[:3], abs=1e-6)
    tie = best.x[3] if model == "davidson" else math.log1p(math.exp(best.x[3]))
    assert fit.tie_effect.value == pytest.approx(tie, abs=1e-6)
    assert fit.log_likelihood == pytest.approx(-best.fun, abs=1e-10)
    # The error of the order effect from the profile's curvature: drop of the maximum beside the top.
    if model == "davidson":
        step = 1e-3

        def profile(delta: float) -> float:
            at = optimize.minimize(
                lambda p: -likelihood(model, np.array([p[0], p[1], delta, p[2]]), rows),
                best.x[[0, 1, 3]],
                method="BFGS",
                options={"gtol": 1e-9},
            )
            return float(-at.fun)

        delta = best.x[2]
        curvature = (2 * profile(delta) - profile(delta + step) - profile(delta - step)) / step**2
        # A difference of second order with step 1e-3 keeps about five digits.
        assert fit.order_effect.se == pytest.approx(curvature**-0.5, rel=1e-4)


def test_two_items_collapse_to_the_log_odds() -> None:
    fit = estimated(bradley_terry(["a", "a"], ["b", "b"], [1, 0], count=[30, 12]))
    gap = fit.contrast("a", "b")
    assert gap.gap.value == pytest.approx(math.log(30 / 12), rel=1e-12)
    assert gap.gap.se == pytest.approx(math.sqrt(1 / 30 + 1 / 12), rel=1e-10)
    assert gap.win_share == pytest.approx(30 / 42, rel=1e-12)
    assert gap.win_share_lower < 30 / 42 < gap.win_share_upper


def test_with_rao_and_kupper_win_shares_are_among_decided_comparisons() -> None:
    counts = {1.0: 40.0, 0.5: 25.0, 0.0: 16.0}
    fit = estimated(
        bradley_terry(["a"] * 3, ["b"] * 3, list(counts), count=list(counts.values()), ties="rao-kupper")
    )
    # Two items and three outcomes: the model is saturated.
    assert fit.contrast("a", "b").win_share == pytest.approx(40 / 56, rel=1e-9)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            [("a", "b", 1), ("b", "a", 1), ("c", "d", 1), ("d", "c", 1)],
            "no chain of comparisons joins a, b with c, d",
        ),
        ([("a", "b", 1), ("b", "a", 1), ("c", "a", 1)], "a, b lost every comparison with c"),
        ([("b", "c", 1), ("c", "b", 1), ("b", "a", 1)], "a lost every comparison|b, c won every comparison"),
        ([("a", "b", 1), ("a", "b", 0.5)], "ties leave the likelihood without a maximum"),
        ([("a", "b", 0.5)] * 3, "all 3 comparisons are ties"),
        ([], "0 items were compared"),
    ],
)
def test_what_cannot_be_told_is_refused_with_names(rows: list[tuple[str, str, float]], words: str) -> None:
    first, second, outcome = zip(*rows, strict=True) if rows else ((), (), ())
    result = bradley_terry(first, second, outcome)
    assert isinstance(result, NotEstimable)
    assert any(part in result.reason for part in words.split("|"))


def test_an_order_effect_that_always_wins_is_refused() -> None:
    first, second = ["a", "b", "b", "c", "c", "a"], ["b", "a", "c", "b", "a", "c"]
    result = bradley_terry(first, second, [1.0] * 6, order_effect=True)
    assert isinstance(result, NotEstimable)
    assert "order effect" in result.reason
    assert isinstance(bradley_terry(first, second, [1.0] * 6), BradleyTerry)


def test_clusters_that_are_all_alike_are_refused() -> None:
    first, second = ["a", "a", "b", "b", "c", "c"] * 9, ["b", "c", "a", "c", "a", "b"] * 9
    outcome = [1, 0, 1, 1, 0, 1] * 9
    result = bradley_terry(first, second, outcome, cluster=np.repeat(np.arange(9), 6))
    assert isinstance(result, NotEstimable)
    assert "9 clusters are all alike" in result.reason


def test_a_ridge_places_an_item_that_won_everything() -> None:
    fit = estimated(bradley_terry(["a", "a", "b"], ["b", "c", "c"], [1, 1, 1], ridge=0.5))
    values = [s.value for s in fit.strengths]
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(0.0, abs=1e-12)


def test_mistakes_are_named() -> None:
    for arguments, words in (
        ((["a"], ["a"], [1]), "compares an item with itself"),
        ((["a"], ["b"], [0.3]), "got np.float64(0.3)|got 0.3"),
        ((["a", "b"], ["b"], [1]), "one length"),
    ):
        with pytest.raises(ValueError, match="|".join(map(re.escape, words.split("|")))):
            bradley_terry(*arguments)
    with pytest.raises(ValueError, match="ridge"):
        bradley_terry(["a"], ["b"], [1], ridge=-1.0)
    with pytest.raises(ValueError, match="diagonal"):
        wins_to_rows(["a", "b"], [[1, 0], [0, 0]])
    fit = estimated(bradley_terry(["a", "a"], ["b", "b"], [1, 0]))
    with pytest.raises(ValueError, match="must be one of a, b, got 'z'"):
        fit.contrast("z", "a")


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), ties=st.sampled_from(["davidson", "rao-kupper", "half"]))
def test_swapping_sides_renaming_and_row_order_change_what_they_should(seed: int, ties: Any) -> None:
    rng = np.random.default_rng(seed)
    i = rng.integers(0, 4, 120)
    j = (i + rng.integers(1, 4, 120)) % 4
    y = rng.choice([0.0, 0.5, 1.0], 120)
    names = np.array(["a", "b", "c", "d"])
    rater = rng.integers(0, 12, 120)
    one = estimated(
        bradley_terry(names[i].tolist(), names[j].tolist(), y, ties=ties, order_effect=True, cluster=rater)
    )
    swapped = estimated(
        bradley_terry(
            names[j].tolist(), names[i].tolist(), 1 - y, ties=ties, order_effect=True, cluster=rater + 7
        )
    )
    assert one.order_effect is not None
    assert swapped.order_effect is not None
    assert swapped.order_effect.value == pytest.approx(-one.order_effect.value, abs=1e-9)
    assert [s.se for s in swapped.strengths] == pytest.approx([s.se for s in one.strengths], rel=1e-8)
    mix, turned = rng.permutation(120), names[::-1]
    other = estimated(
        bradley_terry(
            turned[i][mix].tolist(),
            turned[j][mix].tolist(),
            y[mix],
            ties=ties,
            order_effect=True,
            cluster=rater[mix],
        )
    )
    assert [s.value for s in other.strengths][::-1] == pytest.approx(
        [s.value for s in one.strengths], abs=1e-9
    )
    assert [s.se for s in other.strengths][::-1] == pytest.approx([s.se for s in one.strengths], rel=1e-8)
    doubled = estimated(
        bradley_terry(
            names[i].tolist(), names[j].tolist(), y, ties=ties, order_effect=True, count=np.full(120, 4.0)
        )
    )
    plain = estimated(bradley_terry(names[i].tolist(), names[j].tolist(), y, ties=ties, order_effect=True))
    assert [2 * s.se for s in doubled.strengths] == pytest.approx([s.se for s in plain.strengths], rel=1e-8)


def test_intervals_by_rater_cover_where_the_models_own_do_not() -> None:
    rng = np.random.default_rng(5)
    strengths, raters, runs = np.array([0.0, 0.5, -0.3]), 30, 400
    clustered = model = 0
    names = np.array(["a", "b", "c"])
    for _ in range(runs):
        rater = np.repeat(np.arange(raters), 12)
        i = rng.integers(0, 3, rater.size)
        j = (i + rng.integers(1, 3, rater.size)) % 3
        taste = rng.normal(0, 0.8, (raters, 3))
        u, v = strengths[i] + taste[rater, i], strengths[j] + taste[rater, j]
        y = (rng.random(rater.size) < 1 / (1 + np.exp(v - u))).astype(float)
        arguments = (names[i].tolist(), names[j].tolist(), y)
        by_rater = estimated(bradley_terry(*arguments, cluster=rater)).contrast("b", "c").gap
        alone = estimated(bradley_terry(*arguments)).contrast("b", "c").gap
        truth = 0.8 * SHRINK
        clustered += by_rater.ci_lower <= truth <= by_rater.ci_upper
        model += alone.ci_lower <= truth <= alone.ci_upper
    # 400 runs know 95 % to 1.1 points; the band is four of those, less at the top.
    assert 0.92 < clustered / runs < 0.985
    assert model / runs < 0.92


# What logits of 0.8 become on average over tastes with variance 2 x 0.64; a share averaged by quadrature.
def _shrink() -> float:
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    share = float(weights @ (1 / (1 + np.exp(-(0.8 + nodes * math.sqrt(1.28))))) / weights.sum())
    return math.log(share / (1 - share)) / 0.8


SHRINK = _shrink()
