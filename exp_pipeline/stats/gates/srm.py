"""Sample ratio mismatch: did the arms get the share of units that the plan gave them?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.stats.multiplicity import holm
from exp_pipeline.stats.reference import SMALLEST_P, chi_square_tail

SMALLEST_EXPECTED = 5.0
_MOST_TABLES = 2_000_000
# Prior concentration -> weight. The large ones see small faults at many units; 1 and 10 see gross ones within
# a dozen units, and their small weight costs the others at most a factor 0.9 of evidence.
PRIOR: Mapping[float, float] = MappingProxyType(
    {1.0: 0.05, 10.0: 0.05, 100.0: 0.225, 1_000.0: 0.225, 10_000.0: 0.225, 100_000.0: 0.225}
)


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


@dataclass(frozen=True, slots=True)
class GroupSampleRatio:
    """Does one group (a platform, a stratum, a day) fit the planned shares?

    p_adjusted: by Holm over all groups judged together; `broken` where it is below the level. others_p_value:
    of all other groups put together; large while this group is broken means that it alone carries the
    mismatch. None where there is nothing to test.
    """

    group: str
    p_value: float | None
    p_adjusted: float | None
    broken: bool
    others_p_value: float | None
    observed: Mapping[str, int]
    expected: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SampleRatioByGroup:
    """Which groups do not fit the planned shares? `groups` has the strongest evidence first."""

    groups: tuple[GroupSampleRatio, ...]
    broken: tuple[str, ...]
    alpha: float


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
    concentrations: Sequence[float] | Mapping[float, float] = PRIOR,
) -> SequentialSampleRatio:
    """Do the arms' counts fit the planned shares, when they are checked every day?

    looks: cumulative counts by arm, oldest first, of what was randomised (clusters where clusters were).
    Bayes factor of Dirichlet-multinomial against the planned multinomial (Lindon and Malek 2022,
    "Anytime-valid inference for multinomial count data"), prior centred on the plan; averaged over several
    prior concentrations (with weights, if a mapping), which keeps it a martingale. p at a look is the
    smallest of 1 / Bayes factor so far. Raises ValueError if counts fall from one look to the next.
    """
    if not looks:
        raise ValueError("looks must hold at least one set of cumulative counts, got none")
    weights = (
        dict(concentrations)
        if isinstance(concentrations, Mapping)
        else {float(size): 1.0 for size in concentrations}
    )
    if not weights or min(weights) <= 0 or min(weights.values()) <= 0:
        raise ValueError(f"concentrations and their weights must be positive, got {concentrations!r}")
    planned = [_planned(observed, planned_share) for observed in looks]
    arms, _, shares = planned[-1]
    counts = np.array([row for _, row, _ in planned])
    falls = np.flatnonzero((np.diff(counts, axis=0) < 0).any(axis=1))
    if falls.size:
        raise ValueError(f"looks must be cumulative: counts fall at look {falls[0] + 2}")
    log_evidence = log_bayes_factors(counts, shares, weights)
    path = np.exp(-np.maximum.accumulate(np.maximum(log_evidence, 0.0)))
    path = np.maximum(path, SMALLEST_P)
    return SequentialSampleRatio(
        p_value=float(path[-1]),
        p_values=tuple(map(float, path)),
        log_evidence=float(log_evidence[-1]),
        looks=len(looks),
        observed=dict(zip(arms, map(int, counts[-1]), strict=True)),
        expected=dict(zip(arms, map(float, counts[-1].sum() * shares), strict=True)),
    )


def sample_ratio_by_group(
    groups: Mapping[str, Mapping[str, int]], planned_share: Mapping[str, float], *, alpha: float = 0.01
) -> SampleRatioByGroup:
    """Which platforms, strata or days do not fit the planned shares?

    groups: group -> arm -> units of randomisation (clusters where clusters were randomised). Each group has
    the test of `sample_ratio`; Holm keeps the chance of any false alarm among all groups at alpha. Not safe
    to repeat daily: see `sequential_sample_ratio_by_group`. Raises ValueError as `sample_ratio` does.
    """
    newest = {group: sample_ratio(counts, planned_share) for group, counts in groups.items()}
    p_values = {group: answer.p_value for group, answer in newest.items()}

    def others(group: str) -> float | None:
        return sample_ratio(_sum_of_others(groups, group), planned_share).p_value

    return _ranked_groups(newest, p_values, others, alpha)


def sequential_sample_ratio_by_group(
    groups: Mapping[str, Sequence[Mapping[str, int]]],
    planned_share: Mapping[str, float],
    *,
    alpha: float = 0.01,
) -> SampleRatioByGroup:
    """Which platforms or strata do not fit the planned shares, when they are checked every day?

    groups: group -> cumulative counts by arm, oldest look first, all groups with the same looks. Each group
    has the always-valid p-value of `sequential_sample_ratio`, so Holm over groups holds at every look
    together. Raises ValueError for groups with different numbers of looks.
    """
    lengths = {len(looks) for looks in groups.values()}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(f"groups must all have the same looks, at least one, got {sorted(lengths)} looks")
    newest = {group: sample_ratio(looks[-1], planned_share) for group, looks in groups.items()}
    p_values = {
        group: sequential_sample_ratio(looks, planned_share).p_value
        if newest[group].p_value is not None
        else None
        for group, looks in groups.items()
    }

    def others(group: str) -> float | None:
        rest = [
            _sum_of_others({name: looks[look] for name, looks in groups.items()}, group)
            for look in range(max(lengths))
        ]
        if sample_ratio(rest[-1], planned_share).p_value is None:
            return None
        return sequential_sample_ratio(rest, planned_share).p_value

    return _ranked_groups(newest, p_values, others, alpha)


def _sum_of_others(groups: Mapping[str, Mapping[str, int]], left_out: str) -> dict[str, int]:
    total: dict[str, int] = {}
    for group, counts in groups.items():
        if group != left_out:
            for arm, count in counts.items():
                total[arm] = total.get(arm, 0) + count
    return total


def _ranked_groups(
    newest: Mapping[str, SampleRatio],
    p_values: Mapping[str, float | None],
    others: Callable[[str], float | None],
    alpha: float,
) -> SampleRatioByGroup:
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha!r}")
    adjusted = holm({group: p for group, p in p_values.items() if p is not None})

    def weakness(group: str) -> tuple[float, float, str]:
        p = p_values[group]
        return (2.0 if p is None else p, -(newest[group].statistic or 0.0), group)

    found = []
    for group in sorted(newest, key=weakness):
        answer = newest[group]
        broken = group in adjusted and adjusted[group] <= alpha
        found.append(
            GroupSampleRatio(
                group=group,
                p_value=p_values[group],
                p_adjusted=adjusted.get(group),
                broken=broken,
                others_p_value=others(group),
                observed=answer.observed,
                expected=answer.expected,
            )
        )
    return SampleRatioByGroup(tuple(found), tuple(group.group for group in found if group.broken), alpha)


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


def log_bayes_factors(
    counts: NDArray[np.int64], shares: NDArray[np.float64], weights: Mapping[float, float] = PRIOR
) -> NDArray[np.float64]:
    """How strong is the evidence against the planned shares, in log Bayes factors?

    counts: (..., arms), shares: (arms,) with sum 1. Answers in the shape of counts without its last axis,
    averaged over prior concentrations by weight.
    """
    from scipy import special

    total = counts.sum(axis=-1)
    plain = counts @ np.log(shares)
    logs = []
    for size, weight in weights.items():
        prior = size * shares
        by_arm = special.gammaln(prior + counts) - special.gammaln(prior)
        beside = special.gammaln(size + total) - special.gammaln(size)
        logs.append(by_arm.sum(axis=-1) - beside - plain + math.log(weight))
    averaged: NDArray[np.float64] = special.logsumexp(logs, axis=0) - math.log(sum(weights.values()))
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
