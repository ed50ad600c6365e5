from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.power.units import (
    FORMULAS,
    achieved_power,
    design_effect,
    intraclass_correlation,
    minimum_detectable_effect,
    required_units,
)
from exp_pipeline_tests.stats.golden import golden

POWER = golden("power")


def test_the_published_plan() -> None:
    plan = required_units(effect=0.02, baseline=0.38, power=0.8)
    assert (plan.n_control, plan.n_treatment, plan.n_total) == (9246, 9246, 18492)
    assert plan.power == pytest.approx(0.8, abs=1e-4)
    assert required_units(effect=0.02, baseline=0.38, formula="unpooled").n_control == 9333


@pytest.mark.parametrize("case", POWER["means"], ids=lambda case: f"{case['n']}")
def test_power_of_means_equals_pwr(case: dict) -> None:  # type: ignore[type-arg]
    n_control, n_treatment = case["n"]
    sizes: dict[str, Any] = {"n_control": n_control, "n_treatment": n_treatment}
    # Both use a noncentral t, whose series are good to about nine digits.
    assert achieved_power(**sizes, effect=case["d"], sd=1.0).power == pytest.approx(case["power"], rel=1e-8)
    one = achieved_power(**sizes, effect=case["d"] * 3, sd=3.0, two_sided=False)
    assert one.power == pytest.approx(case["one_sided"], rel=1e-8)


def test_units_and_smallest_effect_of_means_equal_pwr() -> None:
    for case in POWER["means_n"]:
        assert required_units(effect=case["d"], sd=1.0).n_control == np.ceil(case["n"])
    for case in POWER["means_mde"]:
        found = minimum_detectable_effect(n_control=case["n"], n_treatment=case["n"], sd=1.0, power=0.9)
        assert found.effect == pytest.approx(case["d"], rel=1e-4)  # R's root search stops at 1e-4


def test_arcsine_and_pooled_proportions_equal_r() -> None:
    for case in POWER["arcsine_n"]:
        before, after = case["p"]
        plan = required_units(effect=after - before, baseline=before, formula="arcsine")
        assert plan.n_control == np.ceil(case["n"])
    for case in POWER["arcsine"]:
        before, after = case["p"]
        plan = achieved_power(
            n_control=case["n"][0],
            n_treatment=case["n"][1],
            effect=after - before,
            baseline=before,
            formula="arcsine",
        )
        assert plan.power == pytest.approx(case["power"], rel=1e-10)  # normal tails only
    for case in POWER["pooled_n"]:
        before, after = case["p"]
        plan = required_units(effect=after - before, baseline=before, formula="pooled")
        assert plan.n_control == np.ceil(case["n"])
    for case in POWER["pooled"]:
        before, after = case["p"]
        plan = achieved_power(
            n_control=case["n"],
            n_treatment=case["n"],
            effect=after - before,
            baseline=before,
            formula="pooled",
        )
        assert plan.power == pytest.approx(case["power"], rel=1e-10)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0.1, 0.8),
    st.floats(0.01, 0.15),
    st.sampled_from(FORMULAS),
    st.floats(0.2, 0.8),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([0.0, 0.2]),
)
def test_size_power_and_effect_undo_one_another(
    baseline: float,
    effect: float,
    formula: Any,
    share: float,
    reduction: float,
    attrition: float,
) -> None:
    common: dict[str, Any] = {
        "baseline": baseline,
        "formula": formula,
        "variance_reduction": reduction,
        "attrition": attrition,
    }
    plan = required_units(effect=effect, share_treatment=share, power=0.85, **common)
    assert plan.power >= 0.85 - 1e-9
    sizes: dict[str, Any] = {"n_control": plan.n_control, "n_treatment": plan.n_treatment}
    assert achieved_power(**sizes, effect=effect, **common).power == pytest.approx(plan.power, rel=1e-9)
    found = minimum_detectable_effect(**sizes, power=plan.power, **common)
    assert found.effect == pytest.approx(effect, rel=1e-5)
    fewer = achieved_power(
        n_control=plan.n_control - 1, n_treatment=plan.n_treatment - 1, effect=effect, **common
    )
    assert fewer.power < plan.power


def test_what_helps_helps_and_what_costs_costs() -> None:
    base = required_units(effect=0.2, sd=1.0)
    assert required_units(effect=0.2, sd=1.0, variance_reduction=0.5).n_control == pytest.approx(
        base.n_control / 2, abs=2
    )
    assert required_units(effect=0.2, sd=1.0, attrition=0.2).n_control == pytest.approx(
        base.n_control / 0.8, abs=1.5
    )
    lopsided = required_units(effect=0.2, sd=1.0, share_treatment=0.9)
    # Variance goes with 1/(s (1-s)): 0.25 / 0.09.
    assert lopsided.n_total == pytest.approx(base.n_total * 0.25 / 0.09, rel=0.01)
    assert lopsided.n_treatment == pytest.approx(9 * lopsided.n_control, abs=9)


def test_clusters_cost_their_design_effect() -> None:
    assert design_effect(0.1, 20) == pytest.approx(2.9)
    assert design_effect(0.1, 20, 0.4) == pytest.approx(1 + (1.16 * 20 - 1) * 0.1)
    assert design_effect(-0.02, 20) == 1.0
    alone = required_units(effect=0.2, sd=1.0)
    plan = required_units(effect=0.2, sd=1.0, icc=0.1, cluster_size=20, cluster_size_cv=0.4)
    assert plan.clusters_control is not None
    assert plan.n_control == plan.clusters_control * 20
    # One or two clusters more than the design effect says, for the t with clusters - 2 df.
    assert 0 <= plan.n_control - alone.n_control * plan.design_effect < 3 * 20
    assert required_units(effect=0.2, sd=1.0, icc=0.0, cluster_size=1).n_control == alone.n_control


def test_planned_power_is_met_by_simulated_class_trials() -> None:
    rng = np.random.default_rng(9)
    plan = required_units(effect=0.4, sd=1.0, icc=0.15, cluster_size=12)
    assert plan.clusters_control is not None
    k, runs = plan.clusters_control, 4000
    means = (
        rng.normal(0, np.sqrt(0.15), (runs, 2, k)) + rng.normal(0, np.sqrt(0.85 / 12), (runs, 2, k))
    ) + np.array([0, 0.4])[:, None]
    gap = means[:, 1].mean(axis=1) - means[:, 0].mean(axis=1)
    se = np.sqrt((means[:, 0].var(axis=1, ddof=1) + means[:, 1].var(axis=1, ddof=1)) / k)
    from scipy import stats

    found = np.mean(np.abs(gap / se) > stats.t.ppf(0.975, 2 * k - 2))
    # 4,000 runs at 80 % have a standard error of 0.63 points.
    assert found == pytest.approx(plan.power, abs=0.02)


@pytest.mark.parametrize("case", golden("intraclass"), ids=["equal", "unequal"])
def test_intraclass_correlation_equals_r(case: dict) -> None:  # type: ignore[type-arg]
    found = intraclass_correlation(case["values"], np.array(case["cluster"]))
    assert found.between_mean_square == pytest.approx(case["between"], rel=1e-10)
    assert found.within_mean_square == pytest.approx(case["within"], rel=1e-10)
    assert found.icc == pytest.approx(case["icc"], rel=1e-9)  # a difference of the two above


def test_intraclass_correlation_does_not_mind_a_large_mean() -> None:
    rng = np.random.default_rng(10)
    cluster = np.repeat(np.arange(30), 9)
    y = rng.normal(size=30)[cluster] + rng.normal(size=270)
    # 1e8 leaves eight digits of the rows.
    assert intraclass_correlation(y + 1e8, cluster).icc == pytest.approx(
        intraclass_correlation(y, cluster).icc, abs=1e-6
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"effect": 0.1}, "either baseline"),
        ({"effect": 0.1, "sd": 1.0, "baseline": 0.5}, "either baseline"),
        ({"effect": 0.0, "sd": 1.0}, "effect"),
        ({"effect": 0.6, "baseline": 0.5}, "baseline \\+ effect"),
        ({"effect": 0.1, "sd": -1.0}, "sd"),
        ({"effect": 0.1, "sd": 1.0, "alpha": 0.7}, "alpha"),
        ({"effect": 0.1, "sd": 1.0, "power": 0.01}, "power"),
        ({"effect": 0.1, "sd": 1.0, "share_treatment": 1.0}, "share_treatment"),
        ({"effect": 0.1, "sd": 1.0, "icc": 0.1}, "cluster_size"),
        ({"effect": 0.1, "sd": 1.0, "icc": 2.0, "cluster_size": 5}, "icc"),
        ({"effect": 0.1, "sd": 1.0, "attrition": 1.0}, "attrition"),
        ({"effect": 0.1, "baseline": 0.5, "formula": "guess"}, "formula"),
        ({"effect": 1e-9, "sd": 1e6}, "do not reach"),
    ],
)
def test_mistakes_are_named(arguments: dict, words: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=words):
        required_units(**arguments)


def test_mistakes_of_the_inverses_are_named() -> None:
    with pytest.raises(ValueError, match="n_control"):
        achieved_power(n_control=1, n_treatment=5, effect=1.0, sd=1.0)
    with pytest.raises(ValueError, match="too small"):
        minimum_detectable_effect(n_control=3, n_treatment=3, baseline=0.9, power=0.99)
    with pytest.raises(ValueError, match="direction"):
        minimum_detectable_effect(n_control=9, n_treatment=9, sd=1.0, direction="up")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two clusters"):
        intraclass_correlation([1.0, 2.0], [1, 1])
    with pytest.raises(ValueError, match="differ"):
        intraclass_correlation([1.0, 1.0, 1.0], [1, 1, 2])
