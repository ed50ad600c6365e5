"""Krippendorff's alpha: agreement of any number of raters, any scale, with gaps."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.stats.labels.agreement import label_counts, labels_as_numbers
from exp_pipeline.stats.reference import require_level
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
Scale = Literal["nominal", "ordinal", "interval", "ratio"]

# Distances of all labels from all are held at once.
MOST_LABELS = 1000
# More draws than this share without any spread leave no honest percentile.
_MOST_EMPTY = 0.05


@dataclass(frozen=True, slots=True)
class Alpha:
    """How far do labels agree beyond chance? 1 is full agreement, 0 what chance gives.

    value = 1 - observed / expected disagreement. The interval is that of percentiles over draws of units;
    None with a flag where every unit agrees fully (no draw can then disagree) or where draws are degenerate.
    """

    method: str
    value: float
    ci_lower: float | None
    ci_upper: float | None
    level: float
    draws: int
    observed_disagreement: float
    expected_disagreement: float
    n_units: int
    n_labels: int
    categories: tuple[Hashable, ...]
    flags: tuple[str, ...] = ()


def krippendorff_alpha(
    labels: Sequence[Sequence[Hashable | None]],
    *,
    scale: Scale,
    seed: int,
    categories: Sequence[Hashable] | None = None,
    draws: int = 2000,
    level: float = 0.95,
) -> Alpha | NotEstimable:
    """Do raters agree beyond chance, on this scale?

    labels: one row a unit, one entry a rating, None where missing; units with fewer than two labels take no
    part. scale: "nominal", "ordinal" (ranks follow `categories`, else sorted values), "interval", "ratio"
    (both: numbers). Krippendorff (2011, "Computing Krippendorff's alpha-reliability"), coincidences of
    pairs within units. The interval draws whole units with replacement `draws` times (percentiles), which
    keeps labels of one unit together; `seed` fixes the draws. With two raters and three labels it covers
    93 % at 30 to 100 units and 95 at 300 (1,000 runs).

    NotEstimable without two units of two labels or when all labels are one. Raises ValueError for labels
    that do not fit the scale.
    """
    require_level(level)
    method = f"krippendorff-alpha-{scale}"
    if scale not in ("nominal", "ordinal", "interval", "ratio"):
        raise ValueError(f"scale must be 'nominal', 'ordinal', 'interval' or 'ratio', got {scale!r}")
    if draws < 100:
        raise ValueError(f"draws must be at least 100, got {draws}")
    counts, named = label_counts(labels, categories)
    if len(named) > MOST_LABELS:
        raise ValueError(f"labels take {len(named)} values; round them to at most {MOST_LABELS}")
    counts = counts[counts.sum(axis=1) >= 2]
    units = counts.shape[0]
    if units < 2:
        return NotEstimable(
            method, f"{units} units have two or more labels; agreement needs at least two units"
        )
    if (counts.sum(axis=0) > 0).sum() < 2:
        return NotEstimable(method, f"all labels are {named[int(counts.sum(axis=0).argmax())]!r}")
    size = counts.sum(axis=1)
    fixed = None if scale == "ordinal" else _fixed_distance(scale, named)
    observed, expected = _disagreements(counts, size, np.ones(units), fixed)
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, units, size=(draws, units)) + units * np.arange(draws)[:, None]
    chosen = np.bincount(picks.ravel(), minlength=units * draws).reshape(draws, units).astype(np.float64)
    if fixed is not None:
        by_unit = ((counts @ fixed) * counts).sum(axis=1) / (size - 1.0)
        totals, n = chosen @ counts, chosen @ size
        seen = chosen @ by_unit / n
        chance = ((totals @ fixed) * totals).sum(axis=1) / (n * (n - 1.0))
    else:
        pairs = np.array([_disagreements(counts, size, row, None) for row in chosen])
        seen, chance = pairs[:, 0], pairs[:, 1]
    usable = chance > 0.0
    lower = upper = None
    flags: tuple[str, ...] = ()
    if observed == 0.0:
        flags = ("every unit agrees fully: draws of units cannot tell how sure that is",)
    elif 1.0 - usable.mean() > _MOST_EMPTY:
        flags = (f"{1.0 - usable.mean():.0%} of draws hold one label only: no interval",)
    else:
        tail = 100.0 * (1.0 - level) / 2.0
        found = np.percentile(1.0 - seen[usable] / chance[usable], (tail, 100.0 - tail))
        lower, upper = float(found[0]), float(found[1])
    return Alpha(
        method=method,
        value=1.0 - observed / expected,
        ci_lower=lower,
        ci_upper=upper,
        level=level,
        draws=draws,
        observed_disagreement=observed,
        expected_disagreement=expected,
        n_units=units,
        n_labels=int(size.sum()),
        categories=tuple(named),
        flags=flags,
    )


def _fixed_distance(scale: str, named: Sequence[Hashable]) -> FloatArray:
    """Squared distances between labels (k, k) that do not depend on how often each was given."""
    if scale == "nominal":
        return 1.0 - np.eye(len(named))
    numbers = labels_as_numbers(named)
    gap = np.subtract.outer(numbers, numbers)
    if scale == "interval":
        squared: FloatArray = gap**2
        return squared
    if (numbers < 0).any():
        raise ValueError(f"ratio labels must be at least 0, got {numbers.min():g}")
    total = np.add.outer(numbers, numbers)
    relative: FloatArray = np.divide(gap, total, out=np.zeros_like(gap), where=total > 0) ** 2
    return relative


def _disagreements(
    counts: FloatArray, size: FloatArray, weight: FloatArray, fixed: FloatArray | None
) -> tuple[float, float]:
    """Observed and expected disagreement of units (n, k) taken `weight` times each."""
    totals = weight @ counts
    n = float(totals.sum())
    if fixed is None:
        # Ordinal: half of both ends' labels and all between them.
        below = np.cumsum(totals) - totals / 2.0
        fixed = np.subtract.outer(below, below) ** 2
    by_unit = ((counts @ fixed) * counts).sum(axis=1) / (size - 1.0)
    return float(weight @ by_unit) / n, float(totals @ fixed @ totals) / (n * (n - 1.0))
