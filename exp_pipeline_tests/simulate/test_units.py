"""Unit tables: the declared effect, ICC and correlation are really in the draw."""

from __future__ import annotations

import numpy as np
import pytest

from exp_pipeline.simulate.units import UnitArm, UnitPlan, draw_units, unit_table

ARMS = (UnitArm(name="control", share=0.4), UnitArm(name="treatment", share=0.6, effect=0.1))


@pytest.mark.parametrize(("outcome", "mean"), [("normal", 0.0), ("binary", 0.45), ("lognormal", 2.0)])
def test_the_effect_is_the_declared_one(outcome: str, mean: float) -> None:
    plan = UnitPlan.model_validate(
        {"units": 400_000, "arms": ARMS, "outcome": outcome, "mean": mean, "skew_sigma": 0.5}
    )
    units = draw_units(plan, 1)
    control, treatment = (units.outcome[units.arm == arm] for arm in (0, 1))
    se = float(np.sqrt(control.var() / control.size + treatment.var() / treatment.size))
    # Four standard errors: the seed is fixed, the width only says that nothing is off by more than chance.
    assert control.mean() == pytest.approx(mean, abs=4 * se)
    assert treatment.mean() - control.mean() == pytest.approx(0.1, abs=4 * se)
    assert (units.arm == 1).mean() == pytest.approx(0.6, abs=0.004)


def test_the_covariate_correlates_as_declared() -> None:
    plan = UnitPlan(units=200_000, arms=ARMS, covariate_correlation=0.6)
    units = draw_units(plan, 2)
    own = units.outcome[units.arm == 0], units.pre_outcome[units.arm == 0]
    assert float(np.corrcoef(*own)[0, 1]) == pytest.approx(0.6, abs=0.01)
    assert float(np.corrcoef(units.outcome, units.pre_activity)[0, 1]) == pytest.approx(0.0, abs=0.01)


def test_the_icc_is_the_one_way_anova_one() -> None:
    plan = UnitPlan(
        units=60_000,
        arms=(UnitArm(name="a", share=0.5), UnitArm(name="b", share=0.5)),
        clusters=3_000,
        icc=0.15,
    )
    units = draw_units(plan, 3)
    size = 20
    outcome = units.outcome.reshape(3_000, size)
    within = outcome.var(axis=1, ddof=1).mean()
    between = size * outcome.mean(axis=1).var(ddof=1)
    icc = (between - within) / (between + (size - 1) * within)
    # The standard error of the ANOVA estimate at 3,000 clusters of 20 is about 0.005.
    assert icc == pytest.approx(0.15, abs=0.02)


def test_clusters_are_assigned_whole_and_complete_counts_are_exact() -> None:
    plan = UnitPlan(
        units=1_000,
        arms=ARMS,
        clusters=50,
        cluster_size_cv=0.3,
        assign_by="cluster",
        randomisation="complete",
    )
    units = draw_units(plan, 4)
    per_cluster = {(int(c), int(a)) for c, a in zip(units.cluster, units.arm, strict=True)}
    assert len(per_cluster) == 50
    assert sum(arm for _, arm in per_cluster) == 30
    exact = draw_units(UnitPlan(units=1_000, arms=ARMS, randomisation="complete"), 4)
    assert np.bincount(exact.arm).tolist() == [400, 600]


def test_the_table_says_missing_as_null() -> None:
    plan = UnitPlan(units=2_000, arms=ARMS, covariate_missing_share=0.25)
    table = unit_table(plan, 5)
    assert table.columns == ["unit_id", "arm", "cluster_id", "outcome", "pre_outcome", "pre_activity"]
    assert table["unit_id"].n_unique() == 2_000
    assert table["cluster_id"].null_count() == 2_000
    assert table["pre_outcome"].null_count() / 2_000 == pytest.approx(0.25, abs=0.04)
    assert table.equals(unit_table(plan, 5))


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(ValueError, match="must add up to 1"):
        UnitPlan(units=10, arms=(ARMS[0], ARMS[0]))
    with pytest.raises(ValueError, match=r"arm treatment: mean plus effect must lie in \(0, 1\)"):
        UnitPlan(units=10, arms=ARMS, outcome="binary", mean=0.95)
    with pytest.raises(ValueError, match="need clusters of at least 1"):
        UnitPlan(units=10, arms=ARMS, icc=0.1)
