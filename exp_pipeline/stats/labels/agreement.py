"""Do people who label the same things agree, beyond what chance would give?"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.stats.effects.means import wilson_interval
from exp_pipeline.stats.labels.label_sampling import StratifiedSample
from exp_pipeline.stats.reference import require_level, two_sided_critical
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Weights = Literal["none", "linear", "quadratic"]
Result = TypeVar("Result")


# Units from which intervals of kappa and AC1 cover 93.5-96.5 % where labels are about even (89.5 % at 60
# units of which a tenth has the rarer label).
FEWEST_RATED = 200


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far do labels agree beyond chance? 1 is full agreement, 0 what chance gives.

    `observed` and `expected` are the (weighted) shares of agreement; value = (observed - expected) / (1 -
    expected). `se` is None where agreement is full: the interval then takes Wilson's bound for the observed
    share. `n_units` were labelled by at least two people, `n_labels` counts their labels.
    """

    method: str
    value: float
    se: float | None
    ci_lower: float
    ci_upper: float
    df: float
    level: float
    observed: float
    expected: float
    n_units: int
    n_labels: int
    categories: tuple[Hashable, ...]
    flags: tuple[str, ...] = ()


def cohen_kappa(
    first: Sequence[Hashable],
    second: Sequence[Hashable],
    *,
    categories: Sequence[Hashable] | None = None,
    weights: Weights = "none",
    sample: StratifiedSample | None = None,
    level: float = 0.95,
) -> Agreement | NotEstimable:
    """Do two raters agree beyond chance on the same units?

    first, second: (n,) labels of the same units. categories: all labels, in order of rank where weights
    matter; by default those seen, sorted. Cohen (1960, 1968): agreement of labels i and j counts 1 if equal
    ("none"), 1 - |i - j| / (k - 1) ("linear") or 1 - (i - j)^2 / (k - 1)^2 ("quadratic"). Standard error of
    Fleiss, Cohen and Everitt (1969, equation 13), which is that of the linearised kappa. With `sample`, rows
    weigh by the units they stand for and the variance is design-based.

    NotEstimable for fewer than two units, or when both raters gave one and the same label only. Raises
    ValueError for labels outside `categories` or lengths that differ.
    """
    require_level(level)
    if weights not in ("none", "linear", "quadratic"):
        raise ValueError(f"weights must be 'none', 'linear' or 'quadratic', got {weights!r}")
    n = len(first)
    if len(second) != n:
        raise ValueError(f"first and second must have one length, got {n} and {len(second)}")
    method = "cohen-kappa" if weights == "none" else f"cohen-kappa-{weights}"
    if n < 2:
        return NotEstimable(method, f"{n} units were labelled; agreement needs at least two")
    named = _named([*first, *second], categories)
    place = {label: i for i, label in enumerate(named)}
    left = np.array([place[label] for label in first], dtype=np.int64)
    right = np.array([place[label] for label in second], dtype=np.int64)
    row_weight = np.full(n, 1.0 / n)
    if sample is not None:
        if sample.codes.size != n:
            raise ValueError(f"sample must have {n} rows, got {sample.codes.size}")
        if sample.problem is not None:
            return NotEstimable(method, sample.problem)
        row_weight = sample.weights / sample.weights.sum()
    k = len(named)
    if k < 2:
        return NotEstimable(method, f"all labels are {named[0]!r}: chance agreement is already full")
    table = np.zeros((k, k))
    np.add.at(table, (left, right), row_weight)
    distance = np.abs(np.subtract.outer(np.arange(k), np.arange(k))) / (k - 1.0)
    credit = {"none": (distance == 0).astype(np.float64), "linear": 1.0 - distance}.get(
        weights, 1.0 - distance**2
    )
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    by_row, by_column = credit @ columns, rows @ credit
    observed, expected = float((credit * table).sum()), float(rows @ by_row)
    if 1.0 - expected < 1e-12:
        return NotEstimable(
            method, f"both raters used {named[int(rows.argmax())]!r} only: nothing can differ"
        )
    value = (observed - expected) / (1.0 - expected)
    influence = (
        (credit[left, right] - observed) - (1.0 - value) * (by_row[left] + by_column[right] - 2.0 * expected)
    ) / (1.0 - expected)
    df = n - 1.0
    if sample is None:
        variance = float(influence @ influence) / n**2
    else:
        variance, df = sample.variance(influence), sample.df
        method += "-stratified"
    effective = 1.0 / float(row_weight @ row_weight)
    return _result(
        method, value, variance, df, level, observed, expected, n, 2 * n, tuple(named), effective_n=effective
    )


def fleiss_kappa(
    labels: Sequence[Sequence[Hashable | None]],
    *,
    categories: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Agreement | NotEstimable:
    """Do several raters agree beyond chance, where chance draws from the shares of labels over all of them?

    labels: one row a unit, one entry a rating; None is missing, rows may differ in length and in who rated.
    Fleiss (1971), with pairs within each unit for unequal numbers of ratings; linearised variance over
    units (Gwet 2008, 2021), which does not suppose that there is no agreement. Units with one rating count
    in the shares of labels only.

    NotEstimable without two units of two ratings, or with one label only.
    """
    return _several("fleiss-kappa", labels, categories, level)


def gwet_ac1(
    labels: Sequence[Sequence[Hashable | None]],
    *,
    categories: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Agreement | NotEstimable:
    """Do several raters agree beyond chance, where chance needs both doubt and luck?

    labels as in `fleiss_kappa`. Gwet (2008): chance agreement is the sum of share x (1 - share) over k - 1,
    which does not fall to no agreement when one label is very common, as kappa does. Name all `categories`
    that were allowed: their number enters. At 20 to 60 units intervals cover 93 %, and 5 to 7 % of them lie
    wholly above the truth: read their lower end with care.

    NotEstimable without two units of two ratings, or with one category only.
    """
    return _several("gwet-ac1", labels, categories, level)


def by_version(
    version: Sequence[Hashable], estimate: Callable[..., Result], *columns: Sequence[Any], **options: Any
) -> Mapping[Hashable, Result]:
    """What does each rubric version give? Calls `estimate` with the rows of one version at a time.

    version: (n,); columns: each (n,), handed on in order. Versions come in order of their name. Labels made
    under different rubrics answer different questions, so they are never pooled here.
    """
    for at, column in enumerate(columns):
        if len(column) != len(version):
            raise ValueError(f"columns[{at}] must have {len(version)} rows, got {len(column)}")
    rows: dict[Hashable, list[int]] = {}
    for i, name in enumerate(version):
        rows.setdefault(name, []).append(i)
    return {
        name: estimate(*([column[i] for i in rows[name]] for column in columns), **options)
        for name in sorted(rows, key=str)
    }


def missing(label: object) -> bool:
    """Is this no label? None, or not a number."""
    return label is None or (isinstance(label, float) and math.isnan(label))


def _named(labels: Sequence[Hashable], categories: Sequence[Hashable] | None) -> list[Hashable]:
    seen = set(labels)
    if categories is None:
        try:
            return sorted(seen)  # type: ignore[type-var]
        except TypeError:
            raise ValueError("labels of several kinds have no order of their own: give categories") from None
    named = list(categories)
    if len(set(named)) != len(named):
        raise ValueError(f"categories must differ from each other, got {named!r}")
    for label in sorted(seen - set(named), key=str):
        raise ValueError(f"label {label!r} is not among categories {named!r}")
    return named


def label_counts(
    labels: Sequence[Sequence[Hashable | None]], categories: Sequence[Hashable] | None
) -> tuple[FloatArray, list[Hashable]]:
    """How often did each unit get each label? (n, k) counts and the k labels in order."""
    kept = [[label for label in row if not missing(label)] for row in labels]
    named = _named([label for row in kept for label in row], categories)
    place = {label: i for i, label in enumerate(named)}
    counts = np.zeros((len(kept), len(named)))
    for i, row in enumerate(kept):
        for label in row:
            counts[i, place[label]] += 1.0
    return counts, named


def _several(
    method: str,
    labels: Sequence[Sequence[Hashable | None]],
    categories: Sequence[Hashable] | None,
    level: float,
) -> Agreement | NotEstimable:
    require_level(level)
    counts, named = label_counts(labels, categories)
    counts = counts[counts.sum(axis=1) > 0]
    ratings = counts.sum(axis=1)
    paired = ratings >= 2
    n, pairs = ratings.size, int(paired.sum())
    if pairs < 2:
        return NotEstimable(
            method, f"{pairs} units have two or more labels; agreement needs at least two units"
        )
    k = len(named)
    if k < 2:
        return NotEstimable(method, f"all labels are {named[0]!r}: nothing can differ")
    share = counts / ratings[:, None]
    overall = share.mean(axis=0)
    within = np.zeros(n)
    some, size = counts[paired], ratings[paired]
    within[paired] = (some * (some - 1.0)).sum(axis=1) / (size * (size - 1.0))
    observed = float(within[paired].mean())
    squares = float(overall @ overall)
    moved = share @ overall - squares
    if method == "fleiss-kappa":
        expected = squares
    else:
        expected, moved = (1.0 - squares) / (k - 1.0), -moved / (k - 1.0)
    if 1.0 - expected < 1e-12:
        return NotEstimable(method, f"all labels are {named[int(overall.argmax())]!r}: nothing can differ")
    value = (observed - expected) / (1.0 - expected)
    first = np.where(paired, (within - observed) * n / pairs, 0.0)
    influence = (first - 2.0 * (1.0 - value) * moved) / (1.0 - expected)
    variance = float(influence @ influence) / (n * (n - 1.0))
    total = int(ratings[paired].sum())
    return _result(
        method,
        value,
        variance,
        n - 1.0,
        level,
        observed,
        expected,
        pairs,
        total,
        tuple(named),
        effective_n=pairs,
    )


def _result(
    method: str,
    value: float,
    variance: float,
    df: float,
    level: float,
    observed: float,
    expected: float,
    n_units: int,
    n_labels: int,
    categories: tuple[Hashable, ...],
    *,
    effective_n: float,
) -> Agreement:
    critical = two_sided_critical(level, df)
    flags: tuple[str, ...] = ()
    se: float | None = None
    if observed > 1.0 - 1e-12:
        observed = value = 1.0
    if observed == 1.0 or variance < 1e-20:
        low, high = wilson_interval(observed * effective_n, effective_n, critical)
        lower, upper = (low - expected) / (1.0 - expected), min(1.0, (high - expected) / (1.0 - expected))
        upper = 1.0 if observed == 1.0 else upper
        flags = ("no spread between units: the interval is that of the observed share of agreement",)
    else:
        se = math.sqrt(variance)
        lower, upper = value - critical * se, min(1.0, value + critical * se)
    if effective_n < FEWEST_RATED:
        flags += (
            f"fewer than {FEWEST_RATED} units: the interval is too narrow, most of all at its lower end",
        )
    return Agreement(
        method, value, se, lower, upper, df, level, observed, expected, n_units, n_labels, categories, flags
    )


def labels_as_numbers(values: Sequence[Hashable]) -> FloatArray:
    """Are these labels numbers? Raises ValueError where one is not."""
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError("interval and ratio labels must be numbers") from None
