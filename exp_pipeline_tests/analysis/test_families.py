"""Gatekeeping: a family behind a closed gate is never confirmatory; arms against each other are their own."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from exp_pipeline.analysis.effects.families import judged
from exp_pipeline.analysis.readout import read_out
from exp_pipeline.model.brief import Arm, Brief, Family
from exp_pipeline.model.readout import Estimate, FamilyResult, Readout
from exp_pipeline_tests.analysis.builders import brief_of, inputs_of, metric_of, units_table

NAMES = ("first", "second", "third", "fourth")
METRICS = {name: metric_of(name, type="mean", display="number") for name in NAMES}
THREE = (Arm(name="control", share=0.4), Arm(name="a", share=0.3), Arm(name="b", share=0.3))


def row(brief: Brief, metric: str, arm: str, p: float | None) -> Estimate:
    return Estimate(
        experiment=brief.name,
        snapshot="s",
        metric=metric,
        title=metric,
        role="primary" if metric == brief.primary else "secondary",
        display="number",
        direction="increase",
        arm=arm,
        control="control",
        method="welch",
        n_control=100,
        n_treatment=100,
        p_value=p,
        estimable=p is not None,
    )


def by_hand(p: dict[tuple[str, str], float | None]) -> dict[tuple[str, str], float]:
    """Holm, one hypothesis after another."""
    known = sorted((value, key) for key, value in p.items() if value is not None)
    found, highest = {}, 0.0
    for place, (value, key) in enumerate(known):
        highest = max(highest, min(1.0, value * (len(known) - place)))
        found[key] = highest
    return found


CHAIN = (
    Family(name="main", metrics=("first",)),
    Family(name="next", metrics=("second", "third"), after="main"),
    Family(name="last", metrics=("fourth",), after="next"),
)
ps = st.one_of(st.none(), st.sampled_from([1e-6, 0.004, 0.02, 0.049, 0.3]))


@settings(max_examples=200, deadline=None)
@given(st.lists(ps, min_size=8, max_size=8))
def test_a_row_is_confirmatory_only_behind_gates_that_all_opened(values: list[float | None]) -> None:
    brief = brief_of(primary="first", secondary=NAMES[1:], families=CHAIN, arms=THREE)
    p = dict(zip(product(NAMES, ("a", "b")), values, strict=True))
    found = judged([row(brief, *key, value) for key, value in p.items()], brief)
    told = {(one.metric, one.arm): one for one in found.rows}
    results = {(one.name, one.arm): one for one in found.families}
    for arm in ("a", "b"):
        gate = True
        for family in CHAIN:
            adjusted = by_hand({key: p[key] for key in p if key[0] in family.metrics})
            for metric in family.metrics:
                assert told[metric, arm].p_adjusted == pytest.approx(adjusted.get((metric, arm)))
                assert told[metric, arm].confirmatory == gate
                assert told[metric, arm].family == family.name
            assert results[family.name, arm].gate_open == gate
            gate = gate and all(adjusted.get((metric, arm), 1.0) < 0.05 for metric in family.metrics)
            assert results[family.name, arm].succeeded == gate
            if not results[family.name, arm].gate_open:
                assert not results[family.name, arm].succeeded


def test_wrong_confirmations_stay_at_alpha_through_the_chain() -> None:
    # Every effect is nil: a wrong confirmation anywhere needs one in the first family.
    rng = np.random.default_rng(5)
    brief = brief_of(primary="first", secondary=NAMES[1:], families=CHAIN)
    wrong = 0
    for _ in range(2_000):
        rows = [row(brief, name, "treatment", float(p)) for name, p in zip(NAMES, rng.random(4), strict=True)]
        found = judged(rows, brief).rows
        wrong += any(one.confirmatory and (one.p_adjusted or 1.0) < 0.05 for one in found)
    assert wrong / 2_000 < 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 2_000)


def test_without_families_the_secondary_waits_for_the_primary() -> None:
    brief = brief_of(primary="first", secondary=NAMES[1:])
    rows = [row(brief, name, "treatment", 0.2 if name == "first" else 1e-9) for name in NAMES]
    found = judged(rows, brief)
    assert [one.confirmatory for one in found.rows] == [True, False, False, False]
    assert found.rows[1].flags == ("exploratory: the primary metric did not pass",)
    assert [(one.name, one.after, one.gate_open) for one in found.families] == [
        ("primary", None, True),
        ("secondary", "primary", False),
    ]


def test_a_family_that_names_no_gate_still_waits_for_the_primary() -> None:
    brief = brief_of(
        primary="first", secondary=NAMES[1:], families=(Family(name="alone", metrics=("second",)),)
    )
    rows = [row(brief, name, "treatment", 0.2 if name == "first" else 1e-9) for name in NAMES]
    found = {one.metric: one for one in judged(rows, brief).rows}
    assert not found["second"].confirmatory
    assert found["third"].family == "secondary"


def world(lifts: dict[str, float], *, seed: int = 2, n: int = 900, **columns: Any) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    names = ["control", "a", "control", "b", "a", "b", "control", "a", "b", "control"]
    arms = [names[place // 56 % 10] for place in range(n)]
    values = {f"{name}__num": rng.normal(size=n) + [lifts[arm] for arm in arms] for name in NAMES}
    return units_table(arms, **(values | columns))


def readout(mad: pl.DataFrame, **changes: Any) -> Readout:
    brief = brief_of(primary="first", arms=THREE, comparisons="all", **changes)
    return read_out(inputs_of(brief, METRICS, mad))


def test_arms_are_compared_with_each_other_and_corrected_apart() -> None:
    mad = world({"control": 0.0, "a": 0.1, "b": 0.6}, n=1_120)
    found = readout(mad)
    (pair,) = found.arms_compared
    assert (pair.arm, pair.control, pair.family) == ("b", "a", "arms")
    sides = {arm: mad.filter(pl.col("arm") == arm)["first__num"].to_numpy() for arm in ("a", "b")}
    expected = stats.ttest_ind(sides["b"], sides["a"], equal_var=False)
    assert pair.absolute == pytest.approx(sides["b"].mean() - sides["a"].mean())
    assert pair.p_value == pytest.approx(expected.pvalue)
    assert pair.p_adjusted == pytest.approx(expected.pvalue)
    assert found.arms_difference is not None
    # With two arms of one spread each Welch's test of both is the same t test.
    assert found.arms_difference.p_value == pytest.approx(expected.pvalue)


def test_arms_of_clusters_are_told_apart_by_the_pairs() -> None:
    arms_of = [f"c{place // 56}" for place in range(1_120)]
    mad = world({"control": 0.0, "a": 0.0, "b": 0.8}, n=1_120, cluster_id=arms_of)
    found = readout(mad, randomisation_unit="class")
    assert found.arms_difference is not None
    assert found.arms_difference.method == "holm over pairs"
    assert found.arms_difference.p_value == found.arms_compared[0].p_value
    assert found.arms_compared[0].clusters == 12


def test_only_asked_for_comparisons_are_made() -> None:
    mad = world({"control": 0.0, "a": 0.1, "b": 0.6})
    brief = brief_of(primary="first", arms=THREE)
    found = read_out(inputs_of(brief, METRICS, mad))
    assert found.arms_compared == ()
    assert found.arms_difference is not None
    two = read_out(inputs_of(brief_of(primary="first"), METRICS, world({"control": 0.0, "a": 0.0, "b": 0.0})
        .with_columns(pl.col("arm").replace({"a": "treatment", "b": "treatment"}))))  # fmt: skip
    assert two.arms_difference is None
    assert all(isinstance(one, FamilyResult) for one in two.families)


def test_the_plan_is_told_in_words() -> None:
    mad = world({"control": 0.0, "a": 0.1, "b": 0.6}, n=1_120)
    told = " ".join(readout(mad, secondary=NAMES[1:], families=CHAIN[:2]).method)
    assert "Family next (Second and Third) is tested together only where main has succeeded." in told
    assert "Other secondary metrics count only if the primary passes" in told
    assert "compared with each other" in told
