"""Power of every kind of outcome and design, against R, statsmodels, brute force and simulation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.clusters.variance_components import VarianceComponents, variance_components
from exp_pipeline.stats.effects.ratios import difference_in_ratios
from exp_pipeline.stats.looks.always_valid import AlwaysValidInterval, always_valid_interval
from exp_pipeline.stats.looks.spending import Family, Spending
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.power.clusters import (
    ClusterSizes,
    cluster_sizes,
    effect_of_endless_clusters,
    size_for_clusters,
    with_history,
)
from exp_pipeline.stats.power.counts import (
    hall_sheather,
    mean_spread,
    quantile_spread,
    rate_of_history,
    ratio_spread,
)
from exp_pipeline.stats.power.design import Design, best_control_share, dunnett_critical
from exp_pipeline.stats.power.looks import (
    always_valid_critical,
    always_valid_looks,
    group_sequential_looks,
)
from exp_pipeline.stats.power.margins import margin_for, power_for_margin, units_for_margin
from exp_pipeline.stats.power.outcomes import (
    Mean,
    Outcome,
    PairedMean,
    PairedProportion,
    Proportion,
    Rate,
)
from exp_pipeline.stats.power.units import effect_for, power_for, units_for
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.stats.golden import golden

R = golden("planning")
PEERS = golden("planning_peers")
PLAIN = Design()


def power(outcome: Outcome, n_control: float, n_treatment: float, effect: float, **design: Any) -> float:
    found = power_for(outcome, Design(**design), effect=effect, n_control=n_control, n_treatment=n_treatment)
    return found.power


@pytest.mark.parametrize("case", R["t_tests"], ids=lambda case: f"n={case['n']}")
def test_t_tests_equal_r(case: dict[str, Any]) -> None:
    n, effect, mean = case["n"], case["effect"], Mean(case["sd"])
    # Two noncentral t algorithms agree to about nine digits.
    assert power(mean, n, n, effect) == pytest.approx(case["power"], rel=1e-8)
    assert power(mean, n, n, effect, two_sided=False) == pytest.approx(case["one_sided"], rel=1e-8)
    pairs = PairedMean(case["sd"])
    assert power(pairs, n, n, effect) == pytest.approx(case["paired"], rel=1e-8)
    assert power(pairs, n, n, effect) == pytest.approx(case["pwr_paired"], rel=1e-8)


def test_means_shares_and_counts_equal_statsmodels() -> None:
    for case in PEERS["t"]:
        found = power(Mean(1.0), case["n"], case["n"] * case["ratio"], case["d"], alpha=case["alpha"])
        assert found == pytest.approx(case["power"], rel=1e-8)
    for case in PEERS["pairs"]:
        assert power(PairedMean(1.0), case["n"], case["n"], case["d"]) == pytest.approx(
            case["power"], rel=1e-8
        )
    for case in PEERS["shares"]:
        control = case["n"] / case["ratio"]
        found = power(Proportion(case["baseline"], "pooled"), control, case["n"], case["diff"])
        # statsmodels adds the chance of a finding on the wrong side, below 3e-5 here.
        assert found == pytest.approx(case["power"], abs=3e-5)
    for case in PEERS["poisson"]:
        found = power(Rate(case["rate"]), case["n"], case["n"] * case["ratio"], case["diff"])
        # statsmodels takes a normal where we take a t.
        assert found == pytest.approx(case["power"], abs=3e-3)
    for case in PEERS["bandwidth"]:
        assert hall_sheather(case["n"], case["quantile"]) == pytest.approx(case["h"], rel=1e-12)


@pytest.mark.parametrize("case", R["dunnett"], ids=lambda case: f"{case['treatments']}-{case['df']}")
def test_dunnett_equals_the_multivariate_t(case: dict[str, Any]) -> None:
    df = case["df"] or math.inf
    for side, two_sided in (("two_sided", True), ("one_sided", False)):
        found = dunnett_critical(0.05, df, case["treatments"], ratio=case["ratio"], two_sided=two_sided)
        # mvtnorm's quasi-random integration is good to about 1e-5 in the quantile.
        assert found == pytest.approx(case[side], abs=2e-5)


def test_dunnett_with_one_arm_is_student() -> None:
    from scipy import stats

    assert dunnett_critical(0.05, 12.0, 1) == pytest.approx(stats.t.ppf(0.975, 12), rel=1e-12)
    # Published table (Dunnett 1964): five arms, 30 degrees of freedom, 5 % two-sided.
    assert dunnett_critical(0.05, 30.0, 5) == pytest.approx(2.66, abs=0.005)


def test_several_arms_cost_and_dunnett_costs_less() -> None:
    def units(**design: Any) -> int:
        return units_for(Mean(1.0), Design(**design), effect=0.3).n_control

    assert units(treatments=3) == units(alpha=0.05 / 3)
    assert units() < units(treatments=3, correction="dunnett") < units(treatments=3)
    assert best_control_share(1) == 0.5
    # Brute force over control's share: total variance of each comparison is least near the root rule.
    shares = np.linspace(0.1, 0.9, 8001)
    variance = 1.0 / shares + 4 / (1.0 - shares)
    assert best_control_share(4) == pytest.approx(float(shares[np.argmin(variance)]), abs=2e-4)
    plan = units_for(Mean(1.0), Design(treatments=3), effect=0.3)
    assert plan.n_total == plan.n_control + 3 * plan.n_treatment


@pytest.mark.parametrize("case", R["looks"], ids=lambda case: f"{case['family']}-{case['looks']}")
def test_looks_cost_what_rpact_says(case: dict[str, Any]) -> None:
    family: Family = "obrien-fleming" if case["family"] == "asOF" else "pocock"
    fractions = [(look + 1) / case["looks"] for look in range(case["looks"])]
    found = group_sequential_looks(Spending(family, 0.025, 1), fractions, power=case["power"])
    assert found.inflation == pytest.approx(case["inflation"], rel=1e-6)  # rpact integrates to about 1e-7
    assert found.expected_share == pytest.approx(case["expected"], rel=1e-5)
    assert found.found_by[-1] == pytest.approx(case["power"], abs=1e-9)


@pytest.mark.parametrize("fraction", [0.05, 0.4, 1.0])
def test_the_always_valid_bound_is_the_one_that_judges(fraction: float) -> None:
    fields: dict[str, Any] = dict.fromkeys(
        ("relative", "relative_ci_lower", "relative_ci_upper", "relative_method", "standardised",
         "variance_reduction")
    )  # fmt: skip
    n = round(1000 * fraction)
    effect = Effect("t", n, n, 0.0, 0.0, 0.0, 1.0, math.inf, -2.0, 2.0, 1.0, 0.95, **fields)
    both = always_valid_interval(effect, planned_n=2000)
    assert isinstance(both, AlwaysValidInterval)
    assert always_valid_critical(0.05, fraction) == pytest.approx(both.upper, rel=1e-9)
    one = always_valid_interval(effect, planned_n=2000, side="lower")
    assert isinstance(one, AlwaysValidInterval)
    assert always_valid_critical(0.05, fraction, sides=1) == pytest.approx(-one.lower, rel=1e-7)


def test_always_valid_looks_find_the_effect_as_often_as_planned() -> None:
    looks = always_valid_looks(alpha=0.05, power=0.8, looks=14)
    design = Design(inflation=looks.inflation)
    n = units_for(Mean(1.0), design, effect=0.25).n_control
    rng = np.random.default_rng(4)
    runs, step = 20_000, n / 14
    gaps = rng.normal(0.25 * step, math.sqrt(2.0 * step), (runs, 14)).cumsum(axis=1)
    at = step * np.arange(1, 15)
    z = gaps / np.sqrt(2.0 * at)
    over = z > np.array(looks.critical)
    # 20,000 runs have a standard error of 0.28 points.
    assert over.any(axis=1).mean() == pytest.approx(0.8, abs=0.01)
    first = np.where(over.any(axis=1), over.argmax(axis=1), 13)
    assert np.mean(at[first]) / n * looks.inflation == pytest.approx(looks.expected_share, rel=0.01)
    assert looks.inflation > group_sequential_looks(Spending(), looks.fractions, power=0.8).inflation


@pytest.mark.parametrize("case", R["margins"], ids=lambda case: f"{case['margin']}")
def test_units_for_a_margin_equal_r(case: dict[str, Any]) -> None:
    plan = units_for_margin(
        Mean(case["sd"]), PLAIN, margin=case["margin"], harm="increase", expected=case["expected"]
    )
    assert plan.n_control == math.ceil(case["n"])
    mirrored = units_for_margin(
        Mean(case["sd"]), PLAIN, margin=case["margin"], harm="decrease", expected=-case["expected"]
    )
    assert mirrored.n_control == plan.n_control


def test_margins_undo_themselves_and_a_relative_one_counts_controls_error() -> None:
    plan = units_for_margin(Proportion(0.1), PLAIN, margin=0.02, harm="increase")
    found = margin_for(Proportion(0.1), PLAIN, harm="increase", n_control=plan.n_control,
                       n_treatment=plan.n_treatment)  # fmt: skip
    assert found.effect == pytest.approx(0.02, rel=1e-3)
    absolute = units_for_margin(Mean(30.0), PLAIN, margin=10.0, harm="increase")
    relative = units_for_margin(Mean(30.0), PLAIN, margin=0.1, harm="increase", baseline=100.0)
    # The bound lies at 1.1 times control: the variance is (1 + 1.21) / 2 of the absolute one's.
    assert relative.n_control / absolute.n_control == pytest.approx(2.21 / 2.0, rel=0.01)
    less = units_for_margin(Mean(30.0), PLAIN, margin=0.1, harm="decrease", baseline=100.0)
    assert less.n_control < relative.n_control
    with pytest.raises(ValueError, match="margin must be above"):
        units_for_margin(Mean(1.0), PLAIN, margin=0.1, harm="increase", expected=0.2)
    with pytest.raises(ValueError, match="harm"):
        power_for_margin(Mean(1.0), PLAIN, margin=0.1, harm="up", n_control=9, n_treatment=9)  # type: ignore[arg-type]


OUTCOMES: tuple[tuple[Outcome, float], ...] = (
    (Mean(2.0), 0.4),
    (Mean(2.0, 3.0), 0.4),
    (Proportion(0.3, "unpooled"), 0.06),
    (Rate(2.0, exposure=1.5, dispersion=0.4, exposure_cv=0.5), 0.3),
    (PairedMean(1.5), 0.3),
    (PairedProportion(0.3), 0.08),
)


@pytest.mark.parametrize(("outcome", "effect"), OUTCOMES, ids=lambda value: type(value).__name__)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_units_power_and_effect_undo_one_another(
    outcome: Outcome, effect: float, data: st.DataObject
) -> None:
    design = Design(
        power=data.draw(st.sampled_from([0.6, 0.9])),
        share_treatment=data.draw(st.sampled_from([0.2, 0.5])),
        treatments=data.draw(st.sampled_from([1, 3])),
        compliance=data.draw(st.sampled_from([0.7, 1.0])),
        attrition=data.draw(st.sampled_from([0.0, 0.15])),
        inflation=data.draw(st.sampled_from([1.0, 1.3])),
    )
    plan = units_for(outcome, design, effect=effect)
    sizes: dict[str, Any] = {"n_control": plan.n_control, "n_treatment": plan.n_treatment}
    assert plan.power >= design.power - 1e-9
    assert power_for(outcome, design, effect=effect, **sizes).power == pytest.approx(plan.power, rel=1e-12)
    from dataclasses import replace

    at = replace(design, power=plan.power)
    assert effect_for(outcome, at, **sizes).effect == pytest.approx(effect, rel=1e-5)
    fewer = {name: n - 2 for name, n in sizes.items()}
    assert power_for(outcome, design, effect=effect, **fewer).power < plan.power


def test_a_treatment_that_half_take_up_needs_four_times_the_units() -> None:
    whole = units_for(Mean(1.0), PLAIN, effect=0.2).n_control
    assert units_for(Mean(1.0), Design(compliance=0.5), effect=0.2).n_control == pytest.approx(
        4 * whole, rel=0.01
    )


def test_discordant_pairs_are_found_as_often_as_planned() -> None:
    plan = units_for(PairedProportion(0.3), PLAIN, effect=0.08)
    rng = np.random.default_rng(5)
    for_, against = rng.multinomial(plan.n_control, [0.19, 0.11, 0.7], 40_000).T[:2]
    z = (for_ - against) / np.sqrt(np.maximum(for_ + against, 1))
    assert np.mean(z > 1.959964) == pytest.approx(plan.power, abs=0.01)


def test_spreads_of_history_are_those_that_the_estimators_see() -> None:
    rng = np.random.default_rng(6)
    n = 4000
    den = rng.poisson(4, n) + 1.0
    num = rng.binomial(den.astype(int), rng.beta(3, 2, n)).astype(float)
    found = ratio_spread(num, den)
    assert not isinstance(found, NotEstimable)
    half = Moments.from_array(np.column_stack([num, den]), ("a", "b"))
    effect = difference_in_ratios(half, half, numerator="a", denominator="b")
    assert isinstance(effect, Effect)
    assert found.sd * math.sqrt(2.0 / n) == pytest.approx(effect.se, rel=1e-9)
    y = rng.lognormal(size=n)
    plain = mean_spread(y)
    assert not isinstance(plain, NotEstimable)
    assert plain.sd == pytest.approx(y.std(ddof=1), rel=1e-12)
    draws = [rng.choice(y, n).std(ddof=1) for _ in range(400)]
    assert plain.sd_se == pytest.approx(np.std(draws), rel=0.15)  # bootstrap of a heavy tail
    assert isinstance(mean_spread([1.0]), NotEstimable)
    assert isinstance(mean_spread([2.0, 2.0]), NotEstimable)


def test_the_sparsity_of_a_normal_is_known() -> None:
    rng = np.random.default_rng(7)
    y = rng.normal(10.0, 2.0, 60_000)
    for quantile in (0.5, 0.9):
        found = quantile_spread(y, np.arange(y.size), quantile)
        assert not isinstance(found, NotEstimable)
        from scipy import stats

        z = stats.norm.ppf(quantile)
        exact = 2.0 * math.sqrt(quantile * (1 - quantile)) / stats.norm.pdf(z)
        assert found.value == pytest.approx(10.0 + 2.0 * z, abs=0.05)
        assert found.sd == pytest.approx(exact, rel=0.04)  # a slope over about 3,000 values
    # Ten copies of each row tell no more than one.
    few = y[:3000]
    once = quantile_spread(few, np.arange(few.size), 0.5)
    copied = quantile_spread(np.repeat(few, 10), np.repeat(np.arange(few.size), 10), 0.5)
    assert not isinstance(once, NotEstimable)
    assert not isinstance(copied, NotEstimable)
    assert copied.sd == pytest.approx(once.sd, rel=0.02)
    assert isinstance(quantile_spread([1.0] * 90, range(90), 0.5), NotEstimable)
    assert isinstance(quantile_spread([1.0, 2.0], [1, 2], 0.99), NotEstimable)


def test_a_rate_of_history_gives_its_counts_back() -> None:
    rng = np.random.default_rng(8)
    n = 200_000
    exposure = rng.poisson(3, n) + 1.0
    events = rng.poisson(0.8 * exposure * rng.gamma(2.0, 0.5, n))
    found = rate_of_history(events, exposure)
    assert isinstance(found, Rate)
    assert found.rate == pytest.approx(0.8, rel=0.02)
    assert found.dispersion == pytest.approx(0.5, rel=0.05)
    spread = ratio_spread(events, exposure)
    assert not isinstance(spread, NotEstimable)
    assert math.sqrt(found.variance(found.rate)) == pytest.approx(spread.sd, rel=1e-9)
    assert isinstance(rate_of_history([0, 0, 0], [1, 2, 3]), NotEstimable)


@pytest.mark.parametrize("case", R["components"], ids=["equal", "unequal", "two sizes"])
def test_variance_components_equal_lme4(case: dict[str, Any]) -> None:
    y, cluster = np.array(case["values"]), np.array(case["cluster"])
    for expected, covariates in (
        (case["plain"], None),
        (case["beside"], np.array(case["x"])[:, None]),
    ):
        found = variance_components(y, cluster, covariates=covariates)
        assert isinstance(found, VarianceComponents)
        # lme4's own optimiser stops at about 1e-6 of the ratio's root.
        assert found.between == pytest.approx(expected["between"], rel=2e-5)
        assert found.within == pytest.approx(expected["within"], rel=2e-5)
    plain = variance_components(y, cluster)
    assert isinstance(plain, VarianceComponents)
    if case.get("searle"):
        assert (plain.ci_lower, plain.ci_upper) == pytest.approx(case["searle"], rel=1e-8)
        plain = variance_components(np.append(y, y.mean()), np.append(cluster, cluster[-1]))
        assert isinstance(plain, VarianceComponents)
        assert plain.method == "icc-reml-profile"
    else:
        assert plain.ci_upper == pytest.approx(case["profile_upper"], rel=1e-6)
        if case.get("profile_lower"):
            assert plain.ci_lower == pytest.approx(case["profile_lower"], rel=1e-6)


def test_reml_is_anova_for_equal_clusters_and_minds_neither_shift_nor_scale() -> None:
    from exp_pipeline.stats.clusters.intraclass import intraclass_correlation

    rng = np.random.default_rng(9)
    cluster = np.repeat(np.arange(25), 8)
    y = rng.normal(size=25)[cluster] * 0.4 + rng.normal(size=200)
    found = variance_components(y, cluster)
    assert isinstance(found, VarianceComponents)
    assert found.icc == pytest.approx(intraclass_correlation(y, cluster).icc, abs=1e-7)
    moved = variance_components(1e6 + 1000.0 * y[::-1], -cluster[::-1])
    assert isinstance(moved, VarianceComponents)
    assert moved.icc == pytest.approx(found.icc, abs=1e-6)
    assert moved.between == pytest.approx(1e6 * found.between, rel=1e-5)
    # Alternating values within clusters: less alike than chance.
    unlike = variance_components(
        np.tile([1.0, -1.0], 40) + 0.1 * rng.normal(size=80), np.repeat(range(20), 4)
    )
    assert isinstance(unlike, VarianceComponents)
    assert unlike.icc < -0.2
    assert unlike.between < 0.0
    assert "below zero" in unlike.flags[0]
    for values, clusters in (
        ([1.0, 2.0], [1, 1]),
        ([1.0, 1.0, 1.0], [1, 1, 2]),
        ([1.0, 1.0, 2.0], [1, 1, 2]),
    ):
        assert isinstance(variance_components(values, clusters), NotEstimable)


@pytest.mark.parametrize("unequal", [False, True])
def test_intervals_of_the_icc_hold_the_truth(unequal: bool) -> None:
    rng = np.random.default_rng(10)
    sizes = np.tile([4, 9, 14] if unequal else [9], 8 if unequal else 24)
    cluster = np.repeat(np.arange(sizes.size), sizes)
    runs, held = (250 if unequal else 400), 0
    for _ in range(runs):
        y = rng.normal(0, math.sqrt(0.12), sizes.size)[cluster] + rng.normal(0, math.sqrt(0.88), cluster.size)
        found = variance_components(y, cluster)
        assert isinstance(found, VarianceComponents)
        held += found.ci_lower <= 0.12 <= found.ci_upper
    # Four standard errors of the simulation.
    assert held / runs == pytest.approx(0.95, abs=4 * math.sqrt(0.05 * 0.95 / runs))


def test_adjusted_history_gives_a_design_with_residual_icc() -> None:
    rng = np.random.default_rng(11)
    cluster = np.repeat(np.arange(60), 15)
    pre = rng.normal(0, 0.6, 60)[cluster] + rng.normal(size=900)
    y = pre + rng.normal(0, 0.3, 60)[cluster] + rng.normal(size=900)
    plain, beside = variance_components(y, cluster), variance_components(y, cluster, covariates=pre[:, None])
    assert isinstance(plain, VarianceComponents)
    assert isinstance(beside, VarianceComponents)
    assert beside.icc < plain.icc
    # Of 1.36 + 1.09 the covariate explains 1.36.
    assert beside.explained == pytest.approx(1.36 / 2.45, abs=0.06)
    sizes = cluster_sizes(cluster)
    assert (sizes.clusters, sizes.mean, sizes.cv) == (60, 15.0, 0.0)
    unadjusted = units_for(Mean(1.0), with_history(PLAIN, sizes, plain), effect=0.3)
    adjusted = units_for(Mean(1.0), with_history(PLAIN, sizes, plain, beside), effect=0.3)
    assert adjusted.n_control < unadjusted.n_control / 2


def test_more_units_of_few_clusters_do_not_help_for_ever() -> None:
    design = Design(cluster_size=10.0, icc=0.1)
    plan = size_for_clusters(Mean(1.0), design, effect=0.5, clusters_control=12, clusters_treatment=12)
    assert plan.power >= 0.8
    from dataclasses import replace

    size = plan.design.cluster_size or 0.0
    smaller = replace(design, cluster_size=size - 1.0)
    assert (
        power_for(
            Mean(1.0), smaller, effect=0.5, n_control=12 * (size - 1), n_treatment=12 * (size - 1)
        ).power
        < 0.8
    )
    limit = effect_of_endless_clusters(Mean(1.0), design, clusters_control=12, clusters_treatment=12)
    # Only the cluster means' own spread is left: a t-test of 12 + 12 values with variance icc.
    assert power(Mean(math.sqrt(0.1)), 12, 12, limit) == pytest.approx(0.8, abs=1e-6)
    with pytest.raises(ValueError, match="clusters are too few"):
        size_for_clusters(Mean(1.0), design, effect=limit * 0.99, clusters_control=12, clusters_treatment=12)
    matched = units_for(Mean(1.0), replace(design, match_correlation=0.5), effect=0.3)
    assert matched.n_control < units_for(Mean(1.0), design, effect=0.3).n_control
    assert with_history(PLAIN, ClusterSizes(3, 5.0, 0.2), _components(-0.1)).icc == 0.0


def _components(icc: float) -> VarianceComponents:
    return VarianceComponents("t", icc, -0.2, 0.1, 0.95, icc, 1.0 - icc, 0.0, 3, 15, 5.0, 0.2, 0.0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Design(treatments=0), "treatments"),
        (lambda: Design(correction="sidak"), "correction"),  # type: ignore[arg-type]
        (lambda: Design(compliance=0.0), "compliance"),
        (lambda: Design(inflation=0.9), "inflation"),
        (lambda: Design(match_correlation=0.5), "cluster_size"),
        (lambda: Design(cluster_size=5.0, match_correlation=1.0), "match_correlation"),
        (lambda: Mean(0.0), "sd"),
        (lambda: Mean(1.0, -1.0), "sd_treatment"),
        (lambda: Rate(0.0), "rate"),
        (lambda: Rate(1.0, dispersion=-1.0), "dispersion"),
        (lambda: units_for(Rate(1.0), PLAIN, effect=-1.0), "rate \\+ effect"),
        (lambda: PairedProportion(0.0), "discordant"),
        (lambda: units_for(PairedProportion(0.2), PLAIN, effect=0.2), "discordant"),
        (lambda: PairedMean.of_correlation(1.0, 1.0), "correlation"),
        (lambda: always_valid_looks(alpha=0.05, power=0.8, looks=0), "looks"),
        (lambda: always_valid_looks(alpha=0.05, power=0.01, looks=3), "power"),
        (lambda: group_sequential_looks(Spending(), [0.5], power=0.8), "fractions"),
        (lambda: dunnett_critical(0.05, 0.0, 2), "df"),
        (lambda: best_control_share(0), "treatments"),
        (lambda: quantile_spread([1.0], [1], 1.0), "quantile"),
        (lambda: cluster_sizes([]), "cluster"),
        (lambda: variance_components([1.0, math.nan], [1, 1]), "finite"),
        (lambda: variance_components([1.0, 2.0], [1]), "one length"),
    ],
)
def test_mistakes_are_named(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_a_quantile_in_a_long_tail_is_spread_over_its_interval() -> None:
    # Exponential waiting times: Q(p) = -log(1 - p), so the chord over 0.9 +- r is known exactly.
    rng = np.random.default_rng(31)
    y = rng.exponential(size=400_000)
    units = np.arange(y.size)
    reach = 1.959964 * math.sqrt(0.9 * 0.1 / 150)
    chord = math.log((0.1 + reach) / (0.1 - reach)) / (2 * reach)
    near, wide = quantile_spread(y, units, 0.9), quantile_spread(y, units, 0.9, planned_units=150)
    assert not isinstance(near, NotEstimable)
    assert not isinstance(wide, NotEstimable)
    # The slope at the quantile is 10; both are known to about one part in a hundred.
    assert near.sd == pytest.approx(10 * math.sqrt(0.9 * 0.1), rel=0.03)
    assert wide.sd == pytest.approx(chord * math.sqrt(0.9 * 0.1), rel=0.01)
    assert wide.sd > 1.05 * near.sd
    with pytest.raises(ValueError, match="planned_units must be at least 2"):
        quantile_spread(y, units, 0.9, planned_units=1)


def test_many_clusters_count_as_their_analysis_counts_them() -> None:
    design = Design(cluster_size=20.0, cluster_size_cv=0.5, icc=0.1)
    # 48 clusters: CR2, Satterthwaite's. 60: CR1 with G - 1, unless an arm has fewer than twenty.
    assert design.cluster_df(960) == pytest.approx(48 / 1.25 - 2)
    assert design.cluster_df(1_200) == pytest.approx(59)
    assert replace(design, share_treatment=0.2).cluster_df(1_200) == pytest.approx(60 / 1.25 - 2)
