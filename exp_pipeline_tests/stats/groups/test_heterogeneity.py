from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.effects.means import difference_in_means
from exp_pipeline.stats.groups.heterogeneity import (
    Heterogeneity,
    arm_heterogeneity,
    gail_simon,
    heterogeneity,
    heterogeneity_of_rows,
)
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.stats.golden import golden

WELCH = golden("heterogeneity")["welch"]


def found(result: Heterogeneity | NotEstimable) -> Heterogeneity:
    assert isinstance(result, Heterogeneity), result
    return result


def effect(absolute: float, se: float, df: float = math.inf, n: int = 100) -> Effect:
    return Effect(
        "test", n, n, 0.0, absolute, absolute, se, df, absolute - se, absolute + se, 0.5, 0.95,
        None, None, None, None, None, None,
    )  # fmt: skip


def difference(control: Any, treatment: Any) -> Effect:
    result = difference_in_means(
        Moments.from_array(control, ["y"]), Moments.from_array(treatment, ["y"]), outcome="y"
    )
    assert isinstance(result, Effect)
    return result


@pytest.mark.parametrize("name", WELCH)
def test_the_interaction_of_plain_means_is_r_oneway_test(name: str) -> None:
    # Group means with their own n - 1 degrees of freedom: Welch's analysis of variance itself.
    case = WELCH[name]
    y, g = np.array(case["y"]), np.array(case["g"])
    effects = {}
    for label in np.unique(g):
        own = y[g == label]
        effects[str(label)] = effect(own.mean(), own.std(ddof=1) / math.sqrt(own.size), own.size - 1.0)
    ours = found(heterogeneity(effects)).interaction
    assert ours.statistic == pytest.approx(case["f"], rel=1e-10)
    assert (ours.df_between, ours.df_within) == pytest.approx((case["df1"], case["df2"]), rel=1e-10)
    assert ours.p_value == pytest.approx(case["p"], rel=1e-9)


def test_gail_and_simon_published_trial_and_critical_values() -> None:
    # Gail and Simon (1985): disease-free survival at three years in the NSABP trial, by age and receptors.
    gaps, se = [0.163, -0.114, -0.047, -0.151], [0.0788, 0.0689, 0.0614, 0.0547]
    ours = gail_simon(gaps, se)
    assert ours.positive == pytest.approx(4.28, abs=0.005)
    assert ours.negative == pytest.approx(10.94, abs=0.01)
    assert ours.p_value == pytest.approx(0.088, abs=0.0005)
    # Their table 1 at 5 %: two to five groups.
    for k, critical in {2: 2.71, 3: 4.23, 4: 5.43, 5: 6.50}.items():
        root = math.sqrt(critical)
        assert gail_simon([root, *[-9.0] * (k - 1)], [1.0] * k).p_value == pytest.approx(0.05, abs=0.0003)


def test_gail_and_simon_by_simulation_of_its_worst_case() -> None:
    rng = np.random.default_rng(520)
    draws = rng.normal(size=(200_000, 3))
    least = np.minimum((draws.clip(min=0) ** 2).sum(axis=1), (draws.clip(max=0) ** 2).sum(axis=1))
    # One effect without bound, two at zero, is the worst case: conditional chi-bar-square of k - 1.
    far = draws[:, :2].clip(max=0)
    tail = float(np.mean((far**2).sum(axis=1) > 3.0))
    assert gail_simon([20.0, -math.sqrt(3.0), 0.0], [1.0, 1.0, 1.0]).p_value == pytest.approx(tail, abs=0.003)
    assert float(np.mean(least > 3.0)) < tail


def test_few_degrees_of_freedom_weaken_the_sign_test() -> None:
    sure, rough = gail_simon([3, -2.5], [1, 1]), gail_simon([3, -2.5], [1, 1], [4.0, 6.0])
    assert rough.p_value > 2 * sure.p_value
    # With two groups the test is one-sided t of the smaller: its p is the tail itself.
    from scipy import stats

    assert rough.p_value == pytest.approx(min(0.5, max(stats.t.sf(3, 4), stats.t.sf(2.5, 6))), rel=1e-9)
    assert gail_simon([1.0, 2.0], [1.0, 1.0]).p_value == 1.0


def test_two_segments_are_one_welch_test_of_their_effects() -> None:
    ours = found(heterogeneity({"a": effect(1.0, 0.3, 20.0), "b": effect(0.1, 0.5, 11.0)}))
    t = 0.9 / math.hypot(0.3, 0.5)
    df = (0.09 + 0.25) ** 2 / (0.09**2 / 20 + 0.25**2 / 11)
    assert (ours.interaction.statistic, ours.interaction.df_within) == pytest.approx((t * t, df), rel=1e-12)
    assert ours.groups[0].shrunken is None
    assert any("no shrunken effects" in flag for flag in ours.flags)


def test_rows_in_clusters_of_their_own_agree_with_separate_segments() -> None:
    rng = np.random.default_rng(521)
    n = 900
    segment, arm = rng.integers(0, 4, n), rng.integers(0, 2, n) == 1
    y = rng.normal(size=n) * (1 + segment) + arm * segment
    joint = found(heterogeneity_of_rows(y, arm, segment, np.arange(n)))
    apart = found(
        heterogeneity(
            {str(s): difference(y[(segment == s) & ~arm], y[(segment == s) & arm]) for s in range(4)}
        )
    )
    for a, b in zip(joint.groups, apart.groups, strict=True):
        assert (a.absolute, a.se) == pytest.approx((b.absolute, b.se), rel=1e-10)
        assert a.shrunken is not None
        assert b.shrunken is not None
        assert a.shrunken.absolute == pytest.approx(b.shrunken.absolute, rel=1e-7)
    # The small-sample corrections differ, a little: working model of one spread against each arm's own.
    assert joint.interaction.p_value == pytest.approx(apart.interaction.p_value, rel=0.2)
    assert joint.between.tau2 == pytest.approx(apart.between.tau2, rel=1e-7)


def test_clusters_in_several_segments_are_said_and_counted() -> None:
    rng = np.random.default_rng(522)
    school = np.repeat(np.arange(24), 30)
    girl = np.arange(school.size) % 2
    arm = school % 2 == 1
    y = rng.normal(size=24)[school] * 2 + rng.normal(size=school.size) + arm * 1.0
    ours = found(heterogeneity_of_rows(y, arm, girl, school))
    assert any("24 of 24 clusters have units in several segments" in flag for flag in ours.flags)
    # What schools share cancels between segments, so that they compare far more sharply than each is known.
    apart = abs(ours.groups[0].absolute - ours.groups[1].absolute) / math.sqrt(ours.interaction.statistic)
    assert apart < math.hypot(ours.groups[0].se, ours.groups[1].se) / 3


def test_arms_beside_one_control() -> None:
    rng = np.random.default_rng(523)
    control = rng.normal(size=400)
    arms = {f"arm {i}": rng.normal(size=300) + shift for i, shift in enumerate((0.0, 0.1, 0.6))}
    effects: dict[str, Effect | NotEstimable] = {
        name: difference(control, values) for name, values in arms.items()
    }
    ours = found(arm_heterogeneity(effects, float(control.var(ddof=1)) / 400))
    # Whether arms differ has nothing to do with the control: Welch's test of the arms alone.
    alone = {name: effect(v.mean(), v.std(ddof=1) / math.sqrt(300), 299.0) for name, v in arms.items()}
    other = found(heterogeneity(alone))
    assert ours.interaction.statistic == pytest.approx(other.interaction.statistic, rel=1e-9)
    assert ours.interaction.p_value == pytest.approx(other.interaction.p_value, rel=1e-9)
    # Arms are drawn to one another, not to the control, whose own error each effect keeps.
    for a, b in zip(ours.groups, other.groups, strict=True):
        assert a.shrunken is not None
        assert b.shrunken is not None
        assert a.shrunken.absolute == pytest.approx(b.shrunken.absolute - control.mean(), rel=1e-7)
        assert a.shrunken.se**2 == pytest.approx(b.shrunken.se**2 + control.var(ddof=1) / 400, rel=1e-7)
    assert ours.groups[2].rank_best == 1
    assert ours.groups[2].rank_worst == 1
    assert ours.groups[0].rank_best > 1
    with pytest.raises(ValueError, match="control_variance"):
        arm_heterogeneity(effects, 1.0)


def test_an_order_must_survive_all_comparisons() -> None:
    # 2.2 standard errors apart: p = 0.028 alone, 0.083 among the three pairs.
    near = found(heterogeneity({"a": effect(0.0, 1.0), "b": effect(1.5, 1.0), "c": effect(3.11, 1.0)}))
    assert [(g.rank_best, g.rank_worst) for g in near.groups] == [(1, 3)] * 3
    far = found(heterogeneity({"a": effect(0.0, 1.0), "b": effect(1.5, 1.0), "c": effect(3.6, 1.0)}))
    assert [(g.rank_best, g.rank_worst) for g in far.groups] == [(2, 3), (1, 3), (1, 2)]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-2, 2), st.floats(0.1, 1.0), st.floats(3, 60)), min_size=3, max_size=6),
    st.floats(0.05, 20.0),
    st.floats(-9.0, 9.0),
)
def test_scale_and_shift_and_swap(
    parts: list[tuple[float, float, float]], scale: float, shift: float
) -> None:
    first = found(heterogeneity({str(i): effect(*part) for i, part in enumerate(parts)}))
    moved = found(
        heterogeneity(
            {str(i): effect(-scale * (y + shift), scale * s, d) for i, (y, s, d) in enumerate(parts)}
        )
    )
    assert moved.interaction.p_value == pytest.approx(first.interaction.p_value, rel=1e-6, abs=1e-12)
    swapped = found(heterogeneity({str(i): effect(-y, s, d) for i, (y, s, d) in enumerate(parts)}))
    assert swapped.qualitative.p_value == pytest.approx(first.qualitative.p_value, rel=1e-9)
    assert swapped.qualitative.positive == pytest.approx(first.qualitative.negative)
    k = len(parts)
    assert [g.rank_best for g in swapped.groups] == [k + 1 - g.rank_worst for g in first.groups]


def test_what_cannot_be_told_says_why() -> None:
    lost = NotEstimable("x", "the control arm is empty")
    answer = heterogeneity({"a": effect(1, 1), "b": lost})
    assert isinstance(answer, NotEstimable)
    assert "two" in answer.reason
    ours = found(heterogeneity({"a": effect(1, 1), "b": lost, "c": effect(0, 1)}))
    assert ours.left_out == (("b", "the control arm is empty"),)
    assert any("do not read an order" in flag for flag in ours.flags)
    rough = found(heterogeneity({"a": effect(1, 1, 4.0), "c": effect(0, 1)}))
    assert any("few degrees of freedom in a" in flag for flag in rough.flags)
    with pytest.raises(ValueError, match="se above 0"):
        gail_simon([1.0, 2.0], [0.0, 1.0])


def test_size_of_the_interaction_test_with_small_skewed_segments() -> None:
    rng = np.random.default_rng(524)
    welch = chi_square = 0
    trials = 300
    for _ in range(trials):
        effects: dict[str, Effect | NotEstimable] = {
            str(s): difference(rng.normal(size=n) * sd, rng.normal(size=n))
            for s, (n, sd) in enumerate(((5, 1.0), (6, 2.0), (9, 0.5), (30, 1.0)))
        }
        ours = found(heterogeneity(effects, shrinkage="plug-in"))
        welch += ours.interaction.p_value < 0.05
        chi_square += ours.between.p_value < 0.05
    # Monte Carlo error 1.3 points; Cochran's chi-square forgets that small segments' errors are estimated.
    assert 0.02 < welch / trials < 0.085
    assert chi_square / trials > 0.08
