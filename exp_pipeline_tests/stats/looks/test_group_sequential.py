from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.effects.means import difference_in_means, difference_in_proportions, newcombe_interval
from exp_pipeline.stats.looks.group_sequential import (
    SequentialLook,
    SpendingPlan,
    StoppedTrial,
    sequential_look,
    stopped_trial,
)
from exp_pipeline.stats.looks.operating import inflation, operating_characteristics
from exp_pipeline.stats.looks.spending import Family, Spending, boundaries
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.pivot import as_normal
from exp_pipeline.stats.reference import two_sided_critical, two_sided_p
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.stats.golden import golden

GOLDEN = golden("group_sequential")


def effect(absolute: float, se: float, n: int, df: float = math.inf, *, control: int | None = None) -> Effect:
    reach = two_sided_critical(0.95, df) * se
    return Effect(
        method="welch",
        n_control=n if control is None else control,
        n_treatment=n,
        mean_control=0.0,
        mean_treatment=absolute,
        absolute=absolute,
        se=se,
        df=df,
        ci_lower=absolute - reach,
        ci_upper=absolute + reach,
        p_value=two_sided_p(absolute / se, df),
        level=0.95,
        relative=None,
        relative_ci_lower=None,
        relative_ci_upper=None,
        relative_method=None,
        standardised=None,
        variance_reduction=None,
    )


def looked(plan: SpendingPlan, effects: list[Effect], *, final: bool = False) -> SequentialLook:
    found = sequential_look(plan, effects, final=final)
    assert isinstance(found, SequentialLook), found
    return found


def ended(plan: SpendingPlan, effects: list[Effect], *, final: bool = False) -> StoppedTrial:
    found = stopped_trial(plan, effects, final=final)
    assert isinstance(found, StoppedTrial), found
    return found


def trial(case: dict[str, Any]) -> tuple[SpendingPlan, list[Effect]]:
    columns = ("n_treatment", "n_control", "mean_treatment", "mean_control", "sd_treatment", "sd_control")
    effects = []
    for n1, n2, m1, m2, s1, s2 in zip(*(case[column] for column in columns), strict=True):
        pooled = math.sqrt(((n1 - 1) * s1**2 + (n2 - 1) * s2**2) / (n1 + n2 - 2))
        df = math.inf if case["normal"] else n1 + n2 - 2
        effects.append(effect(m1 - m2, pooled * math.sqrt(1 / n1 + 1 / n2), int(n1), df, control=int(n2)))
    planned = 2 * case["n_treatment"][0] / case["fractions"][0]
    plan = SpendingPlan(
        planned_n=round(planned),
        family=case["family"],
        alpha=case["alpha"],
        side="both" if case["sides"] == 2 else "lower",
        gamma=case["gamma"],
    )
    return plan, effects


@pytest.mark.parametrize("case", GOLDEN["trials"], ids=lambda case: case["name"])
def test_trials_equal_rpact(case: dict[str, Any]) -> None:
    plan, effects = trial(case)
    for look in range(1, len(effects) + 1):
        found = looked(plan, effects[:look])
        # Both integrate numerically; the bounds agree to eight digits.
        assert found.lower == pytest.approx(case["lower"][look - 1], abs=1e-8)
        if case["sides"] == 2:
            assert found.upper == pytest.approx(case["upper"][look - 1], abs=1e-8)
        if case["repeated_p"][look - 1] < 0.49:  # rpact stops at a half for each side
            assert found.p_value == pytest.approx(case["repeated_p"][look - 1], abs=5e-9)
    if not case["final"]:
        assert isinstance(stopped_trial(plan, effects), NotEstimable)
        return
    stopped = ended(plan, effects)
    assert stopped.look == case["final"]["stage"]
    # rpact solves for these with a tolerance of 1e-8 in the drift.
    assert (stopped.lower, stopped.upper) == pytest.approx(case["final"]["interval"], abs=1e-7)
    assert stopped.estimate == pytest.approx(case["final"]["estimate"], abs=1e-7)
    assert stopped.p_value == pytest.approx(case["final"]["p"], abs=2e-8)


@pytest.mark.parametrize(
    "case",
    GOLDEN["characteristics"],
    ids=lambda case: f"{case['family']}-{case['sides']}-{len(case['fractions'])}",
)
def test_inflation_equals_rpact(case: dict[str, Any]) -> None:
    plan = Spending(case["family"], case["alpha"], case["sides"], case["gamma"])
    found = inflation(plan, case["fractions"], power=case["power"])
    # rpact's grid keeps six digits for one-sided plans of many or unequal looks.
    assert found.drift**2 == pytest.approx(case["shift"], rel=3e-6)
    assert found.factor == pytest.approx(case["factor"], rel=3e-6)
    for ours, theirs in (("planned", "planned"), ("half", "half"), ("null", "null")):
        assert getattr(found, f"expected_{ours}") == pytest.approx(case[theirs], rel=3e-6)


def test_one_look_is_the_fixed_test() -> None:
    one = effect(1.2, 0.5, 20, df=11.0)
    plan = SpendingPlan(planned_n=40)
    found, stopped = looked(plan, [one]), ended(plan, [one])
    assert (found.lower, found.upper) == pytest.approx((one.ci_lower, one.ci_upper), rel=1e-9)
    assert found.p_value == pytest.approx(one.p_value, rel=1e-9)
    assert (stopped.lower, stopped.upper) == pytest.approx((one.ci_lower, one.ci_upper), rel=1e-8)
    assert stopped.p_value == pytest.approx(one.p_value, rel=1e-9)
    assert stopped.estimate == pytest.approx(1.2, rel=1e-9)


def test_early_looks_are_wider_and_the_last_nearly_plain() -> None:
    plan = SpendingPlan(planned_n=4000)
    paths = [effect(0.05, math.sqrt(2 / n), n) for n in (400, 1000, 1500, 2000)]
    criticals = [looked(plan, paths[: k + 1]).critical for k in range(4)]
    assert criticals == sorted(criticals, reverse=True)
    assert 1.96 < criticals[-1] < 2.05
    assert looked(plan, paths).alpha_spent == 0.05


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=4),
    st.sampled_from(["obrien-fleming", "pocock"]),
    st.sampled_from(["both", "lower", "upper"]),
    st.floats(0.1, 10),
)
def test_interval_boundary_and_p_value_agree(z: list[float], family: Any, side: Any, scale: float) -> None:
    plan = SpendingPlan(planned_n=1000, family=family, side=side)
    shares = [100, 180, 350, 500][: len(z)]
    effects = [
        effect(zk * scale / math.sqrt(n), scale / math.sqrt(n), n) for zk, n in zip(z, shares, strict=True)
    ]
    found = looked(plan, effects)
    assert found.crossed == (found.lower > 0 or found.upper < 0)
    if abs(found.p_value - 0.05) > 1e-8:
        assert found.crossed == (found.p_value <= 0.05)
    other: Any = {"both": "both", "lower": "upper", "upper": "lower"}[side]
    mirrored = looked(
        replace(plan, side=other),
        [effect(-one.absolute, one.se, one.n_control) for one in effects],
    )
    assert (mirrored.lower, mirrored.upper) == pytest.approx((-found.upper, -found.lower), abs=1e-9)
    assert mirrored.p_value == pytest.approx(found.p_value, rel=1e-9)
    assert mirrored.first_crossed == found.first_crossed


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.floats(-4, 4), min_size=3, max_size=3),
    st.sampled_from(["both", "lower", "upper"]),
    st.floats(0.1, 10),
)
def test_a_stopped_trial_mirrors_and_scales(z: list[float], side: Any, scale: float) -> None:
    plan = SpendingPlan(planned_n=1000, family="pocock", side=side)

    def path(factor: float) -> list[Effect]:
        return [
            effect(zk * factor / math.sqrt(n), abs(factor) / math.sqrt(n), n)
            for zk, n in zip(z, (150, 300, 500), strict=True)
        ]

    base, scaled = ended(plan, path(1.0)), ended(plan, path(scale))
    assert base.lower < base.estimate < base.upper
    assert [value * scale for value in (base.lower, base.estimate, base.upper)] == pytest.approx(
        [scaled.lower, scaled.estimate, scaled.upper], abs=1e-7 * scale
    )
    other: Any = {"both": "both", "lower": "upper", "upper": "lower"}[side]
    mirrored = ended(replace(plan, side=other), path(-1.0))
    assert (-mirrored.upper, -mirrored.estimate, -mirrored.lower) == pytest.approx(
        (base.lower, base.estimate, base.upper), abs=1e-7
    )
    assert mirrored.p_value == pytest.approx(base.p_value, abs=1e-9)


@pytest.mark.parametrize("side", ["both", "lower", "upper"])
@pytest.mark.parametrize("z", [[9.0], [-9.0], [0.2, 12.0], [0.2, -12.0], [60.0], [-60.0, 3.0]])
def test_far_results_keep_their_digits(z: list[float], side: Any) -> None:
    plan = SpendingPlan(planned_n=1000, side=side)
    path = [effect(zk / math.sqrt(n), 1 / math.sqrt(n), n) for zk, n in zip(z, (250, 500), strict=False)]
    found, stopped = looked(plan, path), ended(plan, path, final=True)
    for p_value in (found.p_value, stopped.p_value):
        assert 0.0 < p_value <= 1.0
    assert all(math.isfinite(value) for value in (stopped.lower, stopped.estimate, stopped.upper))
    assert stopped.lower < stopped.estimate < stopped.upper
    if len(z) == 1 and abs(z[0]) < 37 and side == "both":
        # One look that ends the trial: the plain p-value, far out too.
        from scipy import stats

        assert stopped.p_value == pytest.approx(2 * stats.norm.sf(abs(z[0])), rel=1e-9)


@pytest.mark.parametrize("z", [(1.9, 2.6), (0.4, 1.1, 2.9), (0.3, -0.2, 0.4, 1.2), (-2.9,), (0.1, -2.7)])
def test_walks_under_the_estimates_are_as_extreme_as_they_should_be(z: tuple[float, ...]) -> None:
    shares = np.array([0.25, 0.5, 0.75, 1.0])
    plan = SpendingPlan(planned_n=800, family="pocock")
    path = [
        effect(zk / math.sqrt(t), 1 / math.sqrt(t), int(400 * t)) for zk, t in zip(z, shares, strict=False)
    ]
    found = ended(plan, path)
    critical = np.array(boundaries(plan.spending(), shares.tolist()).critical)
    rng = np.random.default_rng(12)
    noise = (rng.normal(size=(200_000, 4)) * 0.5).cumsum(axis=1) / np.sqrt(shares)

    def rank(walks: np.ndarray) -> np.ndarray:
        """Early upper stops highest, early lower ones lowest, all others by z at the end."""
        over = np.abs(walks) >= critical[: walks.shape[1]]
        stop = np.where(over.any(axis=1), over.argmax(axis=1), walks.shape[1] - 1)
        last = np.take_along_axis(walks, stop[:, None], axis=1)[:, 0]
        crossed = over.any(axis=1)
        placed: np.ndarray = last + np.where(crossed, np.sign(last) * 100.0 * (4 - stop), 0.0)
        return placed

    seen = rank(np.array([z]))[0]
    for value, wanted in ((found.lower, 0.025), (found.estimate, 0.5), (found.upper, 0.975)):
        walks = noise + value * np.sqrt(shares)
        # Four standard errors of 200,000 walks are 0.45 points at a half, 0.14 in the tails.
        assert (rank(walks) >= seen).mean() == pytest.approx(wanted, abs=0.0045 if wanted == 0.5 else 0.0014)


def test_the_stopped_estimate_corrects_what_the_naive_one_exaggerates() -> None:
    # All of the ordering at once: the estimate's distribution function at the truth is a half.
    plan = SpendingPlan(planned_n=800, family="pocock", side="lower", alpha=0.025)
    early = effect(3.5, 1.0, 100)
    found = ended(plan, [early])
    assert found.estimate == pytest.approx(3.5)
    later = [effect(1.0, 1.0, 100), effect(2.0, 0.7, 200)]
    assert ended(plan, later).estimate < later[1].absolute
    assert ended(plan, later).look == 2
    # A look after the stop changes nothing.
    assert ended(plan, [*later, effect(0.1, 0.55, 300)]) == ended(plan, later)


def test_size_and_expected_size_by_simulation() -> None:
    rng = np.random.default_rng(8)
    fractions = np.array([0.25, 0.5, 0.75, 1.0])
    drift = 2.8
    steps = np.diff(fractions, prepend=0.0)
    walks = (rng.normal(size=(100_000, 4)) * np.sqrt(steps) + drift * steps).cumsum(axis=1) / np.sqrt(
        fractions
    )
    families: tuple[Family, ...] = ("obrien-fleming", "pocock")
    for family in families:
        spending = Spending(family, 0.05)
        critical = np.array(boundaries(spending, fractions.tolist()).critical)
        over = np.abs(walks) > critical
        stop = np.where(over.any(axis=1), over.argmax(axis=1), 3)
        found = operating_characteristics(spending, fractions.tolist(), drift=drift)
        # Four standard errors of 100,000 walks: 0.5 points of power, 0.3 of the mean share.
        assert over.any(axis=1).mean() == pytest.approx(found.power, abs=0.006)
        assert fractions[stop].mean() == pytest.approx(found.expected_fraction, abs=0.004)


def test_small_counts_keep_newcombes_interval() -> None:
    plan = SpendingPlan(planned_n=200)
    counts = difference_in_proportions(4, 50, 13, 50)
    assert isinstance(counts, Effect)
    found = looked(plan, [counts])
    # The bound at this look's boundary is Newcombe's own at that z, so it agrees with its p-value.
    assert (found.lower, found.upper) == pytest.approx(newcombe_interval(4, 50, 13, 50, found.critical))
    last = looked(SpendingPlan(planned_n=100), [counts])
    assert last.p_value == pytest.approx(counts.p_value, rel=1e-8)
    assert ended(SpendingPlan(planned_n=100), [counts]).p_value == pytest.approx(counts.p_value, rel=1e-8)


@pytest.mark.parametrize(("base", "method"), [(40.0, "log-ratio"), (2.0, "fieller"), (-40.0, "log-ratio")])
def test_the_relative_effect_of_a_stopped_trial(base: float, method: str) -> None:
    rng = np.random.default_rng(15)
    path = []
    rows = rng.normal(base, 7, (2, 60))
    rows[1] += 4.0
    for n in (20, 40, 60):
        arms = [Moments.from_array(arm[:n], ["y"]) for arm in rows]
        one = difference_in_means(*arms, outcome="y")
        assert isinstance(one, Effect)
        path.append(one)
    assert path[0].relative_method == method
    # One look alone: the relative interval of that look, and its estimate.
    alone = ended(SpendingPlan(planned_n=40), path[:1])
    assert (alone.relative_lower, alone.relative_upper) == pytest.approx(
        (path[0].relative_ci_lower, path[0].relative_ci_upper), rel=1e-6
    )
    assert alone.relative_estimate == pytest.approx(path[0].relative, rel=1e-6)
    # After more looks it is zero where the absolute one is: the two never disagree on the sign.
    found = ended(SpendingPlan(planned_n=120, family="pocock"), path, final=True)
    assert found.relative_lower is not None
    assert found.relative_upper is not None
    assert found.relative_estimate is not None
    assert found.relative_lower < found.relative_estimate < found.relative_upper
    if method == "log-ratio":
        assert found.relative_estimate == pytest.approx(found.estimate / abs(base), abs=0.01)
        assert found.relative_lower == pytest.approx(found.lower / abs(base), abs=0.02)


def test_a_first_look_of_six_units_an_arm_keeps_the_size() -> None:
    rng = np.random.default_rng(17)
    runs = 2500
    rows = rng.normal(size=(runs, 2, 24))
    criticals = boundaries(Spending("pocock", 0.05), [0.25, 0.5, 1.0]).critical
    ours, plain = np.zeros(runs, dtype=bool), np.zeros(runs, dtype=bool)
    for n, critical in zip((6, 12, 24), criticals, strict=True):
        mean, variance = rows[:, :, :n].mean(axis=2), rows[:, :, :n].var(axis=2, ddof=1) / n
        total = variance.sum(axis=1)
        t, df = (mean[:, 1] - mean[:, 0]) / np.sqrt(total), total**2 * (n - 1) / (variance**2).sum(axis=1)
        ours |= np.abs([as_normal(*pair) for pair in zip(t.tolist(), df.tolist(), strict=True)]) > critical
        plain |= np.abs(t) > critical
    # Four standard errors of 2,500 runs at 5 % are 1.7 points; the normal boundary alone errs more.
    assert ours.mean() <= 0.05 + 0.01
    assert plain.mean() > 0.07


@pytest.mark.parametrize("case", GOLDEN["running"], ids=lambda case: case["name"])
def test_under_and_over_running_equal_rpact(case: dict[str, Any]) -> None:
    spending = Spending(case["family"], case["alpha"], case["sides"])
    found = boundaries(spending, case["fractions"], final=True)
    # rpact is told the alpha spent; it keeps eight digits here.
    assert found.critical == pytest.approx(case["critical"], abs=2e-7)


def test_information_may_be_the_precision() -> None:
    path = [effect(0.5, 0.4, 10), effect(0.5, 0.25, 500)]
    plan = SpendingPlan(planned_information=1 / 0.2**2)
    assert looked(plan, path[:1]).information_fraction == pytest.approx(0.25)
    assert looked(plan, path).information_fraction == pytest.approx(0.64)
    # Precision that falls is no trouble.
    assert looked(plan, [path[1], path[0]]).information_fraction == pytest.approx(0.64, rel=2e-3)


def test_what_cannot_be_said_is_said() -> None:
    plan = SpendingPlan(planned_n=400)
    missing = NotEstimable("welch", "the control arm is empty", 0, 5)
    good = effect(1.0, 0.5, 100)
    assert sequential_look(plan, [missing]) is missing
    assert looked(plan, [good]).critical == looked(plan, [missing, good]).critical  # type: ignore[list-item]
    assert looked(plan, [missing, good]).look == 2  # type: ignore[list-item]
    over = sequential_look(plan, [effect(0.1, 0.3, 200), effect(0.1, 0.29, 210)])
    assert isinstance(over, NotEstimable)
    assert "spent in full" in over.reason
    going_on = stopped_trial(plan, [good])
    assert isinstance(going_on, NotEstimable)
    assert "goes on" in going_on.reason
    with pytest.raises(ValueError, match="effects"):
        sequential_look(plan, [])
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({}, "exactly one"),
        ({"planned_n": 10, "planned_information": 2.0}, "exactly one"),
        ({"planned_n": 0}, "positive"),
        ({"planned_n": 10, "side": "left"}, "side"),
        ({"planned_n": 10, "family": "haybittle"}, "family"),
        ({"planned_n": 10, "alpha": 0.0}, "alpha"),
    ]
    for arguments, words in mistakes:
        with pytest.raises(ValueError, match=words):
            SpendingPlan(**arguments)
    with pytest.raises(ValueError, match="power"):
        inflation(Spending(), [0.5, 1.0], power=0.01)
