"""Labels of a stratified sample: weights, variances, and the share of the whole population."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.effects.means import wilson_interval
from exp_pipeline.stats.reference import require_level, two_sided_critical
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class StratifiedSample:
    """How was each labelled unit drawn: at random within its stratum, and for how many does it stand?

    codes: (n,) place of each row's stratum in `strata`. population: units of each stratum. weights: (n,)
    population units that a row stands for. `problem` says why no variance can be had, else None.
    """

    strata: tuple[str, ...]
    codes: IntArray
    population: IntArray
    weights: FloatArray
    problem: str | None

    @property
    def df(self) -> float:
        """How many degrees of freedom has the variance? Rows less strata."""
        return float(self.codes.size - len(self.strata))

    def variance(self, influence: FloatArray) -> float:
        """What is the variance of the weighted mean of `influence` (n,), drawn without replacement?

        Each stratum gives its share squared x (1 - n/N) x variance / n (Cochran 1977, equation 5.13).
        """
        total = float(self.population.sum())
        result = 0.0
        for code, size in enumerate(self.population):
            rows = influence[self.codes == code]
            if rows.size < 2:
                continue
            kept = 1.0 - rows.size / float(size)
            result += (float(size) / total) ** 2 * kept * float(rows.var(ddof=1)) / rows.size
        return result


def stratified_sample(stratum: ArrayLike, population: Mapping[str, int]) -> StratifiedSample:
    """For how many units does each labelled row stand?

    stratum: (n,) name of each row's stratum. population: stratum -> units it holds, labelled or not. Raises
    ValueError for a stratum without a population or with more rows than units.
    """
    names = np.asarray(stratum).astype(str)
    if names.ndim != 1:
        raise ValueError(f"stratum must be one row of names, got shape {names.shape}")
    strata = tuple(population)
    place = {name: i for i, name in enumerate(strata)}
    unknown = sorted(set(names.tolist()) - set(strata))
    if unknown:
        raise ValueError(f"stratum holds {unknown[0]!r}, which population does not name")
    codes = np.array([place[name] for name in names.tolist()], dtype=np.int64)
    rows = np.bincount(codes, minlength=len(strata))
    sizes = np.array([int(population[name]) for name in strata], dtype=np.int64)
    for name, drawn, size in zip(strata, rows, sizes, strict=True):
        if size < max(drawn, 1):
            raise ValueError(f"population of {name!r} must be at least its {drawn} rows and 1, got {size}")
    problems = [
        f"stratum {name} has no labelled unit" for name, n in zip(strata, rows, strict=True) if n == 0
    ]
    problems += [
        f"stratum {name} has one labelled unit of {size}: its spread cannot be measured"
        for name, n, size in zip(strata, rows, sizes, strict=True)
        if n == 1 and size > 1
    ]
    weights = sizes[codes] / rows[codes]
    return StratifiedSample(strata, codes, sizes, weights, "; ".join(problems) or None)


@dataclass(frozen=True, slots=True)
class WeightedShare:
    """Which share of the population has the label?

    `se` is design-based. `design_effect` is its square over that of a simple random sample of n from a
    population without end; `effective_n` is n over it.
    """

    method: str
    share: float
    se: float | None
    ci_lower: float
    ci_upper: float
    df: float
    level: float
    n: int
    population: int
    effective_n: float
    design_effect: float | None
    flags: tuple[str, ...] = ()


def weighted_share(
    positive: ArrayLike, sample: StratifiedSample, *, level: float = 0.95
) -> WeightedShare | NotEstimable:
    """Which share of all units would have the label, when strata were sampled at different rates?

    positive: (n,) true or false, in the sample's row order. Mean of the strata's shares weighted by their
    population; the interval is Wilson's with the effective number of rows and a t with rows less strata
    (Korn and Graubard 1998 compare such intervals). Where no stratum has both kinds of label, the weighted
    share has no measured spread: `se` is None and each row counts by Kish's effective number.

    NotEstimable for an empty stratum or one with a single row of several units, or where every unit of the
    population was labelled (there is nothing left to infer).
    """
    require_level(level)
    values = np.asarray(positive)
    n = sample.codes.size
    if values.shape != (n,) or not np.isin(values, (0, 1)).all():
        raise ValueError(f"positive must hold {n} true or false values, got shape {values.shape}")
    method = "stratified-share"
    if sample.problem is not None:
        return NotEstimable(method, sample.problem)
    population = int(sample.population.sum())
    if population == n:
        return NotEstimable(method, f"all {n} units were labelled: their share is known, not estimated")
    y = values.astype(np.float64)
    share = float(sample.weights @ y / sample.weights.sum())
    variance = sample.variance(y)
    flags: tuple[str, ...] = ()
    plain = share * (1.0 - share) / n
    if variance > 0.0:
        effective = share * (1.0 - share) / variance
    else:
        effective = float(sample.weights.sum() ** 2 / (sample.weights @ sample.weights))
        flags = ("no stratum has both kinds of label: the interval takes rows by Kish's effective number",)
    lower, upper = wilson_interval(share * effective, effective, two_sided_critical(level, sample.df))
    return WeightedShare(
        method=method,
        share=share,
        se=math.sqrt(variance) if variance > 0.0 else None,
        ci_lower=lower,
        ci_upper=upper,
        df=sample.df,
        level=level,
        n=n,
        population=population,
        effective_n=effective,
        design_effect=variance / plain if variance > 0.0 else None,
        flags=flags,
    )
