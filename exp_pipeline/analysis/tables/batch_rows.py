"""One row a test: all of its arms at once, the smallest p-value of its comparisons, its split of units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.stats.many.families import (
    benjamini_hochberg_all,
    equal_means,
    equal_shares,
    holm_within,
    smallest_expected,
)
from exp_pipeline.stats.moments_table import MomentsTable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Fewer than this expected in a cell, and a chi-square over all arms is rough.
_FEW_EXPECTED = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class BatchArms:
    """One row an arm of a test, arms of one test one after another.

    tests: names (None where the table is one test). test: (arms,) the place of each arm's. names: of the
    arms. estimand: "mean", "proportion" (the mean is the share) or "ratio". missing: rows without a number.
    """

    tests: tuple[str | None, ...]
    test: IntArray
    names: list[str]
    table: MomentsTable
    estimand: str
    missing: IntArray


def batch_rows(
    arms: BatchArms, of: IntArray, p: FloatArray, within: FloatArray, shares: Mapping[str, float]
) -> list[dict[str, Any]]:
    """What does each test say, judged beside all the others?

    of: (comparisons,) the test of each. p, within: their p-values, plain and after Holm within the test; NaN
    where not estimable. shares: planned share by arm; even where empty. Raises ValueError for an arm without
    a share.
    """
    count = len(arms.tests)
    sizes = np.bincount(arms.test, minlength=count)
    start = np.cumsum(sizes) - sizes
    widest = int(sizes.max(initial=0))

    def wide(values: NDArray[Any]) -> FloatArray:
        found = np.zeros((count, widest))
        found[arms.test, np.arange(arms.test.size) - start[arms.test]] = values
        return found

    n, mean = wide(arms.table.n), wide(arms.table.means[:, 0])
    sums = arms.table.products[:, 0, 0]
    within_df: list[float | None] = [None] * count
    method, flags = "welch-anova", np.zeros(count, dtype=bool)
    if arms.estimand == "proportion":
        method = "chi-square"
        successes = np.rint(mean * n)
        statistic, df, overall = equal_shares(successes, n)
        flags = smallest_expected(successes, n) < _FEW_EXPECTED
    else:
        variances = wide(sums / np.maximum(arms.table.n - 1, 1))
        statistic, df, residual, overall = equal_means(mean, variances, n)
        within_df = listed(residual)
        if arms.estimand == "ratio":
            statistic, overall = np.full(count, np.nan), np.full(count, np.nan)
    single = np.bincount(of, minlength=count) == 1
    alone = np.full(count, np.nan)
    alone[of] = p
    smallest = np.full(count, np.inf)
    np.fmin.at(smallest, of, within)
    smallest = np.where(np.isfinite(smallest), smallest, np.nan)
    by_ratio = (arms.estimand == "ratio") & ~single
    judged = np.where(single, alone, np.where(by_ratio, smallest, overall))
    everything = np.zeros(count, dtype=np.int64)
    after_holm, after_bh = holm_within(judged, everything), benjamini_hochberg_all(judged)
    split = _split(arms, shares, n, wide)
    columns: dict[str, list[Any]] = {
        "test": list(arms.tests),
        "arms": sizes.tolist(),
        "n": n.sum(axis=1).astype(np.int64).tolist(),
        "missing": np.bincount(arms.test, weights=arms.missing, minlength=count).astype(np.int64).tolist(),
        "method": np.where(single, "comparison", np.where(by_ratio, "smallest after Holm", method)).tolist(),
        "statistic": listed(np.where(single, np.nan, statistic)),
        "df": np.where(single, 1, df).tolist(),
        "df_within": [None if alone_ else value for alone_, value in zip(single, within_df, strict=True)],
        "p_value": listed(judged),
        "p_holm": listed(after_holm),
        "p_benjamini_hochberg": listed(after_bh),
        "smallest_p_adjusted": listed(smallest),
        "sample_ratio_p": listed(split),
        "sample_ratio_p_holm": listed(holm_within(split, everything)),
        "flags": [
            ["fewer than five expected in an arm: the test of all arms is rough"] if rough else []
            for rough in (flags & ~single).tolist()
        ],
    }
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _split(
    arms: BatchArms,
    shares: Mapping[str, float],
    n: FloatArray,
    wide: Callable[[NDArray[Any]], FloatArray],
) -> FloatArray:
    """The p-value of each test's counts against its planned split. NaN with one arm or no units."""
    from scipy import special

    if shares:
        unknown = [name for name in arms.names if name not in shares]
        if unknown:
            raise ValueError(f"--shares gives no share to arm {unknown[0]!r}; it names: {', '.join(shares)}")
        weights = wide(np.array([shares[name] for name in arms.names]))
    else:
        weights = wide(np.ones(arms.test.size))
    total = n.sum(axis=1)
    planned = weights / np.maximum(weights.sum(axis=1), 1e-300)[:, None]
    expected = total[:, None] * planned
    parts = np.where(expected > 0, (n - expected) ** 2 / np.where(expected > 0, expected, 1.0), 0.0)
    df = (weights > 0).sum(axis=1) - 1
    usable = (df >= 1) & (total > 0)
    p = special.chdtrc(np.maximum(df, 1), parts.sum(axis=1))
    return np.where(usable, np.maximum(p, np.finfo(np.float64).tiny), np.nan)


def listed(values: FloatArray) -> list[float | None]:
    """Numbers for JSON: NaN becomes nothing."""
    return [None if np.isnan(value) else float(value) for value in values]
