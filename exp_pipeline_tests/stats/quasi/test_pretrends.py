from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import linprog

from exp_pipeline.stats.quasi.event_study import EventStudy, event_study
from exp_pipeline.stats.quasi.pretrends import TrendSensitivity, trend_sensitivity
from exp_pipeline.stats.quasi.staggered import StaggeredEffects, staggered_effects
from exp_pipeline.stats.results import NotEstimable
from exp_pipeline_tests.stats.golden import golden

DIFF_DIFF = golden("quasi_staggered")


def estimated(result: TrendSensitivity | NotEstimable) -> TrendSensitivity:
    assert isinstance(result, TrendSensitivity), result
    return result


def study_of(seed: int, lean: float = 0.0, effect: float = 1.0, units: int = 80) -> EventStudy:
    rng = np.random.default_rng(seed)
    unit, period = np.repeat(np.arange(units), 7), np.tile(np.arange(7), units)
    ever = unit % 2 == 0
    y = rng.normal(size=units)[unit] + ever * (lean * period + effect * (period >= 4))
    found = event_study(
        y + rng.normal(size=unit.size), unit, period, np.where(ever, 4.0, math.inf), method="cr1"
    )
    assert isinstance(found, EventStudy)
    return found


def test_bounds_equal_diff_diff() -> None:
    case = DIFF_DIFF["never"]
    rows = {name: np.array(values) for name, values in case["rows"].items()}
    first = np.where(rows["first_treat"] == 0, math.inf, rows["first_treat"])
    turns = staggered_effects(rows["y"], rows["unit"], rows["period"], first, small_sample=False)
    assert isinstance(turns, StaggeredEffects)
    found = estimated(trend_sensitivity(turns.study, bars=(0.5, 1.0)))
    for one in found.bounds:
        # Their bounds come from linear programming, to its tolerance.
        assert (one.lower, one.upper) == pytest.approx(
            case["fits"]["never_treated"][f"honest_{one.bar}"], abs=1e-6
        )


@pytest.mark.parametrize("weights", [None, (1.0, 0.0, 0.0), (0.2, 0.3, 0.5), (1.0, -1.0, 0.0)])
def test_bounds_by_linear_programming(weights: tuple[float, ...] | None) -> None:
    study = study_of(3, lean=0.1)
    found = estimated(trend_sensitivity(study, bars=(1.5,), weights=weights)).bounds[0]
    shares = np.full(3, 1 / 3) if weights is None else np.array(weights)
    estimates = {one.at: one.estimate for one in study.points}
    chain = [estimates[-4], estimates[-3], estimates[-2], 0.0]
    largest = float(np.max(np.abs(np.diff(chain))))
    steps = np.array([[1, 0, 0], [-1, 1, 0], [0, -1, 1]], dtype=float)
    limits = np.full(6, 1.5 * largest)
    ends = [
        linprog(sign * shares, A_ub=np.vstack([steps, -steps]), b_ub=limits, bounds=(None, None)).fun
        for sign in (1.0, -1.0)
    ]
    middle = float(shares @ [estimates[e] for e in (0, 1, 2)])
    assert found.lower == pytest.approx(middle + ends[1], abs=1e-8)
    assert found.upper == pytest.approx(middle - ends[0], abs=1e-8)


def test_no_violation_is_the_study_and_more_is_wider() -> None:
    study = study_of(5)
    found = estimated(trend_sensitivity(study, bars=(0.0, 0.01, 1.0, 3.0)))
    assert (found.bounds[0].ci_lower, found.bounds[0].ci_upper) == pytest.approx(
        (study.average.ci_lower, study.average.ci_upper), rel=1e-9
    )
    widths = [one.ci_upper - one.ci_lower for one in found.bounds]
    assert widths == sorted(widths)
    at = estimated(trend_sensitivity(study, bars=(found.breakdown,))).bounds[0]
    assert min(abs(at.ci_lower), abs(at.ci_upper)) == pytest.approx(0.0, abs=1e-12)


def test_the_allowance_is_bonferronis() -> None:
    from scipy.stats import t

    study = study_of(6)
    at = [one.at for one in study.points]
    ends = []
    for first, second in ((-4, -3), (-3, -2), (-2, None)):
        pick = np.zeros(len(at))
        pick[at.index(first)] = -1.0
        if second is not None:
            pick[at.index(second)] = 1.0
        change = float(sum(w * one.estimate for w, one in zip(pick, study.points, strict=True)))
        error = math.sqrt(float(pick @ study.covariance @ pick))
        # Half of 5 %, over three changes of either sign.
        ends.append(abs(change) + float(t.isf(0.025 / 6, 79)) * error)
    assert estimated(trend_sensitivity(study)).largest_allowed == pytest.approx(max(ends), rel=1e-9)


def test_covers_under_a_trend_where_the_study_does_not() -> None:
    # A difference that grows by 0.25 each period before and after: bar 1 allows for it.
    held = plain = allowed = 0
    trials = 150
    for seed in range(trials):
        study = study_of(1000 + seed, lean=0.25, effect=0.5)
        found = estimated(trend_sensitivity(study, bars=(1.0,)))
        one = found.bounds[0]
        allowed += found.largest_allowed >= 0.25
        held += one.ci_lower < 0.5 < one.ci_upper
        plain += study.average.ci_lower < 0.5 < study.average.ci_upper
    assert held / trials > 0.95
    # Half of the error probability, less three Monte Carlo errors of 0.013.
    assert allowed / trials > 0.935
    assert plain / trials < 0.6


def test_reasons_and_misuse() -> None:
    study = study_of(1)
    with pytest.raises(ValueError, match="bars"):
        trend_sensitivity(study, bars=(-1.0,))
    with pytest.raises(ValueError, match="weights"):
        trend_sensitivity(study, weights=(1.0,))
    rng = np.random.default_rng(2)
    unit, period = np.repeat(np.arange(40), 3), np.tile(np.arange(3), 40)
    adopted = np.where(unit % 2 == 0, 1.0, math.inf)
    short = event_study(rng.normal(size=120), unit, period, adopted)
    assert isinstance(short, EventStudy)
    assert short.pretrend is None
    result = trend_sensitivity(short)
    assert isinstance(result, NotEstimable)
    assert "one period before" in result.reason
    gaps = event_study(rng.normal(size=120), unit, period * 2, np.where(unit % 2 == 0, 4.0, math.inf))
    assert isinstance(gaps, EventStudy)
    result = trend_sensitivity(gaps)
    assert isinstance(result, NotEstimable)
    assert "gaps" in result.reason
