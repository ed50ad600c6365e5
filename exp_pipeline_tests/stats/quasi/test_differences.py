from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.quasi.differences import panel_difference, two_period_difference
from exp_pipeline.stats.quasi.event_study import EventStudy, event_study
from exp_pipeline.stats.quasi.outcome import NOT_RANDOMISED, QuasiEffect
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.stats.golden import golden

PYFIXEST = golden("quasi_differences")
R = golden("quasi_cr2")
# Both sides solve the same least squares in double precision.
DIGITS = 1e-9


def estimated(result: QuasiEffect | NotEstimable) -> QuasiEffect:
    assert isinstance(result, QuasiEffect), result
    assert result.label == NOT_RANDOMISED
    assert len(result.assumptions) >= 4
    return result


def studied(result: EventStudy | NotEstimable) -> EventStudy:
    assert isinstance(result, EventStudy), result
    return result


def rows_of(case: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.array(values) for name, values in case["rows"].items()}


def panel(seed: int, units: int = 30, periods: int = 5, missing: float = 0.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    unit, period = np.repeat(np.arange(units), periods), np.tile(np.arange(periods), units)
    ever = unit % 3 == 0
    d = ever & (period >= 3)
    y = rng.normal(size=units)[unit] + period + d + rng.normal(size=unit.size)
    kept = rng.random(unit.size) >= missing
    x = rng.normal(size=unit.size)
    rows = {"y": y, "unit": unit, "period": period, "d": d, "x": x, "adopted": np.where(ever, 3.0, math.inf)}
    return {name: values[kept] for name, values in rows.items()}


@pytest.mark.parametrize("name", PYFIXEST)
def test_two_way_fixed_effects_equal_pyfixest(name: str) -> None:
    case = PYFIXEST[name]
    rows = rows_of(case)
    args = (rows["y"], rows["unit"], rows["period"], rows["d"] == 1)
    plain = estimated(panel_difference(*args, cluster=rows["cluster"], method="cr1"))
    assert (plain.absolute, plain.se) == pytest.approx((case["effect"], case["se"]), rel=DIGITS)
    covariate = rows["x"][:, None]
    more = estimated(panel_difference(*args, cluster=rows["cluster"], covariates=covariate, method="cr1"))
    assert (more.absolute, more.se) == pytest.approx((case["effect_x"], case["se_x"]), rel=DIGITS)
    assert plain.df == len(set(case["rows"]["cluster"])) - 1


@pytest.mark.parametrize("name", PYFIXEST)
def test_the_event_study_equals_pyfixest(name: str) -> None:
    case = PYFIXEST[name]
    rows = rows_of(case)
    adopted = np.where(rows["ever"] == 1, case["start"], math.inf)
    args = (rows["y"], rows["unit"], rows["period"], adopted)
    study = studied(event_study(*args, cluster=rows["cluster"], method="cr1"))
    assert [one.at for one in study.points] == case["relative"]
    assert [one.estimate for one in study.points] == pytest.approx(case["points"], rel=DIGITS)
    # pyfixest takes means out by turns and stops at 1e-13 of the change: scores are that rough.
    np.testing.assert_allclose(study.covariance, np.array(case["covariance"]), rtol=1e-8, atol=1e-12)


def test_few_clusters_equal_club_sandwich() -> None:
    case = PYFIXEST["unbalanced"]
    rows = rows_of(case)
    args = (rows["y"], rows["unit"], rows["period"], rows["d"] == 1)
    for result, wanted in (
        (panel_difference(*args, cluster=rows["cluster"]), R["plain"]),
        (panel_difference(*args, cluster=rows["cluster"], covariates=rows["x"][:, None]), R["covariate"]),
        (
            two_period_difference(
                rows["y"], rows["ever"] == 1, rows["period"] >= case["start"], cluster=rows["cluster"]
            ),
            R["two_period"],
        ),
    ):
        found = estimated(result)
        assert found.method.endswith("cr2")
        assert found.absolute == pytest.approx(wanted["effect"], rel=DIGITS)
        assert found.se == pytest.approx(wanted["se"], rel=1e-8)
        assert found.df == pytest.approx(wanted["df"], rel=1e-7)
        assert found.p_value == pytest.approx(wanted["p"], rel=1e-7)
    adopted = np.where(rows["ever"] == 1, case["start"], math.inf)
    study = studied(event_study(rows["y"], rows["unit"], rows["period"], adopted, cluster=rows["cluster"]))
    wanted = R["study"]
    assert [one.estimate for one in study.points] == pytest.approx(wanted["points"], rel=1e-8)
    assert [one.se for one in study.points] == pytest.approx(wanted["se"], rel=1e-8)
    assert [one.df for one in study.points] == pytest.approx(wanted["df"], rel=1e-6)
    assert study.pretrend is not None
    assert study.pretrend.f == pytest.approx(wanted["f"], rel=1e-7)
    assert study.pretrend.df_denominator == pytest.approx(wanted["df_denominator"], rel=1e-6)
    assert study.pretrend.p_value == pytest.approx(wanted["p"], rel=1e-7)


def test_two_periods_are_the_difference_of_changes() -> None:
    # A balanced panel of two periods collapses to comparing each unit's change.
    rng = np.random.default_rng(3)
    arm = np.arange(24) % 3 == 0
    before, after = rng.normal(50, 4, 24), rng.normal(53, 5, 24) + 2 * arm
    changes = clustered_difference(after - before, arm, np.arange(24), method="cr2")
    assert isinstance(changes, Effect)
    unit = np.tile(np.arange(24), 2)
    later = np.repeat([False, True], 24)
    values, group = np.concatenate([before, after]), np.tile(arm, 2)
    results = (
        panel_difference(values, unit, later.astype(int), group & later, method="cr2"),
        two_period_difference(values, group, later, cluster=unit, method="cr2"),
    )
    for result in results:
        found = estimated(result)
        assert found.absolute == pytest.approx(changes.absolute, rel=1e-12)
        assert found.se == pytest.approx(changes.se, rel=1e-10)
    # With the units' constants the degrees of freedom are those of the changes too.
    assert estimated(results[0]).df == pytest.approx(changes.df, rel=1e-8)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 0.35), st.booleans())
def test_the_effect_by_least_squares_with_all_constants(seed: int, missing: float, covariate: bool) -> None:
    rows = panel(seed, 14, 5, missing)
    extra = rows["x"][:, None] if covariate else None
    result = panel_difference(rows["y"], rows["unit"], rows["period"], rows["d"], covariates=extra)
    if isinstance(result, NotEstimable):
        return
    units = (rows["unit"][:, None] == np.unique(rows["unit"])).astype(float)
    times = (rows["period"][:, None] == np.unique(rows["period"])[1:]).astype(float)
    columns = [units, times, rows["d"][:, None]] + ([] if extra is None else [extra])
    wide = np.hstack(columns)
    place = units.shape[1] + times.shape[1]
    if np.linalg.matrix_rank(np.delete(wide, place, axis=1)) == np.linalg.matrix_rank(wide):
        return
    wanted = np.linalg.lstsq(wide, rows["y"], rcond=None)[0][place]
    assert result.absolute == pytest.approx(wanted, rel=1e-8, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 50.0), st.floats(-1e3, 1e3))
def test_scale_shift_trend_and_order(seed: int, scale: float, shift: float) -> None:
    rows = panel(seed)
    args = (rows["unit"], rows["period"], rows["d"])
    plain = estimated(panel_difference(rows["y"], *args))
    # Whatever is the same for all in a period, or always for a unit, is taken out.
    moved = rows["y"] * scale + shift + 3.0 * rows["period"] + rows["unit"] ** 2
    turned = np.random.default_rng(seed).permutation(moved.size)
    found = estimated(panel_difference(moved[turned], *(one[turned] for one in args)))
    assert found.absolute == pytest.approx(plain.absolute * scale, rel=1e-7, abs=1e-9)
    assert found.se == pytest.approx(plain.se * scale, rel=1e-6)
    assert found.df == pytest.approx(plain.df, rel=1e-6)
    renamed = (1000 - rows["unit"], rows["period"] * 7 + 2, rows["d"])
    again = estimated(panel_difference(rows["y"], *renamed))
    assert (again.absolute, again.se) == pytest.approx((plain.absolute, plain.se), rel=1e-8)


def test_swapping_the_groups_flips_the_sign() -> None:
    rng = np.random.default_rng(8)
    y, arm, later = rng.normal(size=60), np.arange(60) % 2 == 0, np.arange(60) % 3 == 0
    a = estimated(two_period_difference(y, arm, later))
    b = estimated(two_period_difference(y, ~arm, later))
    assert (a.absolute, a.se, a.df) == pytest.approx((-b.absolute, b.se, b.df), rel=1e-10)


def test_covers_what_was_planted_with_few_clusters() -> None:
    # 12 schools of 4 learners, 4 of them treated, with errors that schools share and that last.
    rng = np.random.default_rng(71)
    unit = np.repeat(np.arange(48), 4)
    school, period = unit // 4, np.tile(np.arange(4), 48)
    d = (school < 4) & (period >= 2)
    hits = naive = flagged = 0
    trials = 400
    for _ in range(trials):
        walk = np.cumsum(rng.normal(size=(12, 4)), axis=1)
        y = rng.normal(size=48)[unit] + period + walk[school, period] + 0.5 * d + rng.normal(size=unit.size)
        found = estimated(panel_difference(y, unit, period, d, cluster=school))
        hits += found.ci_lower < 0.5 < found.ci_upper
        rows = estimated(panel_difference(y, unit, period, d, method="cr1"))
        naive += rows.ci_lower < 0.5 < rows.ci_upper
        study = studied(event_study(y, unit, period, np.where(school < 4, 2, math.inf), cluster=school))
        assert study.pretrend is not None
        flagged += study.pretrend.p_value < 0.05
    # Three Monte Carlo errors are 0.033 on either side.
    assert 0.92 < hits / trials < 0.985
    assert flagged / trials < 0.09
    # Errors by learner do not see that schools differ: the fault must be seen.
    assert naive / trials < 0.75


def test_a_planted_trend_before_is_found() -> None:
    rows = panel(5, units=90, periods=6)
    ever = np.isfinite(rows["adopted"])
    args = (rows["unit"], rows["period"], rows["adopted"])
    calm = studied(event_study(rows["y"], *args))
    leaning = studied(event_study(rows["y"] + 0.8 * ever * rows["period"], *args))
    assert calm.pretrend is not None
    assert leaning.pretrend is not None
    assert calm.pretrend.p_value > 0.05
    assert leaning.pretrend.p_value < 1e-3
    assert calm.reference == -1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"d": False}, "never changes"),
        ({"d": "one"}, "one cluster changes treatment"),
        ({"y": 4.0}, "no spread"),
        ({"d": "all"}, "determine treatment"),
    ],
)
def test_reasons(change: dict[str, Any], words: str) -> None:
    rows = panel(2)
    if change.get("d") is False:
        rows["d"] = np.zeros(rows["y"].size, dtype=bool)
    if change.get("d") == "one":
        rows["d"] = rows["d"] & (rows["unit"] == 0)
    if change.get("d") == "all":
        rows["d"] = rows["period"] >= 3
    if "y" in change:
        rows["y"] = np.full(rows["y"].size, 4.1) + rows["unit"] * 0.1
    result = panel_difference(rows["y"], rows["unit"], rows["period"], rows["d"])
    assert isinstance(result, NotEstimable)
    assert words in result.reason


def test_reasons_of_the_event_study_and_two_periods() -> None:
    rows = panel(2)
    args = (rows["y"], rows["unit"], rows["period"])
    several = np.where(rows["unit"] == 3, 2.0, rows["adopted"])
    for adopted, words in (
        (several, "several dates"),
        (np.full(rows["y"].size, math.inf), "nobody adopts"),
        (np.where(rows["unit"] == 0, 3.0, math.inf), "is one cluster"),
        (np.where(rows["unit"] % 3 == 0, 0.0, math.inf), "no period before"),
    ):
        result = event_study(*args, adopted)
        assert isinstance(result, NotEstimable)
        assert words in result.reason
    empty = two_period_difference(rows["y"], rows["unit"] % 3 == 0, np.zeros(rows["y"].size, dtype=bool))
    assert isinstance(empty, NotEstimable)
    assert "after treatment" in empty.reason


def test_units_seen_once_say_nothing() -> None:
    y, once = np.arange(8.0) ** 2, np.arange(8)
    result = panel_difference(y, once, once % 2, once < 4)
    assert isinstance(result, NotEstimable)
    assert "one period only" in result.reason


def test_misuse_is_named() -> None:
    rows = panel(1)
    args = (rows["y"], rows["unit"], rows["period"], rows["d"])
    with pytest.raises(ValueError, match="cluster must be the same"):
        panel_difference(*args, cluster=np.arange(rows["y"].size) // 3)
    with pytest.raises(ValueError, match="once"):
        panel_difference(rows["y"], rows["unit"], rows["period"] // 2, rows["d"])
    with pytest.raises(ValueError, match="whole numbers"):
        event_study(rows["y"], rows["unit"], rows["period"] + 0.5, rows["adopted"])
    with pytest.raises(ValueError, match="several"):
        event_study(rows["y"], rows["unit"], rows["period"], np.arange(rows["y"].size))
    with pytest.raises(ValueError, match="method"):
        panel_difference(*args, method="hc3")  # type: ignore[arg-type]


def test_adoption_in_turns_and_repeated_rows_are_told() -> None:
    rows = panel(4)
    turns = rows["d"] | ((rows["unit"] == 3) & (rows["period"] >= 2))
    found = estimated(panel_difference(rows["y"], rows["unit"], rows["period"], turns))
    assert any("staggered" in flag for flag in found.flags)
    assert any("does not grow" in sentence for sentence in found.assumptions)
    two = estimated(two_period_difference(rows["y"], rows["unit"] % 3 == 0, rows["period"] >= 3))
    assert any("independent" in flag for flag in two.flags)
    lonely = np.append(rows["unit"], 99)
    more = panel_difference(
        np.append(rows["y"], 1.0), lonely, np.append(rows["period"], 0), np.append(rows["d"], False)
    )
    assert any("one period only" in flag for flag in estimated(more).flags)
