from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.quasi.differences import panel_difference
from exp_pipeline.stats.quasi.event_study import event_study
from exp_pipeline.stats.quasi.outcome import QuasiEffect
from exp_pipeline.stats.quasi.staggered import StaggeredEffects, staggered_effects
from exp_pipeline.stats.results import NotEstimable
from exp_pipeline_tests.stats.golden import golden

DIFF_DIFF = golden("quasi_staggered")
# The same means and sums of squares in double precision.
DIGITS = 1e-9
FITS: list[tuple[str, Literal["never", "not_yet"]]] = [
    (name, "never" if control == "never_treated" else "not_yet")
    for name, case in DIFF_DIFF.items()
    for control in case["fits"]
]


def estimated(result: StaggeredEffects | NotEstimable) -> StaggeredEffects:
    assert isinstance(result, StaggeredEffects), result
    return result


def rows_of(case: dict[str, Any]) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    rows = {name: np.array(values) for name, values in case["rows"].items()}
    first = np.where(rows["first_treat"] == 0, math.inf, rows["first_treat"])
    return (rows["y"], rows["unit"], rows["period"], first), rows["cluster"]


@pytest.mark.parametrize(("name", "controls"), FITS)
def test_group_time_effects_equal_diff_diff(name: str, controls: Literal["never", "not_yet"]) -> None:
    case = DIFF_DIFF[name]
    args, cluster = rows_of(case)
    wanted = case["fits"]["never_treated" if controls == "never" else "not_yet_treated"]
    found = estimated(staggered_effects(*args, cluster=cluster, controls=controls, small_sample=False))
    clusters = len(set(cluster.tolist()))
    # diff-diff lifts clustered variances by G / (G - 1), as its sandwich does; unclustered ones not.
    lift = math.sqrt(clusters / (clusters - 1)) if name == "clusters" else 1.0
    cells = {(cell.cohort, cell.period): cell for cell in found.cells}
    shown = [row for row in wanted["cells"] if not math.isnan(row[3]) and row[3] > 0]
    assert len(shown) == len(cells)
    for cohort, period, effect, se in shown:
        cell = cells[cohort, period]
        assert cell.estimate == pytest.approx(effect, rel=DIGITS)
        assert cell.se * lift == pytest.approx(se, rel=DIGITS)
    assert [one.at for one in found.study.points] == [row[0] for row in wanted["events"]]
    for one, (_, effect, se) in zip(found.study.points, wanted["events"], strict=True):
        assert one.estimate == pytest.approx(effect, rel=DIGITS)
        assert one.se is not None
        assert one.se * lift == pytest.approx(se, rel=DIGITS)
    assert found.overall.absolute == pytest.approx(wanted["overall"][0], rel=DIGITS)
    assert found.overall.se * lift == pytest.approx(wanted["overall"][1], rel=DIGITS)
    shown = [row for row in wanted["cohorts"] if not math.isnan(row[2])]
    assert list(found.cohorts) == [row[0] for row in shown]
    for cohort_effect, (_, effect, se) in zip(found.by_cohort, shown, strict=True):
        assert cohort_effect.absolute == pytest.approx(effect, rel=DIGITS)
        assert cohort_effect.se * lift == pytest.approx(se, rel=DIGITS)


def panel(seed: int, units: int = 60, periods: int = 6) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    unit, period = np.repeat(np.arange(units), periods), np.tile(np.arange(periods), units)
    adopted = np.array([2.0, 4.0, math.inf])[unit % 3]
    since = period - np.where(np.isfinite(adopted), adopted, period)
    d = period >= adopted
    y = rng.normal(size=units)[unit] + 0.4 * period + d * (1.0 + 0.5 * since) + rng.normal(size=unit.size)
    return y, unit, period, adopted


def test_one_date_is_the_event_study() -> None:
    y, unit, period, adopted = panel(1)
    adopted = np.where(adopted == 2.0, 4.0, adopted)
    turns = estimated(staggered_effects(y, unit, period, adopted))
    study = event_study(y, unit, period, adopted, method="cr2")
    assert not isinstance(study, NotEstimable)
    assert [one.estimate for one in turns.study.points] == pytest.approx(
        [one.estimate for one in study.points], rel=1e-10
    )
    # In a balanced panel both variances are Welch's.
    assert [one.se for one in turns.study.points] == pytest.approx([one.se for one in study.points], rel=1e-8)
    assert turns.overall.absolute == pytest.approx(study.average.absolute, rel=1e-10)


def test_one_cohort_has_the_degrees_of_freedom_of_welch() -> None:
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(5)
    change = np.where(np.arange(20) < 10, rng.normal(1, 3, 20), rng.normal(0, 1, 20))
    unit, period = np.repeat(np.arange(20), 2), np.tile([0, 1], 20)
    y = np.where(period == 1, change[unit], 0.0)
    adopted = np.where(unit < 10, 1.0, math.inf)
    found = estimated(staggered_effects(y, unit, period, adopted)).overall
    wanted = ttest_ind(change[:10], change[10:], equal_var=False)
    assert found.df == pytest.approx(float(wanted.df), rel=1e-9)
    assert found.p_value == pytest.approx(float(wanted.pvalue), rel=1e-9)


def test_a_cell_is_welch_on_changes() -> None:
    y, unit, period, adopted = panel(2)
    wide = y.reshape(-1, 6)
    change = wide[:, 5] - wide[:, 1]
    start = adopted.reshape(-1, 6)[:, 0]
    found = estimated(staggered_effects(y, unit, period, adopted))
    cell = next(one for one in found.cells if (one.cohort, one.period) == (2, 5))
    a, b = change[start == 2], change[np.isinf(start)]
    assert cell.estimate == pytest.approx(a.mean() - b.mean(), rel=1e-12)
    assert cell.se == pytest.approx(math.sqrt(a.var(ddof=1) / a.size + b.var(ddof=1) / b.size), rel=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 40.0), st.floats(-500.0, 500.0))
def test_scale_shift_and_order(seed: int, scale: float, shift: float) -> None:
    y, unit, period, adopted = panel(seed, 30)
    plain = estimated(staggered_effects(y, unit, period, adopted, controls="not_yet"))
    turned = np.random.default_rng(seed).permutation(y.size)
    moved = (y * scale + shift + 2.0 * period + unit)[turned]
    found = estimated(
        staggered_effects(moved, unit[turned], period[turned] + 7, adopted[turned] + 7, controls="not_yet")
    )
    assert found.overall.absolute == pytest.approx(plain.overall.absolute * scale, rel=1e-8, abs=1e-8)
    assert found.overall.se == pytest.approx(plain.overall.se * scale, rel=1e-6)
    assert found.cohort_average.se == pytest.approx(plain.cohort_average.se * scale, rel=1e-6)


def test_the_error_of_weights_by_the_jackknife() -> None:
    y, unit, period, adopted = panel(7, units=150)
    rng = np.random.default_rng(7)
    start = rng.choice([2.0, 4.0, math.inf], size=150)
    adopted = start[unit]
    found = estimated(staggered_effects(y + 3 * (adopted == 2.0) * (period >= 2), unit, period, adopted))
    y = y + 3 * (adopted == 2.0) * (period >= 2)
    left = []
    for one in range(150):
        kept = unit != one
        left.append(
            estimated(staggered_effects(y[kept], unit[kept], period[kept], adopted[kept])).overall.absolute
        )
    jackknife = math.sqrt(149 / 150 * np.sum((np.array(left) - np.mean(left)) ** 2))
    # Both estimate the same error; they part by less than 1 / cohort size.
    assert found.overall.se == pytest.approx(jackknife, rel=0.02)


def test_covers_a_growing_effect_where_two_way_constants_do_not() -> None:
    rng = np.random.default_rng(72)
    units, periods, trials = 24, 6, 250
    unit, period = np.repeat(np.arange(units), periods), np.tile(np.arange(periods), units)
    adopted = np.array([2.0, 4.0, math.inf])[unit % 3]
    d = period >= adopted
    effect = np.where(d, 1.0 * (period - np.where(np.isfinite(adopted), adopted, 0.0) + 1.0), 0.0)
    truth = float(effect[d].mean())
    hits = wrong = flagged = 0
    for _ in range(trials):
        y = rng.normal(size=units)[unit] + period + effect + rng.normal(size=unit.size)
        found = estimated(staggered_effects(y, unit, period, adopted))
        hits += found.overall.ci_lower < truth < found.overall.ci_upper
        both = panel_difference(y, unit, period, d)
        assert isinstance(both, QuasiEffect)
        wrong += both.ci_lower < truth < both.ci_upper
        assert found.study.pretrend is not None
        flagged += found.study.pretrend.p_value < 0.05
    # Three Monte Carlo errors are 0.041 on either side.
    assert 0.915 < hits / trials < 0.985
    assert flagged / trials < 0.1
    assert wrong / trials < 0.8


def test_reasons_and_misuse() -> None:
    y, unit, period, adopted = panel(3)
    for date, controls, words in (
        (np.full(y.size, math.inf), "never", "nobody adopts"),
        (np.where(unit % 3 == 2, 5.0, adopted), "never", "every unit adopts"),
        (np.where(unit == 0, 2.0, math.inf), "never", "two clusters"),
    ):
        result = staggered_effects(y, unit, period, date, controls=controls)  # type: ignore[arg-type]
        assert isinstance(result, NotEstimable)
        assert words in result.reason
    still = staggered_effects(np.ones(y.size), unit, period, adopted)
    assert isinstance(still, NotEstimable)
    assert "no spread" in still.reason
    with pytest.raises(ValueError, match="controls"):
        staggered_effects(y, unit, period, adopted, controls="all")  # type: ignore[arg-type]
    early = estimated(staggered_effects(y, unit, period, np.where(unit == 0, 0.0, adopted)))
    assert any("left out" in flag for flag in early.flags)


def test_periods_that_are_missing() -> None:
    y, unit, period, adopted = panel(11, units=90)
    kept = np.random.default_rng(4).random(y.size) > 0.15
    found = estimated(staggered_effects(y[kept], unit[kept], period[kept], adopted[kept]))
    whole = estimated(staggered_effects(y, unit, period, adopted))
    assert abs(found.overall.absolute - whole.overall.absolute) < 3 * found.overall.se
    assert found.overall.se > whole.overall.se
