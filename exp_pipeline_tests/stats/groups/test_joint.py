from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.groups.joint import (
    ContrastOfCells,
    JointEffects,
    JointTest,
    contrast_of_cells,
    differences,
    joint_effects,
    joint_test,
)
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.stats.golden import golden

R = golden("joint")


def joint(*args: Any, **named: Any) -> JointEffects:
    result = joint_effects(*args, **named)
    assert isinstance(result, JointEffects), result
    return result


def contrast(found: JointEffects, weights: Any) -> ContrastOfCells:
    result = contrast_of_cells(found, weights)
    assert isinstance(result, ContrastOfCells), result
    return result


@pytest.mark.parametrize("name", R)
def test_effects_and_test_equal_clubsandwich(name: str) -> None:
    case = R[name]
    found = joint(case["y"], np.array(case["arm"]) == 1, case["seg"], case["cluster"])
    # Matrix roots of whole clusters there, a diagonal here.
    assert found.effects == pytest.approx(case["effects"], rel=1e-9)
    assert found.covariance == pytest.approx(np.array(case["covariance"]), rel=1e-8, abs=1e-10)
    k = len(found.names)
    assert [contrast(found, row).df for row in np.eye(k)] == pytest.approx(case["df"], rel=1e-8)
    test = joint_test(found, differences(k))
    assert isinstance(test, JointTest)
    assert (test.f, test.df_numerator) == pytest.approx((case["f"], case["df_num"]), rel=1e-8)
    assert test.df_denominator == pytest.approx(case["df_den"], rel=1e-7)
    assert test.p_value == pytest.approx(case["p"], rel=1e-7)


def rows(seed: int = 505) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(14), rng.integers(4, 12, 14))
    cell = rng.integers(0, 3, cluster.size)
    arm = cluster % 2 == 1
    y = rng.normal(size=14)[cluster] + cell + arm * (1 + cell) + rng.normal(size=cluster.size)
    return y, arm, cell, cluster


def test_one_cell_alone_is_the_clustered_difference() -> None:
    y, arm, cell, cluster = rows()
    found = joint(y, arm, cell, cluster)
    for place in range(3):
        here = cell == place
        alone = clustered_difference(y[here], arm[here], cluster[here], method="cr2")
        assert isinstance(alone, Effect)
        own = contrast(found, np.eye(3)[place])
        assert (own.estimate, own.se, own.df) == pytest.approx((alone.absolute, alone.se, alone.df), rel=1e-9)
        assert own.p_value == pytest.approx(alone.p_value, rel=1e-8)


def test_two_cells_are_one_t_test() -> None:
    y, arm, cell, cluster = rows()
    found = joint(y, arm, cell > 0, cluster)
    test, apart = joint_test(found, differences(2)), contrast(found, [1, -1])
    assert isinstance(test, JointTest)
    assert test.f == pytest.approx((apart.estimate / apart.se) ** 2, rel=1e-9)
    assert test.df_denominator == pytest.approx(apart.df, rel=1e-9)


def test_covariance_by_leaving_clusters_out() -> None:
    y, arm, cell, cluster = rows(506)
    found = joint(y, arm, cell, cluster)
    without = []
    for g in range(14):
        kept = cluster != g
        without.append(joint(y[kept], arm[kept], cell[kept], cluster[kept]).effects)
    gaps = np.array(without) - found.effects
    # The cluster jackknife (CR3) is of the same size, a little larger.
    jackknife = 13 / 14 * gaps.T @ gaps
    ratio = np.diag(jackknife) / np.diag(found.covariance)
    assert ratio.min() > 0.95
    assert ratio.max() < 1.6
    correlation = jackknife[0, 1] / np.sqrt(jackknife[0, 0] * jackknife[1, 1])
    ours = found.covariance[0, 1] / np.sqrt(found.covariance[0, 0] * found.covariance[1, 1])
    assert ours == pytest.approx(correlation, abs=0.1)


def test_covariates_give_the_coefficients_of_least_squares() -> None:
    y, arm, cell, cluster = rows(507)
    x = np.random.default_rng(508).normal(size=(y.size, 2)) + arm[:, None] * 0.2
    y = y + x @ [2.0, -1.0]
    found = joint(y, arm, cell, cluster, covariates=np.column_stack([x, x[:, 0]]))
    dummies = np.eye(3)[cell]
    design = np.hstack([dummies, dummies * arm[:, None], x])
    assert found.effects == pytest.approx(np.linalg.lstsq(design, y, rcond=None)[0][3:6], rel=1e-9)
    assert found.flags == ("covariate number 3 dropped: it does not vary or repeats the others",)
    plain = joint(y, arm, cell, cluster)
    assert np.trace(found.covariance) < np.trace(plain.covariance)


def test_ratios_are_ratios_of_sums() -> None:
    y, arm, cell, cluster = rows(509)
    base = np.random.default_rng(510).integers(1, 6, y.size).astype(float)
    found = joint(y * base, arm, cell, cluster, denominator=base)
    for place in range(3):
        expected = [
            (y * base)[(cell == place) & (arm == a)].sum() / base[(cell == place) & (arm == a)].sum()
            for a in (0, 1)
        ]
        assert found.effects[place] == pytest.approx(expected[1] - expected[0], rel=1e-10)
    # All denominators alike: the mean of quotients.
    same = joint(y * 3.0, arm, cell, cluster, denominator=np.full(y.size, 3.0))
    plain = joint(y, arm, cell, cluster)
    assert same.covariance == pytest.approx(plain.covariance, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-1e3, 1e3))
def test_scale_shift_swap_and_order(seed: int, scale: float, shift: float) -> None:
    y, arm, cell, cluster = rows(seed)
    first = joint(y, arm, cell, cluster)
    order = np.random.default_rng(seed).permutation(y.size)
    moved = joint((y * scale + shift)[order], ~arm[order], cell[order], 100 - cluster[order])
    assert moved.effects == pytest.approx(-first.effects * scale, rel=1e-7, abs=1e-9 * scale)
    assert moved.covariance == pytest.approx(first.covariance * scale**2, rel=1e-6, abs=1e-9 * scale**2)
    a, b = joint_test(first, differences(3)), joint_test(moved, differences(3))
    if isinstance(a, NotEstimable) or isinstance(b, NotEstimable):
        assert type(a) is type(b)
        return
    assert b.f == pytest.approx(a.f, rel=1e-6, abs=1e-9)
    assert b.df_denominator == pytest.approx(a.df_denominator, rel=1e-7)


def test_what_is_left_out_says_why() -> None:
    y, arm, cell, cluster = rows()
    lonely = np.where((cell == 2) & arm & (cluster > 1), 1, cell)
    found = joint(y, arm, lonely, cluster)
    assert found.names == ("0", "1")
    assert found.left_out[0][0] == "2"
    assert "clusters here" in found.left_out[0][1]
    assert isinstance(joint_effects(y, arm, np.zeros(y.size), cluster), NotEstimable)
    assert isinstance(joint_effects(np.full(y.size, 3.7), arm, cell, cluster), NotEstimable)
    # Four clusters cannot bear a test of three differences.
    tiny = joint(np.arange(16.0) ** 2, np.tile([False, True], 8), np.arange(16) // 4, np.arange(16) % 4)
    assert isinstance(joint_test(tiny, differences(4)), NotEstimable)
    with pytest.raises(ValueError, match="weights"):
        contrast_of_cells(found, [1.0])
    with pytest.raises(ValueError, match="zero"):
        contrast_of_cells(found, [0.0, 0.0])


def test_size_of_the_joint_test_with_twelve_clusters() -> None:
    rng = np.random.default_rng(511)
    hits = hits_normal = 0
    trials = 400
    for _ in range(trials):
        cluster = np.repeat(np.arange(12), 12)
        cell = np.tile([0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 1, 2], 12)
        arm = cluster % 2 == 1
        y = rng.normal(size=12)[cluster] + rng.normal(size=(12, 3))[cluster, cell] + rng.normal(size=144)
        found = joint(y, arm, cell, cluster)
        test = joint_test(found, differences(3))
        assert isinstance(test, JointTest)
        hits += test.p_value < 0.05
        hits_normal += test.wald > 5.991
    # Monte Carlo error 1.1 points. The chi-square of large samples is known to be far too eager here.
    assert hits / trials < 0.075
    assert hits_normal / trials > 0.10
