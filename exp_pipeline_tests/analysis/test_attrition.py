from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from exp_pipeline.analysis.effects.estimates import Setting
from exp_pipeline.analysis.integrity.attrition import ArmAttrition, attrition_of
from exp_pipeline.analysis.units import frame_of_units, units_of_metric
from exp_pipeline.model.brief import Brief, Segment
from exp_pipeline.stats.groups.heterogeneity import Interaction
from exp_pipeline.stats.missing.attrition import BaselineOfMissing, SelectionTest, attrition
from exp_pipeline.stats.missing.bounds import EffectBounds, lee_bounds
from exp_pipeline.stats.missing.response_weights import WeightedEffect
from exp_pipeline.stats.missing.tipping import TippingPoint
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.analysis.builders import brief_of, locked, metric_of, units_table

POINTS = metric_of("points", type="mean", display="number")


def lost(mad: Any, brief: Brief, metric: Any = POINTS) -> tuple[ArmAttrition, ...]:
    units = frame_of_units(mad, brief)
    setting = Setting(brief, "snapshot-1", locked(brief), units.clustered)
    return attrition_of(setting, units, units_of_metric(units, metric, brief))


def world(seed: int, n: int = 1200) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    arms = ["control", "treatment"] * (n // 2)
    treated = np.array(arms) == "treatment"
    before = rng.normal(size=n)
    y = before + 0.5 * treated + rng.normal(size=n)
    seen = rng.random(n) < np.where(treated, 0.9 - 0.2 * (before < -0.5), 0.9)
    return arms, treated, before, y, seen


def test_who_is_missing_and_what_it_can_do() -> None:
    arms, treated, before, y, seen = world(1101)
    values = [float(v) if s else None for v, s in zip(y, seen, strict=True)]
    grade = [f"g{i // 2 % 3}" for i in range(len(arms))]
    mad = units_table(arms, points__num=values, pre__points=before, segment__grade=grade)
    (row,) = lost(mad, brief_of(primary="points", segments=(Segment(column="grade"),)))
    assert row.rates == attrition(seen, treated)
    assert isinstance(row.rates.effect, Effect)
    assert row.rates.effect.p_value < 0.01
    assert isinstance(row.baseline, BaselineOfMissing)
    assert isinstance(row.baseline.differential, SelectionTest)
    assert row.baseline.differential.p_value < 0.01
    assert row.lee == lee_bounds(y, seen, treated)
    assert isinstance(row.lee, EffectBounds)
    assert row.lee.trimmed_arm == "control"
    assert isinstance(row.weighted, WeightedEffect)
    assert isinstance(row.tipping, TippingPoint)
    # Those who are missing from treatment were weak: weights lead back towards the effect with all units.
    whole = y[treated].mean() - y[~treated].mean()
    assert whole < row.tipping.absolute
    assert abs(row.weighted.effect.absolute - whole) < abs(row.tipping.absolute - whole) / 2
    assert isinstance(row.worst_case, NotEstimable)
    ((name, parts),) = row.by_segment
    assert name == "grade"
    assert sum(part.missing_treatment for _, part in parts.segments) == int((~seen & treated).sum())
    assert isinstance(parts.interaction, Interaction)


def test_shares_have_worst_cases_and_ratios_have_no_bounds() -> None:
    arms, treated, _, y, seen = world(1102)
    marks = [float(v > 0) if s else None for v, s in zip(y, seen, strict=True)]
    (row,) = lost(units_table(arms, solved__num=marks), brief_of(), metric_of("solved"))
    assert isinstance(row.worst_case, EffectBounds)
    filled = np.where(seen, y > 0, ~treated)
    assert row.worst_case.lower == pytest.approx(filled[treated].mean() - filled[~treated].mean())
    assert isinstance(row.baseline, NotEstimable)
    assert isinstance(row.weighted, NotEstimable)
    ratio = metric_of("pace", type="ratio", numerator="points", denominator="minutes", display="number")
    mad = units_table(arms, pace__num=marks, pace__den=[None if m is None else 1.0 for m in marks])
    (other,) = lost(mad, brief_of(primary="pace"), ratio)
    assert isinstance(other.lee, NotEstimable)
    assert "ratio" in other.lee.reason
    assert isinstance(other.rates.effect, Effect)


def test_clusters_count_as_clusters_and_full_data_ask_nothing() -> None:
    arms, _, before, y, seen = world(1103)
    cluster = [f"c{i // 2 % 60}-{arm}" for i, arm in enumerate(arms)]
    values = [float(v) if s else None for v, s in zip(y, seen, strict=True)]
    brief = brief_of(primary="points", randomisation_unit="class")
    (row,) = lost(units_table(arms, points__num=values, pre__points=before, cluster_id=cluster), brief)
    assert isinstance(row.rates.effect, Effect)
    assert row.rates.effect.clusters_control == 60
    assert isinstance(row.lee, EffectBounds)
    assert row.lee.df == 118
    assert lost(units_table(arms, points__num=y), brief_of(primary="points")) == ()
