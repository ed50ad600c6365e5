from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from exp_pipeline.analysis.effects.estimates import Setting
from exp_pipeline.analysis.effects.heterogeneity import arms_heterogeneity, segment_heterogeneity
from exp_pipeline.analysis.effects.methods import Answer, compare
from exp_pipeline.analysis.effects.segments import segments_of
from exp_pipeline.analysis.units import MetricUnits, frame_of_units, units_of_metric
from exp_pipeline.model.brief import Arm, Brief, Segment
from exp_pipeline.stats.groups.heterogeneity import Heterogeneity
from exp_pipeline.stats.results import NotEstimable
from exp_pipeline_tests.analysis.builders import brief_of, locked, metric_of, units_table

POINTS = metric_of("points", type="mean", display="number", per=1.0)


def ready(mad: pl.DataFrame, brief: Brief, metric: Any = POINTS) -> tuple[Setting, MetricUnits]:
    units = frame_of_units(mad, brief)
    return Setting(brief, "snapshot-1", locked(brief), units.clustered), units_of_metric(units, metric, brief)


def found(answer: Heterogeneity | NotEstimable) -> Heterogeneity:
    assert isinstance(answer, Heterogeneity), answer
    return answer


def effects(setting: Setting, units: MetricUnits, column: str) -> dict[tuple[str, str, str], Answer]:
    """The effect of treatment in every value of a segment, however small."""
    values = units.frame[f"segment__{column}"].unique().to_list()
    return {
        (column, value, "treatment"): compare(
            units,
            "treatment",
            "control",
            clustered=setting.clustered,
            adjusted=True,
            level=0.95,
            segment=(f"segment__{column}", value),
        ).effect
        for value in sorted(values)
    }


def table(
    rng: np.random.Generator, n: int, grades: np.ndarray, gains: list[float], **more: Any
) -> pl.DataFrame:
    arms = ["control", "treatment"] * (n // 2)
    treated = np.array(arms) == "treatment"
    y = rng.normal(size=n) + treated * np.array(gains)[grades]
    return units_table(arms, points__num=y, segment__grade=[f"g{g}" for g in grades])


def test_segments_that_differ_are_found_with_the_effects_of_the_readout() -> None:
    rng = np.random.default_rng(1001)
    grades = rng.integers(0, 4, 2000)
    grades[:6] = 9 - 5
    mad = table(rng, 2000, grades, [0.0, 0.3, 0.6, 0.9, 0.0])
    brief = brief_of(primary="points", segments=(Segment(column="grade"),))
    setting, units = ready(mad, brief)
    segments = segments_of(setting, units)
    (row,) = segments.differences
    assert (row.segment, row.arm) == ("grade", "treatment")
    assert row.p_value is not None
    assert row.p_value < 1e-4
    # The small value takes the next smallest with it, so that the total does not give it away.
    sizes = mad["segment__grade"].value_counts(sort=True)["segment__grade"].to_list()
    hidden = {"g4", sizes[-2]}
    assert {est.segment_value for est in segments.shown if est.suppressed} == hidden
    assert all(est.n_control == est.n_treatment == 0 for est in segments.shown if est.suppressed)
    told = {est.segment_value: est for est in segments.shown if est.estimable}
    for one in segments.shrunken:
        if one.value in hidden:
            assert one.suppressed
            assert one.n_control is None
            assert one.raw is None
            assert one.shrunken is None
            continue
        assert one.raw == told[one.value].absolute
        assert one.shrunken is not None
        assert one.raw is not None
        assert one.shrunken_lower is not None
        assert one.shrunken_upper is not None
        assert one.shrunken_lower < one.shrunken < one.shrunken_upper
    best = max((one for one in segments.shrunken if one.raw is not None), key=lambda one: one.raw or 0.0)
    assert best.best_rank == 1


def test_clusters_that_span_segments_are_taken_together() -> None:
    rng = np.random.default_rng(1002)
    n, classes = 1200, 40
    group = np.repeat(np.arange(classes), n // classes)
    girl = np.arange(n) % 2
    arms = ["treatment" if g % 2 else "control" for g in group]
    y = (
        rng.normal(size=classes)[group]
        + rng.normal(size=n)
        + np.array([a == "treatment" for a in arms]) * 0.5
    )
    mad = units_table(
        arms, points__num=y, segment__girl=[str(g) for g in girl], cluster_id=[f"c{g}" for g in group]
    )
    brief = brief_of(primary="points", segments=(Segment(column="girl"),), randomisation_unit="class")
    setting, units = ready(mad, brief)
    (row,) = segment_heterogeneity(setting, units, effects(setting, units, "girl"))
    answer = found(row.answer)
    assert answer.interaction.method == "wald-htz"
    assert any("40 of 40 clusters" in flag for flag in answer.flags)
    apart = y[(girl == 0) & (group % 2 == 1)].mean() - y[(girl == 0) & (group % 2 == 0)].mean()
    assert answer.groups[0].absolute == pytest.approx(apart, rel=1e-10)
    # Classes of one value each are compared value by value.
    own = units_table(
        arms,
        points__num=y,
        segment__girl=[str(g // 2 % 2) for g in group],
        cluster_id=[f"c{g}" for g in group],
    )
    setting, units = ready(own, brief)
    (alone,) = segment_heterogeneity(setting, units, effects(setting, units, "girl"))
    assert found(alone.answer).interaction.method == "welch"


def test_several_arms_beside_one_control() -> None:
    rng = np.random.default_rng(1003)
    names = ["control", "a", "b", "c"]
    arms = names * 250
    lift = {"control": 0.0, "a": 0.1, "b": 0.2, "c": 0.8}
    y = rng.normal(size=1000) + np.array([lift[arm] for arm in arms])
    brief = brief_of(primary="points", arms=tuple(Arm(name=name, share=0.25) for name in names))
    setting, units = ready(units_table(arms, points__num=y), brief)
    answer = found(arms_heterogeneity(setting, units))
    assert answer.interaction.p_value < 1e-6
    assert [group.name for group in answer.groups] == ["a", "b", "c"]
    assert (answer.groups[2].rank_best, answer.groups[2].rank_worst) == (1, 1)
    two = brief_of(primary="points")
    single = arms_heterogeneity(*ready(table(rng, 40, np.zeros(40, int), [0.0]), two))
    assert isinstance(single, NotEstimable)
    assert "one treatment arm" in single.reason


def test_nothing_declared_is_nothing_asked() -> None:
    rng = np.random.default_rng(1004)
    mad = table(rng, 200, rng.integers(0, 2, 200), [0.0, 0.0])
    assert segments_of(*ready(mad, brief_of(primary="points"))).shown == ()
    lone = brief_of(primary="points", segments=(Segment(column="grade"),), minimum_cell=90)
    (row,) = segments_of(*ready(mad, lone)).differences
    assert row.p_value is None
    assert row.reason
