"""P-values of thousands of families at once, and one test for all arms of each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.stats.reference import SMALLEST_P
from exp_pipeline.stats.tails import chi_square_tails

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def holm_within(p: FloatArray, family: NDArray[np.integer]) -> FloatArray:
    """What are the p-values after Holm (1979) within each family? `multiplicity.holm`, family by family.

    p: (n,), NaN for what could not be estimated, which counts for nothing and stays NaN. family: (n,) whole
    numbers.
    """
    order, rank, size = _ranked(p, family)
    return _spread(p, order, _running_highest(np.minimum(1.0, (size - rank) * p[order]), rank))


def benjamini_hochberg_all(p: FloatArray) -> FloatArray:
    """What are the p-values after Benjamini and Hochberg (1995), as one family? NaN stays NaN."""
    order, rank, size = _ranked(p, np.zeros(p.shape, dtype=np.int64))
    scaled = p[order] * size / (rank + 1.0)
    return _spread(p, order, np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1]))


def _ranked(p: FloatArray, family: NDArray[np.integer]) -> tuple[IntArray, IntArray, IntArray]:
    """Rows with a p-value by family and p; the rank of each in its family, from 0; the family's size."""
    wrong = p[~np.isnan(p) & ~((p >= 0.0) & (p <= 1.0))]
    if wrong.size:
        raise ValueError(f"p must lie between 0 and 1, got {float(wrong[0])!r}")
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.lexsort((p[known], family[known]))]
    sorted_family = family[order]
    first = np.flatnonzero(np.diff(sorted_family, prepend=sorted_family[:1] - 1))
    sizes = np.diff(np.append(first, order.size))
    return order, np.arange(order.size) - np.repeat(first, sizes), np.repeat(sizes, sizes)


def _running_highest(values: FloatArray, rank: IntArray) -> FloatArray:
    """The highest so far within each family; families lie one after another, ranks from 0."""
    found = values.copy()
    # Doubling steps: after the step of width w each entry is the highest of the 2w before it.
    width, longest = 1, int(rank.max(initial=0))
    while width <= longest:
        earlier = np.concatenate((np.full(width, -np.inf), found[:-width]))
        found = np.where(rank >= width, np.maximum(found, earlier), found)
        width *= 2
    return found


def _spread(p: FloatArray, order: IntArray, values: FloatArray) -> FloatArray:
    found = np.full(p.shape, np.nan)
    found[order] = values
    return found


def equal_shares(successes: FloatArray, n: FloatArray) -> tuple[FloatArray, IntArray, FloatArray]:
    """Have all arms of a test one share of successes? Pearson's chi-square, test by test.

    successes, n: (tests, arms), n = 0 where a test has fewer arms. Answers statistic, df and p-value,
    (tests,); NaN (and p NaN) where fewer than two arms have units or the outcome never varies.
    """
    arms = (n > 0).sum(axis=1)
    total = n.sum(axis=1)
    share = successes.sum(axis=1) / np.maximum(total, 1.0)
    spread = share * (1.0 - share)
    usable = (arms >= 2) & (spread > 0.0)
    expected = n * share[:, None]
    # Successes and failures together: (x - e)^2 / e + (x - e)^2 / (n - e).
    weight = np.where(usable, spread, 1.0)[:, None] * np.maximum(n, 1.0)
    statistic = np.where(n > 0, (successes - expected) ** 2 / weight, 0.0).sum(axis=1)
    df = np.maximum(arms - 1, 0).astype(np.int64)
    p = np.clip(chi_square_tails(statistic, np.maximum(df, 1)), SMALLEST_P, 1.0)
    return np.where(usable, statistic, np.nan), df, np.where(usable, p, np.nan)


def smallest_expected(successes: FloatArray, n: FloatArray) -> FloatArray:
    """How many successes or failures does the emptiest cell of each test expect? As in `equal_shares`."""
    share = successes.sum(axis=1) / np.maximum(n.sum(axis=1), 1.0)
    rarer = np.minimum(share, 1.0 - share)
    return np.asarray(np.min(np.where(n > 0, n * rarer[:, None], np.inf), axis=1), dtype=np.float64)


def equal_means(
    means: FloatArray, variances: FloatArray, n: FloatArray
) -> tuple[FloatArray, IntArray, FloatArray, FloatArray]:
    """Have all arms of a test one mean? Welch's (1951) analysis of variance, test by test.

    means, variances (divisor n - 1), n: (tests, arms), n = 0 where a test has fewer arms. Answers F, both
    degrees of freedom and the p-value, (tests,); NaN where fewer than two arms have two units, or one of
    them has no spread.
    """
    from scipy import special

    there = n > 0
    arms = there.sum(axis=1)
    usable = (arms >= 2) & (~there | ((n >= 2) & (variances > 0.0))).all(axis=1)
    live = there & usable[:, None]
    weight = np.where(live, n / np.where(live, variances, 1.0), 0.0)
    total = np.where(usable, weight.sum(axis=1), 1.0)
    centre = (weight * means).sum(axis=1) / total
    k = np.where(usable, arms, 2).astype(np.float64)
    between = (weight * (means - centre[:, None]) ** 2).sum(axis=1) / (k - 1.0)
    lack = np.where(live, (1.0 - weight / total[:, None]) ** 2 / np.maximum(n - 1.0, 1.0), 0.0).sum(axis=1)
    lack = np.where(usable, lack, 1.0)
    statistic = between / (1.0 + 2.0 * (k - 2.0) / (k**2 - 1.0) * lack)
    df_within = (k**2 - 1.0) / (3.0 * lack)
    p = np.maximum(special.fdtrc(k - 1.0, df_within, statistic), SMALLEST_P)
    nothing = np.nan
    return (
        np.where(usable, statistic, nothing),
        np.maximum(arms - 1, 0).astype(np.int64),
        np.where(usable, df_within, nothing),
        np.where(usable, p, nothing),
    )
