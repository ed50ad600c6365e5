from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.guardrails import non_inferiority
from exp_pipeline.stats.means import difference_in_means, difference_in_proportions
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.quantiles import difference_in_quantiles
from exp_pipeline.stats.results import Effect, NotEstimable


def estimated(result: Effect | NotEstimable) -> Effect:
    assert isinstance(result, Effect), result
    return result


def effect(absolute: float, se: float = 1.0, control: float = 100.0) -> Effect:
    """An effect of 2 x 200 units with the given difference and standard error."""
    rng = np.random.default_rng(1)
    rows = []
    for mean in (control, control + absolute):
        x = rng.normal(size=200)
        x = (x - x.mean()) / x.std(ddof=1) * se * np.sqrt(100.0)
        rows.append(Moments.from_array(x + mean, ["y"]))
    return estimated(difference_in_means(rows[0], rows[1], outcome="y"))


@pytest.mark.parametrize(
    ("harm", "absolute", "verdict"),
    [
        ("increase", -1.0, "pass"),
        ("increase", 1.0, "pass"),  # bound about 2.65
        ("increase", 1.5, "underpowered"),  # bound about 3.15, harm not shown
        ("increase", 2.9, "underpowered"),  # harm shown, estimate within the margin
        ("increase", 3.1, "fail"),
        ("increase", 9.0, "fail"),
        ("decrease", -1.0, "pass"),
        ("decrease", -3.1, "fail"),
        ("decrease", 9.0, "pass"),
    ],
)
def test_verdicts_round_a_margin_of_three(harm: Any, absolute: float, verdict: str) -> None:
    assert non_inferiority(effect(absolute), margin=3.0, margin_kind="absolute", harm=harm).verdict == verdict


def test_a_wide_interval_is_underpowered_even_beyond_the_margin() -> None:
    found = non_inferiority(effect(4.0, se=5.0), margin=3.0, margin_kind="absolute", harm="increase")
    assert found.verdict == "underpowered"


def test_bound_and_p_value_equal_the_one_sided_t_test_of_scipy() -> None:
    from scipy import stats

    rng = np.random.default_rng(2)
    a, b = rng.normal(10, 2, 40), rng.normal(10.5, 3, 35)
    found = non_inferiority(
        estimated(
            difference_in_means(Moments.from_array(a, ["y"]), Moments.from_array(b, ["y"]), outcome="y")
        ),
        margin=1.5,
        margin_kind="absolute",
        harm="increase",
        alpha=0.025,
    )
    theirs = stats.ttest_ind(b, a + 1.5, equal_var=False, alternative="less")
    # The same t from other sums.
    assert found.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    upper = stats.ttest_ind(b, a, equal_var=False, alternative="less").confidence_interval(0.975).high
    assert found.bound == pytest.approx(upper, rel=1e-9)


def test_the_published_launch_by_points() -> None:
    point: dict[str, Any] = {"margin_kind": "absolute", "harm": "increase", "basis": "point"}
    escalation = difference_in_proportions(310, 2000, 306, 2000)
    grounding = difference_in_proportions(22, 2000, 23, 2000)
    assert non_inferiority(escalation, margin=0.005, **point).verdict == "pass"
    assert non_inferiority(grounding, margin=0.005, **point).verdict == "pass"
    # By interval the first is honestly undecided: its bound is three times the budget.
    judged = non_inferiority(escalation, margin=0.005, margin_kind="absolute", harm="increase")
    assert judged.verdict == "underpowered"
    assert judged.bound is not None
    assert judged.bound > 0.015


@pytest.mark.parametrize("basis", ["point", "interval"])
@pytest.mark.parametrize(("treatment_p95", "verdict"), [(1260.0, "pass"), (1490.0, "fail")])
def test_the_published_latency(basis: Any, treatment_p95: float, verdict: str) -> None:
    rng = np.random.default_rng(3)

    def arm(p95: float) -> tuple[np.ndarray, np.ndarray]:
        unit = np.repeat(np.arange(2000), 3)
        rows = np.exp(rng.normal(0, 0.1, 2000)[unit] + rng.normal(0, 0.2, 6000))
        return rows * p95 / np.quantile(rows, 0.95), unit

    p95 = difference_in_quantiles(*arm(1180.0), *arm(treatment_p95), quantile=0.95)
    found = non_inferiority(p95, margin=150.0, margin_kind="absolute", harm="increase", basis=basis)
    assert found.verdict == verdict
    assert found.harm_estimate == pytest.approx(treatment_p95 - 1180.0, abs=1e-6)


def test_relative_margins_are_read_on_the_log_scale() -> None:
    lift = effect(2.0)
    found = non_inferiority(lift, margin=0.05, margin_kind="relative", harm="increase")
    assert found.verdict == "pass"
    wide = estimated(
        difference_in_means(
            Moments.from_array(np.random.default_rng(1).normal(100, 10, 200), ["y"]),
            Moments.from_array(np.random.default_rng(2).normal(102, 10, 200), ["y"]),
            outcome="y",
            level=0.9,
        )
    )
    # A 90 % two-sided interval ends where the two one-sided 5 % bounds are.
    both = [
        non_inferiority(wide, margin=0.05, margin_kind="relative", harm=harm)
        for harm in ("increase", "decrease")
    ]
    assert both[0].bound == pytest.approx(wide.relative_ci_upper, rel=1e-12)
    assert both[1].bound == pytest.approx(-(wide.relative_ci_lower or 0), rel=1e-12)


def test_no_estimate_is_no_verdict() -> None:
    missing = NotEstimable("welch", "the control arm is empty", 0, 5)
    found = non_inferiority(missing, margin=1.0, margin_kind="absolute", harm="increase")
    assert (found.verdict, found.reason, found.bound) == ("cannot_tell", "the control arm is empty", None)
    near_zero = effect(1.0, se=1.0, control=0.5)
    assert near_zero.relative is None
    relative = non_inferiority(near_zero, margin=0.1, margin_kind="relative", harm="increase")
    assert relative.verdict == "cannot_tell"


@settings(max_examples=60, deadline=None)
@given(st.floats(-8, 8), st.floats(0.2, 3), st.floats(0, 5), st.sampled_from(["absolute", "relative"]))
def test_harm_is_the_mirror_of_benefit_and_p_agrees(
    absolute: float, se: float, margin: float, kind: Any
) -> None:
    base = effect(absolute, se)
    up = non_inferiority(
        base, margin=margin if kind == "absolute" else margin / 100, margin_kind=kind, harm="increase"
    )
    assert (up.verdict == "pass") == ((up.p_value or 0) <= up.alpha)
    if kind == "absolute":
        mirrored = replace(base, absolute=-base.absolute, ci_lower=-base.ci_upper, ci_upper=-base.ci_lower)
        down = non_inferiority(mirrored, margin=margin, margin_kind=kind, harm="decrease")
        assert down.verdict == up.verdict
        assert down.bound == pytest.approx(up.bound, abs=1e-12)


def test_errors_stay_within_alpha() -> None:
    rng = np.random.default_rng(4)
    runs, n, margin = 1500, 30, 0.8
    passed = failed = 0
    for _ in range(runs):
        a, at_margin, harmless = rng.normal(size=n), rng.normal(margin, 1, n), rng.normal(size=n)
        control = Moments.from_array(a, ["y"])
        for rows, harmful in ((at_margin, True), (harmless, False)):
            found = non_inferiority(
                difference_in_means(control, Moments.from_array(rows, ["y"]), outcome="y"),
                margin=margin,
                margin_kind="absolute",
                harm="increase",
            )
            passed += harmful and found.verdict == "pass"
            failed += (not harmful) and found.verdict == "fail"
    # Four standard errors of 1,500 runs at 5 % are 2.3 points.
    assert passed / runs == pytest.approx(0.05, abs=0.023)
    assert failed / runs <= 0.05 + 0.023


def test_mistakes_are_named() -> None:
    good = effect(1.0)
    for arguments, words in (
        ({"margin": -1.0}, "margin"),
        ({"alpha": 0.5}, "alpha"),
        ({"harm": "up"}, "harm"),
        ({"margin_kind": "percent"}, "margin_kind"),
        ({"basis": "guess"}, "basis"),
    ):
        call: dict[str, Any] = {"margin": 1.0, "margin_kind": "absolute", "harm": "increase", **arguments}
        with pytest.raises(ValueError, match=words):
            non_inferiority(good, **call)


@pytest.mark.parametrize("harm", ["increase", "decrease"])
def test_p_agrees_with_the_bound_of_lopsided_intervals(harm: Any) -> None:
    # At the margin that is the bound itself, the p-value is alpha.
    rare = estimated(difference_in_proportions(3, 60, 3, 50))
    first = non_inferiority(rare, margin=1.0, margin_kind="absolute", harm=harm)
    assert first.bound is not None
    again = non_inferiority(rare, margin=first.bound, margin_kind="absolute", harm=harm)
    assert again.p_value == pytest.approx(0.05, rel=1e-9)


def test_relative_harm_of_a_negative_metric() -> None:
    below = effect(-2.0, control=-100.0)
    found = non_inferiority(below, margin=0.01, margin_kind="relative", harm="decrease")
    assert found.harm_estimate == pytest.approx(0.02)
    assert found.bound is not None
    # Two per cent and 1.65 standard errors of one per cent each.
    assert found.bound == pytest.approx(0.0365, abs=0.001)
