from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.effects.adjustment import adjusted_difference
from exp_pipeline.stats.effects.means import difference_in_means
from exp_pipeline.stats.effects.strata import StratumArms, Weighting, stratified_difference
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.stats.golden import golden

CASES = golden("strata")
# Both sides work in double precision from the same rows.
DIGITS = 1e-9
PLAIN = [name for name in CASES if name != "covariate"]


def estimated(result: Effect | NotEstimable) -> Effect:
    assert isinstance(result, Effect), result
    return result


def by_stratum(
    arm: np.ndarray, strata: np.ndarray, names: list[str], *columns: np.ndarray
) -> dict[str, StratumArms]:
    rows = np.column_stack(columns)
    return {
        str(s): StratumArms(
            Moments.from_array(rows[(strata == s) & (arm == 0)], names),
            Moments.from_array(rows[(strata == s) & (arm == 1)], names),
        )
        for s in np.unique(strata)
    }


def read(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    case = CASES[name]
    return tuple(np.array(case[key]) for key in ("arm", "strata", "y", "x"))  # type: ignore[return-value]


@pytest.mark.parametrize("name", PLAIN)
def test_precision_equals_estimatr_with_fixed_effects(name: str) -> None:
    arm, strata, y, _ = read(name)
    effect = estimated(
        stratified_difference(by_stratum(arm, strata, ["y"], y), outcome="y", weighting="precision")
    )
    assert effect.absolute == pytest.approx(CASES[name]["fe"]["absolute"], rel=DIGITS)
    assert effect.se == pytest.approx(CASES[name]["fe"]["se"], rel=DIGITS)
    # estimatr takes n - p degrees of freedom; clubSandwich with each row a cluster gives ours.
    assert effect.df == pytest.approx(CASES[name]["bm_df"], rel=1e-8)


@pytest.mark.parametrize("name", PLAIN)
def test_size_equals_estimatr_with_blocks(name: str) -> None:
    arm, strata, y, _ = read(name)
    effect = estimated(
        stratified_difference(by_stratum(arm, strata, ["y"], y), outcome="y", weighting="size")
    )
    assert effect.absolute == pytest.approx(CASES[name]["dim"]["absolute"], rel=DIGITS)
    assert effect.se == pytest.approx(CASES[name]["dim"]["se"], rel=DIGITS)
    if name == "pairs":
        assert effect.df == pytest.approx(CASES[name]["dim"]["df"], rel=DIGITS)


@pytest.mark.parametrize("name", PLAIN)
def test_units_as_clusters_give_the_same_by_rows(name: str) -> None:
    # A second algorithm: least squares on rows, n x p, with CR2.
    arm, strata, y, _ = read(name)
    rows = estimated(clustered_difference(y, arm == 1, np.arange(y.size), strata=strata, method="cr2"))
    cells = estimated(
        stratified_difference(by_stratum(arm, strata, ["y"], y), outcome="y", weighting="precision")
    )
    assert (cells.absolute, cells.se, cells.df) == pytest.approx((rows.absolute, rows.se, rows.df), rel=1e-9)


def test_a_covariate_within_strata() -> None:
    arm, strata, y, x = read("covariate")
    effect = estimated(
        stratified_difference(
            by_stratum(arm, strata, ["y", "x"], y, x), outcome="y", covariates=["x"], weighting="precision"
        )
    )
    assert effect.absolute == pytest.approx(CASES["covariate"]["fe"]["absolute"], rel=DIGITS)
    # HC2 with covariates needs fourth moments; the variance by cell meets it within sampling error.
    assert effect.se == pytest.approx(CASES["covariate"]["fe"]["se"], rel=0.03)
    by_size = estimated(
        stratified_difference(
            by_stratum(arm, strata, ["y", "x"], y, x), outcome="y", covariates=["x"], weighting="size"
        )
    )
    plain = estimated(stratified_difference(by_stratum(arm, strata, ["y"], y), outcome="y", weighting="size"))
    # The covariate moves the outcome by 0.1 x 10 beside an error of two or three.
    assert by_size.se < plain.se
    assert by_size.absolute == pytest.approx(plain.absolute, abs=2 * plain.se)


def test_one_stratum_by_size_is_welch() -> None:
    rng = np.random.default_rng(1)
    a, b = Moments.from_array(rng.normal(3, 1, 30), ["y"]), Moments.from_array(rng.normal(4, 2, 50), ["y"])
    welch = estimated(difference_in_means(a, b, outcome="y"))
    one = estimated(stratified_difference({"all": StratumArms(a, b)}, outcome="y", weighting="size"))
    for field in (
        "absolute",
        "se",
        "df",
        "p_value",
        "relative_ci_lower",
        "relative_ci_upper",
        "standardised",
    ):
        assert getattr(one, field) == pytest.approx(getattr(welch, field), rel=1e-11), field
    assert one.variance_reduction == pytest.approx(0.0, abs=1e-12)


def test_one_stratum_with_covariates_is_cuped() -> None:
    rng = np.random.default_rng(11)
    names = ["y", "a", "b"]
    rows = rng.normal([0, 4, 2], size=(60, 3))
    rows[:, 0] += rows[:, 1] * 2 - rows[:, 2] + 20 + np.where(np.arange(60) < 22, 0, 9)
    a, b = Moments.from_array(rows[:22], names), Moments.from_array(rows[22:], names)
    cuped = estimated(adjusted_difference(a, b, outcome="y", covariates=["a", "b"]))
    one = estimated(
        stratified_difference(
            {"all": StratumArms(a, b)}, outcome="y", covariates=["a", "b"], weighting="size"
        )
    )
    for field in ("absolute", "se", "df", "relative", "relative_ci_lower", "relative_ci_upper"):
        assert getattr(one, field) == pytest.approx(getattr(cuped, field), rel=1e-10), field


@pytest.mark.parametrize("weighting", ["precision", "size"])
def test_relative_interval_with_covariates_by_the_bootstrap(weighting: Any) -> None:
    # Draw units anew within stratum and arm; strata weigh differently, shares of treated units differ.
    rng = np.random.default_rng(12)
    strata = np.repeat([0, 1, 2], [60, 120, 80])
    arm = np.concatenate([np.arange(n) < t for n, t in ((60, 40), (120, 40), (80, 40))]).astype(int)
    x = rng.normal(5, 2, 260)
    y = 2 * x + 3 * strata + 12 * arm + rng.normal(size=260)
    names = ["y", "x"]

    def log_ratio(keep: np.ndarray) -> tuple[float, float]:
        effect = estimated(
            stratified_difference(
                by_stratum(arm[keep], strata[keep], names, y[keep], x[keep]),
                outcome="y",
                covariates=["x"],
                weighting=weighting,
            )
        )
        assert effect.relative is not None
        assert effect.relative_ci_lower is not None
        return math.log1p(effect.relative), math.log1p(effect.relative_ci_lower)

    middle, low = log_ratio(np.arange(260))
    cells_of = [np.flatnonzero((strata == s) & (arm == a)) for s in range(3) for a in (0, 1)]
    drawn = [
        log_ratio(np.concatenate([rng.choice(rows, rows.size) for rows in cells_of]))[0] for _ in range(250)
    ]
    # 250 draws know a standard deviation to 4.5 %; four of those.
    assert (middle - low) / 1.97 == pytest.approx(np.std(drawn), rel=0.18)


def test_pairs_are_the_paired_t_by_either_weighting() -> None:
    arm, strata, y, _ = read("pairs")
    gaps = np.array(
        [y[(strata == s) & (arm == 1)][0] - y[(strata == s) & (arm == 0)][0] for s in range(1, 15)]
    )
    weightings: tuple[Weighting, ...] = ("precision", "size")
    for weighting in weightings:
        effect = estimated(
            stratified_difference(by_stratum(arm, strata, ["y"], y), outcome="y", weighting=weighting)
        )
        assert effect.absolute == pytest.approx(gaps.mean(), rel=1e-12)
        assert effect.se == pytest.approx(gaps.std(ddof=1) / math.sqrt(14), rel=1e-12)
        assert effect.df == pytest.approx(13, rel=1e-9)


def test_auto_looks_at_the_shares() -> None:
    names = {}
    for name in ("equal_shares", "unequal_shares", "pairs"):
        arm, strata, y, _ = read(name)
        names[name] = estimated(stratified_difference(by_stratum(arm, strata, ["y"], y), outcome="y")).method
    assert names == {
        "equal_shares": "strata-precision",
        "unequal_shares": "strata-size",
        "pairs": "strata-precision",
    }


def test_variance_of_small_strata_of_differing_size_is_unbiased() -> None:
    # Brute force over all assignments: two strata of 2, one of 3, one of 4, one unit treated in each.
    rng = np.random.default_rng(3)
    sizes = [2, 2, 3, 4]
    strata = np.repeat(np.arange(4), sizes)
    control = rng.normal(size=11) * 3
    y1 = control + 1.7  # the same effect on everybody: then the variance must be exactly right on average
    estimates, variances = [], []
    for picks in np.ndindex(*sizes):
        arm = np.zeros(11, dtype=int)
        arm[np.cumsum([0, *sizes[:-1]]) + np.array(picks)] = 1
        effect = estimated(
            stratified_difference(
                by_stratum(arm, strata, ["y"], np.where(arm == 1, y1, control)), outcome="y", weighting="size"
            )
        )
        estimates.append(effect.absolute)
        variances.append(effect.se**2)
    assert np.mean(estimates) == pytest.approx(1.7, rel=1e-12)
    assert np.mean(variances) == pytest.approx(np.var(estimates), rel=1e-10)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["precision", "size"]), st.booleans())
def test_metamorphic(seed: int, weighting: Any, adjust: bool) -> None:
    rng = np.random.default_rng(seed)
    strata = np.repeat(np.arange(5), 9)
    arm = np.concatenate([rng.permutation(np.repeat([0, 1], [4, 5])) for _ in range(5)])
    x = rng.normal(size=45)
    y = rng.normal(size=45) + strata + x
    names = ["y", "x"]
    options: dict[str, Any] = {
        "outcome": "y",
        "covariates": ["x"] if adjust else [],
        "weighting": weighting,
    }
    base = estimated(stratified_difference(by_stratum(arm, strata, names, y, x), **options))
    # Each stratum moved by its own constant: nothing may change.
    moved = estimated(
        stratified_difference(by_stratum(arm, strata, names, y + 100 * strata, x - 50 * strata), **options)
    )
    swapped = estimated(stratified_difference(by_stratum(1 - arm, strata, names, y, x), **options))
    scaled = estimated(stratified_difference(by_stratum(arm, strata, names, 7 * y, x * 3), **options))
    renamed = estimated(stratified_difference(by_stratum(arm, 9 - strata, names, y, x), **options))
    for other, factor in ((moved, 1), (swapped, -1), (scaled, 7), (renamed, 1)):
        assert other.absolute == pytest.approx(factor * base.absolute, rel=1e-8, abs=1e-9)
        assert other.se == pytest.approx(abs(factor) * base.se, rel=1e-9)
        assert other.df == pytest.approx(base.df, rel=1e-9)


def test_strata_with_one_arm_are_left_out_and_named() -> None:
    arm, strata, y, _ = read("equal_shares")
    more = by_stratum(arm, strata, ["y"], y)
    base = estimated(stratified_difference(more, outcome="y"))
    more["alone"] = StratumArms(Moments.from_array([5.0, 6.0], ["y"]), Moments.from_array([], ["y"]))
    effect = estimated(stratified_difference(more, outcome="y"))
    assert (effect.absolute, effect.se) == (base.absolute, base.se)
    assert effect.flags[0] == "1 strata (2 units) left out: they have units of one arm only"


def test_useless_covariates_are_named() -> None:
    arm, strata, y, x = read("equal_shares")
    names = ["y", "x", "constant", "again"]
    cells = by_stratum(arm, strata, names, y, x, strata * 1e6, 2 * x + strata)
    effect = estimated(
        stratified_difference(cells, outcome="y", covariates=["x", "constant", "again"], weighting="size")
    )
    alone = estimated(stratified_difference(cells, outcome="y", covariates=["x"], weighting="size"))
    assert effect.se == pytest.approx(alone.se, rel=1e-9)
    assert [flag.split()[1] for flag in effect.flags if "dropped" in flag] == ["constant", "again"]


def cells(*pairs: tuple[list[float], list[float]]) -> dict[str, StratumArms]:
    return {
        str(i): StratumArms(Moments.from_array(c, ["y"]), Moments.from_array(t, ["y"]))
        for i, (c, t) in enumerate(pairs)
    }


@pytest.mark.parametrize(
    ("strata", "weighting", "words"),
    [
        (cells(([], [1.0, 2.0])), "auto", "control arm is empty"),
        (cells(([1.0], []), ([3.0], [])), "auto", "treatment arm is empty"),
        (cells(([1.0, 2.0], []), ([], [2.0, 4.0])), "auto", "no stratum"),
        (cells(([1.0, 1.0], [2.0, 2.0]), ([5.0], [6.0])), "auto", "no spread"),
        (cells(([0.1, 0.1], [0.1, 0.1, 0.1])), "precision", "no spread"),
        (cells(([1.0], [2.5])), "precision", "no spread"),
        (cells(([1.0], [2.5]), ([1.0], [4.5])), "size", "too few"),
        (cells(([1.0], [2.5]), ([1.0], [4.5]), ([1.0], [4.0, 6.0, 8.0])), "size", "half"),
    ],
)
def test_what_cannot_be_estimated_says_why(
    strata: dict[str, StratumArms], weighting: Any, words: str
) -> None:
    result = stratified_difference(strata, outcome="y", weighting=weighting)
    assert isinstance(result, NotEstimable), result
    assert words in result.reason


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="weighting"):
        stratified_difference({}, outcome="y", weighting="units")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="differ"):
        stratified_difference({}, outcome="y", covariates=["y"])
    with pytest.raises(ValueError, match="'z'"):
        stratified_difference(cells(([1.0, 2.0], [2.0, 3.0])), outcome="z")


def test_coverage_where_shares_and_effects_differ() -> None:
    # Effects 0, 4, 0 in strata of 40, 40, 20 units: the average unit gains 1.6, precision answers otherwise.
    rng = np.random.default_rng(4)
    strata = np.repeat([0, 1, 2], [40, 40, 20])
    shares = np.array([8, 20, 16])
    low = high = precision_misses = 0
    runs = 400
    for _ in range(runs):
        arm = np.concatenate(
            [rng.permutation(np.arange(n) < t) for n, t in zip([40, 40, 20], shares, strict=True)]
        ).astype(int)
        y = rng.normal(size=100) * (1 + arm) + strata + arm * np.array([0.0, 4.0, 0.0])[strata]
        given_cells = by_stratum(arm, strata, ["y"], y)
        effect = estimated(stratified_difference(given_cells, outcome="y", weighting="size"))
        low += effect.ci_lower > 1.6
        high += effect.ci_upper < 1.6
        other = estimated(stratified_difference(given_cells, outcome="y", weighting="precision"))
        precision_misses += not other.ci_lower <= 1.6 <= other.ci_upper
    # Four standard errors of 400 runs at 2.5 % are 3.1 points.
    assert low / runs < 0.056
    assert high / runs < 0.056
    assert 0.01 < (low + high) / runs < 0.09
    assert precision_misses / runs > 0.06
