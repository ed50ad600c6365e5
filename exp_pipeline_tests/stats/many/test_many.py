"""The estimators on arrays are the scalar ones: cell by cell, odd cells among them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.effects.adjustment import adjusted_difference, adjusted_ratio
from exp_pipeline.stats.effects.means import difference_in_means, difference_in_proportions
from exp_pipeline.stats.effects.ratios import difference_in_ratios
from exp_pipeline.stats.effects.skew import ThirdMoments
from exp_pipeline.stats.many.effects import Answer, ManyEffects, many_adjusted, many_means, many_ratios
from exp_pipeline.stats.many.families import benjamini_hochberg_all, equal_means, equal_shares, holm_within
from exp_pipeline.stats.many.proportions import many_proportions
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.moments_table import Grouping, MomentsTable
from exp_pipeline.stats.multiplicity import benjamini_hochberg, holm

CELLS = 12


def same(many: Answer, one: Answer) -> None:
    assert type(many) is type(one), (many, one)
    for field in fields(many):
        left, right = getattr(many, field.name), getattr(one, field.name)
        if isinstance(left, float) and isinstance(right, float):
            # The same formulas in another order of summing; gammaln and lgamma differ by some ulp of 1e7.
            assert left == right or math.isclose(left, right, rel_tol=2e-8, abs_tol=1e-11), (
                field.name,
                many,
                one,
            )
        else:
            assert left == right, (field.name, many, one)


@pytest.mark.parametrize("seed", range(12))
def test_cells_are_answered_as_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # From empty cells and cells of one unit to thousands; constants; covariates that repeat one another.
    sizes = np.concatenate([[0, 1, 2, 3, 4, 5], rng.integers(2, 900, 2 * CELLS - 6)])
    rng.shuffle(sizes)
    codes = np.repeat(np.arange(2 * CELLS), sizes)
    n = codes.size
    level = rng.normal(0, 3, 2 * CELLS)[codes]
    y = level + rng.normal(size=n) * rng.choice([0.0, 1.0, 5.0], 2 * CELLS, p=[0.15, 0.6, 0.25])[codes]
    x = 0.6 * y + rng.normal(size=n)
    x = np.where(codes % CELLS == 3, 7.0, x)
    twin = np.where(codes % 5 == 0, 2.0 * x - 1.0, rng.normal(size=n))
    base = rng.poisson(0.3, n).astype(float) * rng.choice([0, 1, 1, 1], 2 * CELLS)[codes]
    table = MomentsTable.of_columns(
        [y, x, twin, base], Grouping.of(codes, 2 * CELLS), ("y", "x", "twin", "base")
    )
    control, treatment = table.take(slice(0, CELLS)), table.take(slice(CELLS, None))
    scalar: list[tuple[ManyEffects, Callable[[Moments, Moments], Answer]]] = [
        (
            many_means(control, treatment, outcome="y", level=0.9),
            lambda c, t: difference_in_means(c, t, outcome="y", level=0.9),
        ),
        (
            many_adjusted(control, treatment, outcome="y", covariates=("x",)),
            lambda c, t: adjusted_difference(c, t, outcome="y", covariates=("x",)),
        ),
        (
            many_adjusted(control, treatment, outcome="y", covariates=("x", "twin")),
            lambda c, t: adjusted_difference(c, t, outcome="y", covariates=("x", "twin")),
        ),
        (
            many_ratios(control, treatment, numerator="y", denominator="base"),
            lambda c, t: difference_in_ratios(c, t, numerator="y", denominator="base"),
        ),
        (
            many_ratios(control, treatment, numerator="y", denominator="base", covariates=("x", "twin")),
            lambda c, t: adjusted_ratio(c, t, numerator="y", denominator="base", covariates=("x", "twin")),
        ),
    ]
    for many, one in scalar:
        assert len(many) == CELLS
        for place in range(CELLS):
            same(many.at(place), one(control.group(place), treatment.group(place)))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.6), st.floats(0.02, 0.98), st.floats(0.2, 5.0))
def test_skewed_cells_are_answered_as_one_by_one(
    seed: int, skew: float, share: float, stretch: float
) -> None:
    rng = np.random.default_rng(seed)
    sizes = np.concatenate([[1, 2, 3, 4], rng.integers(5, 3_000, CELLS - 4)])
    n_c = np.maximum((sizes * share).astype(np.int64), 1)
    codes = np.repeat(np.arange(2 * CELLS), np.concatenate([n_c, sizes]))
    rows = np.exp(skew * rng.normal(size=codes.size)) * np.where(codes < CELLS, 1.0, stretch)
    rows[codes == CELLS - 1] = rows[codes == 2 * CELLS - 1] = 3.0
    table = MomentsTable.of_columns([rows], Grouping.of(codes, 2 * CELLS), ("y",), third=True)
    control, treatment = table.take(slice(0, CELLS)), table.take(slice(CELLS, None))
    many = many_means(control, treatment, outcome="y")
    for place in range(CELLS):
        arms = rows[codes == place], rows[codes == place + CELLS]
        one = difference_in_means(
            control.group(place),
            treatment.group(place),
            outcome="y",
            control_shape=ThirdMoments.from_array(arms[0]),
            treatment_shape=ThirdMoments.from_array(arms[1]),
        )
        same(many.at(place), one)


def test_unequal_arms_of_skewed_values_are_corrected_and_others_are_not() -> None:
    rng = np.random.default_rng(3)
    sizes = np.array([40, 40, 4_000, 360, 40, 4_000])
    codes = np.repeat(np.arange(6), sizes)
    table = MomentsTable.of_columns(
        [rng.exponential(size=codes.size)], Grouping.of(codes, 6), ("y",), third=True
    )
    many = many_means(table.take(slice(0, 3)), table.take(slice(3, 6)), outcome="y")
    assert [many.at(place).method for place in range(3)] == ["welch-skew", "welch", "welch"]
    bare = MomentsTable(table.n, table.centres, table.rests, table.products, table.names)
    unaware = many_means(bare.take(slice(0, 3)), bare.take(slice(3, 6)), outcome="y")
    assert unaware.special == {}
    assert unaware.ci_lower[2] == many.ci_lower[2]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 400)] * 4), min_size=1, max_size=8))
def test_shares_are_answered_as_one_by_one(counts: list[tuple[int, int, int, int]]) -> None:
    n_c, n_t = (np.array([max(row[a : a + 2]) for row in counts]) for a in (0, 2))
    x_c, x_t = (np.array([min(row[a : a + 2]) for row in counts]) for a in (0, 2))
    many = many_proportions(x_c, n_c, x_t, n_t)
    for place, row in enumerate(zip(x_c, n_c, x_t, n_t, strict=True)):
        one = difference_in_proportions(*(int(number) for number in row))
        same(many.at(place), one)


def test_far_tails_keep_their_digits() -> None:
    many = many_proportions(np.array([10]), np.array([100_000]), np.array([9_000]), np.array([100_000]))
    one = difference_in_proportions(10, 100_000, 9_000, 100_000)
    same(many.at(0), one)
    assert 0.0 < many.p_value[0] < 1e-300


def test_more_successes_than_units_are_named() -> None:
    with pytest.raises(ValueError, match=r"treatment_successes .* got 9 of 8 in cell 1"):
        many_proportions(np.array([1, 1]), np.array([5, 5]), np.array([1, 9]), np.array([8, 8]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.floats(0, 1))), min_size=1, max_size=40))
def test_families_are_corrected_as_one_by_one(rows: list[tuple[int, float | None]]) -> None:
    family = np.array([name for name, _ in rows])
    p = np.array([math.nan if value is None else value for _, value in rows])
    within, together = holm_within(p, family), benjamini_hochberg_all(p)
    known = {str(place): value for place, (_, value) in enumerate(rows) if value is not None}
    everything = benjamini_hochberg(known)
    for name in set(family.tolist()):
        alone = holm({key: value for key, value in known.items() if rows[int(key)][0] == name})
        for key, value in alone.items():
            assert within[int(key)] == pytest.approx(value, rel=1e-12)
            assert together[int(key)] == pytest.approx(everything[key], rel=1e-12)
    assert (np.isnan(within) == np.isnan(p)).all()
    assert (np.isnan(together) == np.isnan(p)).all()


def test_p_values_outside_zero_and_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        holm_within(np.array([0.1, 1.5]), np.array([0, 0]))


def test_all_arms_at_once_as_scipy_and_statsmodels_say() -> None:
    from scipy import stats
    from statsmodels.stats.oneway import anova_oneway

    rng = np.random.default_rng(8)
    n = np.array([[500.0, 400.0, 600.0], [80.0, 70.0, 0.0]])
    x = np.array([[50.0, 61.0, 75.0], [9.0, 30.0, 0.0]])
    statistic, df, p = equal_shares(x, n)
    for place, arms in enumerate((3, 2)):
        counts = np.stack([x[place, :arms], n[place, :arms] - x[place, :arms]])
        found = stats.chi2_contingency(counts, correction=False)
        assert (statistic[place], df[place]) == (pytest.approx(found.statistic, rel=1e-12), arms - 1)
        assert p[place] == pytest.approx(found.pvalue, rel=1e-9)
    groups = [rng.normal(mean, sd, size) for mean, sd, size in ((0, 1, 40), (0.4, 2, 25), (0.1, 0.5, 90))]
    means = np.array([[part.mean() for part in groups]])
    variances = np.array([[part.var(ddof=1) for part in groups]])
    f, between, within, p = equal_means(means, variances, np.array([[40.0, 25.0, 90.0]]))
    found = anova_oneway(groups, use_var="unequal")
    assert f[0] == pytest.approx(found.statistic, rel=1e-10)
    assert (between[0], within[0]) == (2, pytest.approx(found.df_denom, rel=1e-10))
    assert p[0] == pytest.approx(found.pvalue, rel=1e-9)


def test_tests_without_spread_or_arms_have_no_p() -> None:
    assert np.isnan(
        equal_shares(np.array([[0.0, 0.0], [3.0, 0.0]]), np.array([[5.0, 5.0], [9.0, 0.0]]))[2]
    ).all()
    assert np.isnan(equal_means(np.zeros((1, 2)), np.array([[1.0, 0.0]]), np.array([[5.0, 5.0]]))[3]).all()
