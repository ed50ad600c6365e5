"""Sample ratio mismatch: did the arms get the share of units that the plan gave them?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.stats.reference import chi_square_tail

SMALLEST_EXPECTED = 5.0
_MOST_TABLES = 2_000_000
# Averaged over these, the test is quick for gross faults and still sees small ones at many units.
CONCENTRATIONS = (100.0, 1_000.0, 10_000.0, 100_000.0)


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """Do the counts fit the planned shares? `method` is "chi-square", "exact-multinomial" or "not-testable".

    observed and expected hold the planned arms in the plan's order. `p_value` and `statistic` are None when
    there is nothing to test (no unit yet, or one planned arm); `flags` then says so.
    """

    statistic: float | None
    df: int
    p_value: float | None
    method: str
    observed: Mapping[str, int]
    expected: Mapping[str, float]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SequentialSampleRatio:
    """Do the counts fit the planned shares, however often one looks?

    `p_value` is the smallest always-valid p so far, `p_values` its path by look, `log_evidence` the log
    Bayes factor at the newest look. Acting when p_value <= alpha is wrong at most alpha of the time over
    all looks together.
    """

    p_value: float
    p_values: tuple[float, ...]
    log_evidence: float
    looks: int
    observed: Mapping[str, int]
    expected: Mapping[str, float]
    method: str = field(default="dirichlet-multinomial")


def sample_ratio(observed: Mapping[str, int], planned_share: Mapping[str, float]) -> SampleRatio:
    """Do the arms' counts fit the planned shares?

    observed: arm -> units of randomisation (clusters where clusters were randomised). planned_share: arm ->
    share or weight; only the proportions matter. Pearson's chi-square; where some arm expects fewer than
    five units, the exact multinomial test (sum of the probabilities of all tables no likelier than this
    one), as long as it has at most two million tables. An arm planned at zero leaves sum and degrees of
    freedom. Raises ValueError for units in an arm without planned share, for negative counts or shares. Not
    safe to repeat daily: see `sequential_sample_ratio`.
    """
    arms, counts, shares = _planned(observed, planned_share)
    n = int(counts.sum())
    expected = n * shares
    named_observed = dict(zip(arms, map(int, counts), strict=True))
    named_expected = dict(zip(arms, map(float, expected), strict=True))
    df = len(arms) - 1
    if df < 1 or n == 0:
        why = "no units yet" if n == 0 else "only one arm has a planned share"
        return SampleRatio(None, df, None, "not-testable", named_observed, named_expected, (why,))
    statistic = float(np.sum((counts - expected) ** 2 / expected))
    flags: tuple[str, ...] = ()
    if expected.min() < SMALLEST_EXPECTED:
        if math.comb(n + df, df) <= _MOST_TABLES:
            p_value = _exact_multinomial(counts, shares)
            return SampleRatio(statistic, df, p_value, "exact-multinomial", named_observed, named_expected)
        flags = ("an arm expects fewer than five units and the exact test is too large: p is approximate",)
    return SampleRatio(
        statistic,
        df,
        chi_square_tail(statistic, df),
        "chi-square",
        named_observed,
        named_expected,
        flags,
    )


def sequential_sample_ratio(
    looks: Sequence[Mapping[str, int]],
    planned_share: Mapping[str, float],
    *,
    concentrations: Sequence[float] = CONCENTRATIONS,
) -> SequentialSampleRatio:
    """Do the arms' counts fit the planned shares, when they are checked every day?

    looks: cumulative counts by arm, oldest first. Bayes factor of Dirichlet-multinomial against the planned
    multinomial (Lindon and Malek 2022, "Anytime-valid inference for multinomial count data"), prior centred
    on the plan; averaged over several prior concentrations, which keeps it a martingale. p at a look is the
    smallest of 1 / Bayes factor so far. Raises ValueError if counts fall from one look to the next.
    """
    if not looks:
        raise ValueError("looks must hold at least one set of cumulative counts, got none")
    if not concentrations or min(concentrations) <= 0:
        raise ValueError(f"concentrations must be positive, got {tuple(concentrations)!r}")
    planned = [_planned(observed, planned_share) for observed in looks]
    arms, _, shares = planned[-1]
    counts = np.array([row for _, row, _ in planned])
    falls = np.flatnonzero((np.diff(counts, axis=0) < 0).any(axis=1))
    if falls.size:
        raise ValueError(f"looks must be cumulative: counts fall at look {falls[0] + 2}")
    log_evidence = _log_bayes_factors(counts, shares, concentrations)
    path = np.exp(-np.maximum.accumulate(np.maximum(log_evidence, 0.0)))
    return SequentialSampleRatio(
        p_value=float(path[-1]),
        p_values=tuple(map(float, path)),
        log_evidence=float(log_evidence[-1]),
        looks=len(looks),
        observed=dict(zip(arms, map(int, counts[-1]), strict=True)),
        expected=dict(zip(arms, map(float, counts[-1].sum() * shares), strict=True)),
    )


def _planned(
    observed: Mapping[str, int], planned_share: Mapping[str, float]
) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.float64]]:
    for arm, share in planned_share.items():
        if not (math.isfinite(share) and share >= 0):
            raise ValueError(f"planned_share of {arm!r} must be a number of at least 0, got {share!r}")
    for arm, count in observed.items():
        if count < 0 or count != int(count):
            raise ValueError(f"observed of {arm!r} must be a whole number of at least 0, got {count!r}")
        if count > 0 and planned_share.get(arm, 0.0) == 0.0:
            raise ValueError(f"observed holds {count} units in arm {arm!r}, which has no planned share")
    arms = tuple(arm for arm, share in planned_share.items() if share > 0)
    if not arms:
        raise ValueError("planned_share must give at least one arm a share above 0")
    counts = np.array([int(observed.get(arm, 0)) for arm in arms], dtype=np.int64)
    weights = np.array([planned_share[arm] for arm in arms], dtype=np.float64)
    return arms, counts, weights / weights.sum()


def _log_bayes_factors(
    counts: NDArray[np.int64], shares: NDArray[np.float64], concentrations: Sequence[float]
) -> NDArray[np.float64]:
    """Log Bayes factor at each look: counts (looks, arms), averaged over the prior concentrations."""
    from scipy import special

    size = np.array(concentrations, dtype=np.float64)[:, None, None]
    prior = size * shares
    by_arm = special.gammaln(prior + counts) - special.gammaln(prior) - counts * np.log(shares)
    total = counts.sum(axis=1)
    logs = by_arm.sum(axis=2) - special.gammaln(size[:, :, 0] + total) + special.gammaln(size[:, :, 0])
    averaged: NDArray[np.float64] = special.logsumexp(logs, axis=0) - math.log(len(concentrations))
    return averaged


def _exact_multinomial(counts: NDArray[np.int64], shares: NDArray[np.float64]) -> float:
    from scipy import special

    n = int(counts.sum())
    log_factorial = special.gammaln(np.arange(n + 1) + 1.0)
    left = np.array([n])
    log_p = np.array([log_factorial[n]])
    for share in shares[:-1]:
        repeats = left + 1
        starts = np.cumsum(repeats) - repeats
        drawn = np.arange(int(repeats.sum())) - np.repeat(starts, repeats)
        log_p = np.repeat(log_p, repeats) + drawn * math.log(share) - log_factorial[drawn]
        left = np.repeat(left, repeats) - drawn
    log_p = log_p + left * math.log(shares[-1]) - log_factorial[left]
    seen = log_factorial[n] + float(np.sum(counts * np.log(shares) - log_factorial[counts]))
    # Tables exactly as likely as the one seen must count, whatever their rounding.
    return float(min(1.0, np.exp(log_p[log_p <= seen + 1e-7]).sum()))
