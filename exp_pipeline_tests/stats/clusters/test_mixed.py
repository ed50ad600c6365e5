from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.clusters.mixed import MixedEffect, mixed_difference
from exp_pipeline.stats.clusters.variance_components import VarianceComponents, variance_components
from exp_pipeline.stats.results import NotEstimable
from exp_pipeline_tests.stats.golden import golden

R = golden("mixed")


def mixed(*args: Any, **named: Any) -> MixedEffect:
    result = mixed_difference(*args, **named)
    assert isinstance(result, MixedEffect), result
    return result


def parts(case: dict[str, Any]) -> tuple[tuple[np.ndarray, ...], dict[str, Any]]:
    extra: dict[str, Any] = {"effect_varies": "effect_variance" in case}
    if case["x"]:
        extra["covariates"] = np.array(case["x"]).T
    return (np.array(case["y"]), np.array(case["arm"]) == 1, np.array(case["cluster"])), extra


@pytest.mark.parametrize("name", R)
def test_equals_lme4_and_lmertest(name: str) -> None:
    case = R[name]
    rows, extra = parts(case)
    ours = mixed(*rows, **extra, df_method="satterthwaite")
    # lme4's search stops near 1e-6 of its parameters with one variance, 1e-5 with three.
    slopes = "effect_variance" in case
    tight = 2e-5 if slopes else 1e-6
    assert ours.effect.absolute == pytest.approx(case["absolute"], rel=tight)
    assert ours.effect.se == pytest.approx(case["se"], rel=tight)
    assert ours.within == pytest.approx(case["within"], rel=tight)
    assert ours.between == pytest.approx(case["between"], rel=20 * tight, abs=1e-6)
    # lmerTest differentiates by number.
    assert ours.effect.df == pytest.approx(case["df"], rel=50 * tight)
    assert ours.effect.p_value == pytest.approx(case["p"], rel=50 * tight)
    kr = mixed(*rows, **extra)
    assert kr.effect.absolute == ours.effect.absolute
    assert kr.effect.se == pytest.approx(case["kr_se"], rel=tight)
    assert kr.effect.df == pytest.approx(case["kr_df"], rel=20 * tight)
    assert kr.effect.p_value == pytest.approx(case["kr_p"], rel=50 * tight)
    if slopes:
        assert ours.effect_variance == pytest.approx(case["effect_variance"], rel=20 * tight)
        assert ours.correlation == pytest.approx(case["correlation"], rel=50 * tight)
    assert any("do not differ beyond chance" in flag for flag in ours.flags) == case["singular"]


def dense_criterion(
    y: np.ndarray, x: np.ndarray, arm: np.ndarray, cluster: np.ndarray, psi: np.ndarray, within: float
) -> float:
    """Restricted likelihood by whole n x n matrices: log det V + log det X'V^-1 X + r'V^-1 r."""
    z = np.column_stack([np.ones(y.size), arm])[:, : psi.shape[0]]
    same = cluster[:, None] == cluster[None, :]
    v = within * np.eye(y.size) + same * (z @ psi @ z.T)
    inverse = np.linalg.inv(v)
    inner = x.T @ inverse @ x
    beta = np.linalg.solve(inner, x.T @ inverse @ y)
    gap = y - x @ beta
    return float(np.linalg.slogdet(v)[1] + np.linalg.slogdet(inner)[1] + gap @ inverse @ gap)


@pytest.mark.parametrize("name", ["within", "slopes"])
def test_the_fit_is_the_top_of_the_dense_likelihood(name: str) -> None:
    case = R[name]
    (y, arm, cluster), extra = parts(case)
    keep = cluster <= 6
    y, arm, cluster = y[keep], arm[keep], cluster[keep]
    x = np.column_stack([np.ones(y.size), arm])
    ours = mixed(y, arm, cluster, effect_varies=extra["effect_varies"])
    psi = np.array([[ours.between]])
    if ours.effect_variance is not None:
        tilt = (ours.correlation or 0.0) * (ours.between * ours.effect_variance) ** 0.5
        psi = np.array([[ours.between, tilt], [tilt, ours.effect_variance]])
    top = dense_criterion(y, x, arm, cluster, psi, ours.within)
    rng = np.random.default_rng(702)
    for _ in range(40):
        noise = 1.0 + rng.normal(size=psi.shape) * 0.02
        moved = psi * (noise + noise.T) / 2
        if np.linalg.eigvalsh(moved)[0] < 0:
            continue
        assert (
            dense_criterion(y, x, arm, cluster, moved, ours.within * (1 + rng.normal() * 0.02)) >= top - 1e-7
        )


def test_kenward_and_roger_by_whole_matrices() -> None:
    # Their equations written with n x n matrices and derivatives, nothing summed by cluster.
    case = R["few"]
    (y, arm, cluster), _ = parts(case)
    ours = mixed(y, arm, cluster)
    n = y.size
    x = np.column_stack([np.ones(n), arm]).astype(float)
    same = (cluster[:, None] == cluster[None, :]).astype(float)
    v = ours.within * np.eye(n) + ours.between * same
    inverse = np.linalg.inv(v)
    phi = np.linalg.inv(x.T @ inverse @ x)
    projector = inverse - inverse @ x @ phi @ x.T @ inverse
    moves = [np.eye(n), same]
    information = np.array([[0.5 * np.trace(projector @ a @ projector @ b) for b in moves] for a in moves])
    known = np.linalg.inv(information)
    first = [-x.T @ inverse @ a @ inverse @ x for a in moves]
    total = np.zeros((2, 2))
    for i, a in enumerate(moves):
        for j, b in enumerate(moves):
            q = x.T @ inverse @ a @ inverse @ b @ inverse @ x
            total += known[i, j] * (q - first[i] @ phi @ first[j])
    adjusted = phi + 2 * phi @ total @ phi
    assert ours.effect.se == pytest.approx(adjusted[1, 1] ** 0.5, rel=1e-9)
    gradient = np.array([(phi @ part @ phi)[1, 1] for part in first])
    assert ours.effect.df == pytest.approx(2 * phi[1, 1] ** 2 / (gradient @ known @ gradient), rel=1e-8)


def test_equal_clusters_are_a_t_test_of_their_means() -> None:
    rng = np.random.default_rng(703)
    cluster = np.repeat(np.arange(10), 7)
    arm = cluster % 2 == 1
    y = rng.normal(size=10)[cluster] * 2 + rng.normal(size=70) + arm
    ours = mixed(y, arm, cluster)
    means = y.reshape(10, 7).mean(axis=1)
    odd = np.arange(10) % 2 == 1
    pooled = (means[odd].var(ddof=1) + means[~odd].var(ddof=1)) / 2
    # Balanced data: exact, four and four degrees of freedom.
    assert ours.effect.absolute == pytest.approx(means[odd].mean() - means[~odd].mean(), rel=1e-10)
    assert ours.effect.se == pytest.approx((pooled * 2 / 5) ** 0.5, rel=1e-7)
    assert ours.effect.df == pytest.approx(8.0, rel=1e-6)


def test_the_icc_agrees_with_that_of_the_planning_room() -> None:
    case = R["schools"]
    (y, arm, cluster), _ = parts(case)
    ours = mixed(y, arm, cluster)
    other = variance_components(y, cluster, covariates=arm[:, None].astype(float))
    assert isinstance(other, VarianceComponents)
    assert ours.icc == pytest.approx(other.icc, rel=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100), st.floats(-1e3, 1e3))
def test_scale_shift_swap_and_labels(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(8), rng.integers(3, 9, 8))
    arm = cluster % 2 == 1
    y = rng.normal(size=8)[cluster] + rng.normal(size=cluster.size)
    first = mixed_difference(y, arm, cluster)
    order = rng.permutation(y.size)
    second = mixed_difference((y * scale + shift)[order], ~arm[order], 50 - cluster[order])
    if isinstance(first, NotEstimable) or isinstance(second, NotEstimable):
        assert type(first) is type(second)
        return
    # A flat top is found to about 1e-8 of its place.
    assert second.effect.absolute == pytest.approx(-scale * first.effect.absolute, rel=1e-5, abs=1e-6 * scale)
    assert second.effect.se == pytest.approx(scale * first.effect.se, rel=1e-5)
    assert second.effect.df == pytest.approx(first.effect.df, rel=1e-4)


def test_what_cannot_be_told_says_why() -> None:
    rng = np.random.default_rng(704)
    cluster = np.repeat(np.arange(6), 5)
    arm = cluster % 2 == 1
    y = rng.normal(size=30)
    for rows, word in (
        ((y, cluster == 1, cluster), "cannot be told"),
        ((np.full(30, 2.0), arm, cluster), "no spread"),
        ((y, arm, np.arange(30)), "too few"),
        ((cluster.astype(float), arm, cluster), "within"),
    ):
        answer = mixed_difference(*rows)
        assert isinstance(answer, NotEstimable), word
        assert word in answer.reason
    answer = mixed_difference(y, arm, cluster, effect_varies=True)
    assert isinstance(answer, NotEstimable)
    assert "both arms" in answer.reason
    with pytest.raises(ValueError, match="df_method"):
        mixed_difference(y, arm, cluster, df_method="residual")  # type: ignore[arg-type]


def test_size_with_ten_clusters() -> None:
    rng = np.random.default_rng(706)
    hits = normal = 0
    trials = 120
    for _ in range(trials):
        cluster = np.repeat(np.arange(10), rng.integers(3, 15, 10))
        arm = cluster % 2 == 1
        y = rng.normal(size=10)[cluster] * 0.5 + rng.normal(size=cluster.size)
        ours = mixed(y, arm, cluster).effect
        hits += ours.p_value < 0.05
        normal += abs(ours.absolute) > 1.96 * ours.se
    # Monte Carlo error 2 points; the normal reference forgets that variances are estimated.
    assert hits / trials < 0.10
    assert normal > hits
