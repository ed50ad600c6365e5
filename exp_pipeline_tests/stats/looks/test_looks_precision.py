"""Looks whose precision does not grow with units: boundaries, and the estimate of a stopped trial."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from exp_pipeline.stats.effects.adjustment import adjusted_difference
from exp_pipeline.stats.looks.group_sequential import (
    SpendingPlan,
    StoppedTrial,
    sequential_look,
    stopped_trial,
)
from exp_pipeline.stats.looks.spending import Spending, boundaries
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect, NotEstimable


def effect(absolute: float, se: float, n: int) -> Effect:
    nothing: dict[str, Any] = dict.fromkeys(
        ("relative", "relative_ci_lower", "relative_ci_upper", "relative_method", "standardised",
         "variance_reduction"),
    )  # fmt: skip
    return Effect(
        method="welch", n_control=n // 2, n_treatment=n // 2, mean_control=0.0, mean_treatment=absolute,
        absolute=absolute, se=se, df=float("inf"), ci_lower=absolute - 1.96 * se,
        ci_upper=absolute + 1.96 * se, p_value=0.5, level=0.95, **nothing,
    )  # fmt: skip


def stopped(plan: SpendingPlan, path: list[Effect | NotEstimable]) -> StoppedTrial:
    found = stopped_trial(plan, path, final=True)
    assert isinstance(found, StoppedTrial)
    return found


def test_only_ratios_of_information_count() -> None:
    spending, shares = Spending("pocock", 0.05), (0.25, 0.5, 1.0)
    plain = boundaries(spending, shares)
    assert plain.information == shares
    scaled = boundaries(spending, shares, information=[400.0 * share for share in shares])
    assert scaled.critical == pytest.approx(plain.critical, rel=1e-9)
    assert scaled.spent == plain.spent
    # Looks with more in common need a lower boundary for the same alpha.
    alike = boundaries(spending, shares, information=(8.0, 9.0, 10.0))
    assert alike.critical[0] == plain.critical[0]
    assert alike.critical[1] < plain.critical[1]
    assert alike.critical[2] < plain.critical[2]


def test_boundaries_by_another_clock_spend_what_they_should() -> None:
    shares, information = (0.25, 0.5, 0.75, 1.0), np.array([3.0, 5.0, 6.0, 6.5])
    spending = Spending("obrien-fleming", 0.1)
    found = boundaries(spending, shares, information=information.tolist())
    rng = np.random.default_rng(1)
    steps = np.sqrt(np.diff(information, prepend=0.0))
    walks = (rng.normal(size=(400_000, 4)) * steps).cumsum(axis=1) / np.sqrt(information)
    over = np.abs(walks) >= np.array(found.critical)
    for look, spent in enumerate(found.spent):
        # Four standard errors of 400,000 walks at a tenth are 0.2 points.
        assert over[:, : look + 1].any(axis=1).mean() == pytest.approx(spent, abs=0.002)


@pytest.mark.parametrize("side", ["both", "lower", "upper"])
def test_units_and_precision_agree_while_units_add_alike(side: Any) -> None:
    path: list[Effect | NotEstimable] = [
        effect(0.4, 1 / np.sqrt(50), 100),
        effect(0.3, 1 / np.sqrt(100), 200),
        effect(0.25, 1 / np.sqrt(200), 400),
    ]
    plan = SpendingPlan(planned_n=400, family="pocock", side=side)
    by_units, by_se = stopped(plan, path), stopped(replace(plan, common="precision"), path)
    for name in ("p_value", "estimate", "lower", "upper", "information_fraction"):
        assert getattr(by_se, name) == pytest.approx(getattr(by_units, name), rel=1e-8, abs=1e-12)
    look = sequential_look(replace(plan, common="precision"), path, final=True)
    assert not isinstance(look, NotEstimable)
    assert look.information_fraction == 1.0


def test_the_estimate_of_looks_with_much_in_common_is_as_extreme_as_it_should_be() -> None:
    # Clusters that only grow: looks at 25, 50, 75 and 100 % of units, but 60, 80, 93 and 100 % of precision.
    information = np.array([60.0, 80.0, 93.0, 100.0])
    plan = SpendingPlan(planned_n=400, family="pocock", common="precision")
    z = (1.2, 1.7, 2.9)
    path: list[Effect | NotEstimable] = [
        effect(one / np.sqrt(size), 1 / np.sqrt(size), 100 * (place + 1))
        for place, (one, size) in enumerate(zip(z, information, strict=False))
    ]
    found = stopped(plan, path)
    assert found.look == 3
    critical = np.array(
        boundaries(plan.spending(), (0.25, 0.5, 0.75), information=information[:3].tolist()).critical
    )
    rng = np.random.default_rng(2)
    steps = np.sqrt(np.diff(information[:3], prepend=0.0))
    noise = (rng.normal(size=(200_000, 3)) * steps).cumsum(axis=1) / np.sqrt(information[:3])
    for value, wanted in ((found.lower, 0.025), (found.estimate, 0.5), (found.upper, 0.975)):
        walks = noise + value * np.sqrt(information[:3])
        stop = np.abs(walks) >= critical
        higher = np.zeros(len(walks), dtype=bool)
        going = np.ones(len(walks), dtype=bool)
        for look in range(2):
            higher |= going & (walks[:, look] >= critical[look])
            going &= ~stop[:, look]
        higher |= going & (walks[:, 2] >= z[2])
        # Four standard errors of 200,000 walks are 0.45 points at a half, 0.14 in the tails.
        assert higher.mean() == pytest.approx(wanted, abs=0.0045 if wanted == 0.5 else 0.0014)
    # Units alone would take more to be new at each look.
    assert stopped(replace(plan, common="units"), path).estimate != pytest.approx(found.estimate, rel=1e-3)


def test_covariate_adjusted_looks_have_a_median_unbiased_estimate() -> None:
    rng = np.random.default_rng(3)
    runs, truth, above, naive, missed = 500, 0.4, 0, 0, 0
    plan = SpendingPlan(planned_n=200, family="pocock", common="precision")
    for _ in range(runs):
        before = rng.normal(size=(2, 100))
        after = 0.7 * before + np.sqrt(0.51) * rng.normal(size=(2, 100))
        after[1] += truth
        looks: list[Effect | NotEstimable] = []
        for n in (25, 50, 75, 100):
            arms = [
                Moments.from_array(np.column_stack([after[a, :n], before[a, :n]]), ("y", "x")) for a in (0, 1)
            ]
            looks.append(adjusted_difference(*arms, outcome="y", covariates=("x",)))
        found = stopped(plan, looks)
        above += found.estimate > truth
        naive += found.naive > truth
        missed += not found.lower <= truth <= found.upper
    # Three standard errors of 500 runs: 6.7 points at a half, 2.9 at 5 %.
    assert above / runs == pytest.approx(0.5, abs=0.067)
    assert naive / runs > 0.55
    assert missed / runs < 0.079


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match="common must be 'units' or 'precision', got 'days'"):
        SpendingPlan(planned_n=100, common="days")  # type: ignore[arg-type]
    plan = SpendingPlan(planned_n=400, common="precision")
    with pytest.raises(ValueError, match="earlier_n needs a plan whose looks' common part is by units"):
        sequential_look(plan, [effect(0.1, 0.1, 200)], earlier_n=(100,))
    with pytest.raises(ValueError, match="information must have 2 values"):
        boundaries(Spending("pocock", 0.05), (0.5, 1.0), information=(1.0,))
    with pytest.raises(ValueError, match="information must not fall"):
        boundaries(Spending("pocock", 0.05), (0.5, 1.0), information=(1.0, 0.5))
