"""Before any effect of a unit table: did the arms get their shares, and did as many stay in each?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.stats.gates.srm import SampleRatio, sample_ratio
from exp_pipeline.stats.many.families import equal_shares

ATTRITION_ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class ArmRow:
    """One arm: rows of the table, and randomised units (clusters where clusters were)."""

    arm: str
    rows: int
    randomised: int
    planned_share: float | None


@dataclass(frozen=True, slots=True)
class SampleRatioRow:
    """Do the arms' counts fit the planned shares?

    verdict: "pass", "fail", "cannot_tell"; "warn" where no shares were given and the split is not even.
    """

    counted: str
    verdict: str
    method: str
    statistic: float | None
    df: int
    p_value: float | None
    observed: dict[str, int]
    expected: dict[str, float]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AttritionRow:
    """How many rows of each arm have no outcome, and does that differ between arms?"""

    outcome: str
    rows: dict[str, int]
    missing: dict[str, int]
    rates: dict[str, float | None]
    method: str
    statistic: float | None
    df: int | None
    p_value: float | None
    differs: bool
    flags: tuple[str, ...] = ()


def sample_ratio_row(
    counts: Mapping[str, int], shares: Mapping[str, float], counted: str, alpha: float
) -> SampleRatioRow:
    """Do the counts fit the planned shares, or an even split where none were given?

    An arm that was planned and is not there counts as empty. Raises ValueError for an arm without a share.
    """
    if not shares:
        even = sample_ratio(counts, dict.fromkeys(counts, 1.0))
        flag = "no planned shares were given: tested against an even split"
        verdict = _verdict(even.p_value, alpha, failed="warn")
        return _sample_ratio_row(even, counted, verdict, (flag,))
    without = [arm for arm in counts if arm not in shares]
    if without:
        raise ValueError(f"--shares gives no share to arm {without[0]!r}; it names: {', '.join(shares)}")
    found = sample_ratio(counts, shares)
    return _sample_ratio_row(found, counted, _verdict(found.p_value, alpha, failed="fail"), ())


def _verdict(p_value: float | None, alpha: float, *, failed: str) -> str:
    return "cannot_tell" if p_value is None else failed if p_value < alpha else "pass"


def _sample_ratio_row(
    found: SampleRatio, counted: str, verdict: str, flags: tuple[str, ...]
) -> SampleRatioRow:
    return SampleRatioRow(
        counted,
        verdict,
        found.method,
        found.statistic,
        found.df,
        found.p_value,
        dict(found.observed),
        {arm: float(value) for arm, value in found.expected.items()},
        (*flags, *found.flags),
    )


def attrition_row(
    outcome: str,
    arms: Sequence[str],
    rows: NDArray[np.integer],
    missing: NDArray[np.integer],
    *,
    p_clustered: float | None = None,
    clustered: bool = False,
) -> AttritionRow:
    """Does the share of rows without an outcome differ between arms?

    rows, missing: (arms,). Chi-square over all arms; where clusters were randomised, `p_clustered` is the
    smallest p-value of an arm against control by cluster, after Holm.
    """
    n = np.asarray(rows, dtype=np.float64)[None, :]
    statistic, df, p = equal_shares(np.asarray(missing, dtype=np.float64)[None, :], n)
    flags: tuple[str, ...] = ()
    if clustered:
        method, number, freedom, p_value = "by cluster", None, None, p_clustered
    else:
        known = not np.isnan(p[0])
        method, number, freedom = "chi-square", float(statistic[0]) if known else None, int(df[0])
        p_value = float(p[0]) if known else None
    if not missing.sum():
        flags = ("every row has this outcome",)
    return AttritionRow(
        outcome,
        {arm: int(count) for arm, count in zip(arms, rows, strict=True)},
        {arm: int(count) for arm, count in zip(arms, missing, strict=True)},
        {arm: float(m / r) if r else None for arm, r, m in zip(arms, rows, missing, strict=True)},
        method,
        number,
        freedom,
        p_value,
        p_value is not None and p_value < ATTRITION_ALPHA,
        flags,
    )
