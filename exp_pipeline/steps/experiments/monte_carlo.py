"""Rates found by drawing: a share of replications beside what was promised, and what chance explains."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal

import numpy as np

from exp_pipeline.model.base import Noun

# How often a rate that is as promised is called otherwise, in each direction.
ALARM = 0.005


class Rate(Noun):
    """A share of replications beside what was promised, with the Monte Carlo standard error of the share.

    `verdict` compares by the exact binomial, wrong in at most 0.5 % of dry runs in each direction.
    """

    value: float
    nominal: float
    error: float
    trials: int
    verdict: Literal["within", "above", "below"]


def latent_icc(share: float, icc: float) -> float:
    """Which ICC of a latent normal gives a cut at `share` this ICC of zeros and ones?

    The covariance of two units of a cluster is the integral of the bivariate normal density at the cut over
    the correlation (Plackett 1954), here by Gauss-Legendre; the ICC is found by bisection.
    """
    cut = NormalDist().inv_cdf(share)
    nodes, weights = np.polynomial.legendre.leggauss(64)

    def observed(latent: float) -> float:
        at = latent * (nodes + 1) / 2
        density = np.exp(-(cut**2) / (1 + at)) / (2 * np.pi * np.sqrt(1 - at**2))
        return float(latent / 2 * (weights @ density)) / (share * (1 - share))

    low, high = 0.0, 0.999
    if observed(high) < icc:
        raise ValueError(f"icc {icc:g} is not possible for a share of {share:g}")
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if observed(middle) < icc else (low, middle)
    return high if icc > 0 else 0.0


def rate_of(count: int, trials: int, nominal: float) -> Rate:
    """Is a count of replications what was promised, but for chance?

    The error is of the share with two of each outcome added (Agresti and Coull 1998), so that it is not 0
    where the count is. Raises ValueError for a count outside 0 to `trials` or no trials.
    """
    if not 0 <= count <= trials or trials < 1:
        raise ValueError(f"count must lie in 0 to trials and trials be positive, got {count} of {trials}")
    smoothed = (count + 2) / (trials + 4)
    verdict: Literal["within", "above", "below"] = "within"
    if _at_most(trials - count, trials, 1 - nominal) < ALARM:
        verdict = "above"
    elif _at_most(count, trials, nominal) < ALARM:
        verdict = "below"
    error = math.sqrt(smoothed * (1 - smoothed) / (trials + 4))
    return Rate(value=count / trials, nominal=nominal, error=error, trials=trials, verdict=verdict)


def _at_most(count: int, trials: int, p: float) -> float:
    """The chance of at most so many of `trials` at probability p."""
    steps = np.arange(count + 1)
    choose = np.array(
        [math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in range(count + 1)]
    )
    return float(np.exp(choose + steps * math.log(p) + (trials - steps) * math.log1p(-p)).sum())


def said(what: str, rate: Rate, promise: str, *, above: str, below: str) -> str:
    """How is a rate put in one line, with what it means where chance does not explain it?"""
    verdict = {
        "within": "within Monte Carlo error",
        "above": f"above it beyond Monte Carlo error: {above}",
        "below": f"below it beyond Monte Carlo error: {below}",
    }[rate.verdict]
    return f"{what} {percent(rate.value)} ({promise} {percent(rate.nominal)}), {verdict}"


def percent(share: float) -> str:
    """A share in words, to a tenth of a percent."""
    return f"{100 * share:.1f}".removesuffix(".0") + " %"
