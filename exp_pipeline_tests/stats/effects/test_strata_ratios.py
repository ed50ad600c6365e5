from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.effects.adjustment import adjusted_ratio
from exp_pipeline.stats.effects.ratios import difference_in_ratios
from exp_pipeline.stats.effects.strata import StratumArms
from exp_pipeline.stats.effects.strata_ratios import stratified_ratio
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect, NotEstimable

NAMES = ["taken", "shown", "x"]


def estimated(result: Effect | NotEstimable) -> Effect:
    assert isinstance(result, Effect), result
    return result


def draw(seed: int, lift: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (taken, shown, x), arm and stratum of 150 units."""
    rng = np.random.default_rng(seed)
    strata = np.repeat([0, 1, 2], 50)
    arm = np.concatenate([rng.permutation(np.arange(50) < 25) for _ in range(3)])
    shown = 1.0 + rng.poisson(6 * (1 + arm), 150)
    share = 0.2 + 0.25 * strata + lift * arm
    taken = rng.binomial(shown.astype(int), share).astype(float)
    return np.column_stack([taken, shown, rng.normal(size=150)]), arm, strata


def cells(rows: np.ndarray, arm: np.ndarray, strata: np.ndarray) -> dict[str, StratumArms]:
    return {
        str(s): StratumArms(
            Moments.from_array(rows[(strata == s) & ~arm], NAMES),
            Moments.from_array(rows[(strata == s) & arm], NAMES),
        )
        for s in np.unique(strata)
    }


def ratio(strata: dict[str, StratumArms], **options: Any) -> Effect:
    return estimated(stratified_ratio(strata, numerator="taken", denominator="shown", **options))


def test_units_as_clusters_give_the_same_by_rows() -> None:
    rows, arm, strata = draw(1)
    by_cells = ratio(cells(rows, arm, strata), weighting="precision")
    by_rows = estimated(
        clustered_difference(
            rows[:, 0], arm, np.arange(150), strata=strata, denominator=rows[:, 1], method="cr2"
        )
    )
    assert by_cells.method == "strata-ratio-precision"
    for field in ("absolute", "se", "df", "mean_control", "mean_treatment"):
        assert getattr(by_cells, field) == pytest.approx(getattr(by_rows, field), rel=1e-9), field


def test_one_stratum_is_the_plain_ratio() -> None:
    rows, arm, _ = draw(2)
    one = cells(rows, arm, np.zeros(150))
    plain = estimated(
        difference_in_ratios(one["0.0"].control, one["0.0"].treatment, numerator="taken", denominator="shown")
    )
    by_size = ratio(one, weighting="size")
    adjusted = estimated(
        adjusted_ratio(
            one["0.0"].control,
            one["0.0"].treatment,
            numerator="taken",
            denominator="shown",
            covariates=["x"],
        )
    )
    with_covariate = ratio(one, weighting="size", covariates=["x"])
    for field in ("absolute", "se", "df", "relative_ci_lower", "relative_ci_upper"):
        assert getattr(by_size, field) == pytest.approx(getattr(plain, field), rel=1e-9), field
        assert getattr(with_covariate, field) == pytest.approx(getattr(adjusted, field), rel=1e-9), field


def test_strata_take_out_what_lies_between_them_and_cover() -> None:
    runs, low, high, gains = 400, 0, 0, []
    for seed in range(runs):
        effect = ratio(cells(*draw(seed, 0.1)))
        low += effect.ci_lower > 0.1
        high += effect.ci_upper < 0.1
        assert effect.variance_reduction is not None
        gains.append(effect.variance_reduction)
    # Four standard errors of 400 runs at 2.5 % are 3.1 points.
    assert low / runs < 0.056
    assert high / runs < 0.056
    assert min(gains) > 0.3


def test_swapped_arms_and_other_units() -> None:
    rows, arm, strata = draw(3)
    base = ratio(cells(rows, arm, strata))
    swapped = ratio(cells(rows, ~arm, strata))
    per_hundred = ratio(cells(rows * [1.0, 0.01, 1.0], arm, strata))
    assert swapped.absolute == pytest.approx(-base.absolute, rel=1e-9)
    assert swapped.se == pytest.approx(base.se, rel=1e-9)
    assert per_hundred.absolute == pytest.approx(100 * base.absolute, rel=1e-9)
    assert per_hundred.relative == pytest.approx(base.relative, rel=1e-9)


def test_strata_of_one_arm_stay_outside_the_ratio() -> None:
    rows, arm, strata = draw(4)
    base = ratio(cells(rows, arm, strata))
    more = cells(rows, arm, strata)
    more["alone"] = StratumArms(
        Moments.from_array([[90.0, 1.0, 0.0], [80.0, 2.0, 1.0]], NAMES),
        Moments.from_array(np.zeros((0, 3)), NAMES),
    )
    effect = ratio(more)
    assert (effect.absolute, effect.se) == pytest.approx((base.absolute, base.se), rel=1e-12)
    assert "1 strata (2 units) left out" in effect.flags[0]


def test_what_cannot_be_estimated_says_why() -> None:
    def outcome(control: list[list[float]], treatment: list[list[float]]) -> str:
        arms = StratumArms(
            Moments.from_array(np.array(control).reshape(-1, 3), NAMES),
            Moments.from_array(np.array(treatment).reshape(-1, 3), NAMES),
        )
        result = stratified_ratio({"all": arms}, numerator="taken", denominator="shown")
        assert isinstance(result, NotEstimable), result
        assert result.method.startswith("strata-ratio")
        return result.reason

    assert "control arm is empty" in outcome([], [[1, 2, 0]])
    assert "zero in the treatment arm" in outcome([[1, 2, 0], [2, 2, 0]], [[1, 0, 0], [2, 0, 0]])
    assert "no spread" in outcome([[1, 2, 0], [2, 4, 0]], [[1, 2, 0], [3, 6, 0]])
    assert "one unit" in outcome([[1, 2, 0]], [[1, 2, 0], [3, 5, 0]])
