"""How an experiment is laid out, as far as power depends on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from exp_pipeline.stats.clusters.design import method_for
from exp_pipeline.stats.clusters.intraclass import design_effect
from exp_pipeline.stats.reference import one_sided_critical

Correction = Literal["bonferroni", "dunnett"]
CORRECTIONS: tuple[Correction, ...] = ("bonferroni", "dunnett")


@dataclass(frozen=True, slots=True)
class Design:
    """What, besides the outcome, decides how many units an experiment needs?

    share_treatment: of one treatment arm in control and that arm together. treatments: arms compared with
    control, all as large as that one; `correction` says how alpha is shared out over them: "bonferroni"
    (also the first step of Holm, so never too little) or "dunnett" (1955). attrition: share of enrolled units
    without an outcome. compliance: difference between the arms in the share of units that take the treatment
    up; the effect is on those who do, the test on all as randomised. variance_reduction: share of the
    variance that what was known before takes off (CUPED, analysis of covariance: the squared correlation).
    cluster_size: mean units of a randomised cluster, with cluster_size_cv and icc; match_correlation: of the
    two cluster means of a matched pair, where clusters are randomised within pairs. inflation: how many
    times the units of a fixed-horizon design repeated looks need.
    """

    alpha: float = 0.05
    power: float = 0.8
    two_sided: bool = True
    share_treatment: float = 0.5
    treatments: int = 1
    correction: Correction = "bonferroni"
    attrition: float = 0.0
    compliance: float = 1.0
    variance_reduction: float = 0.0
    cluster_size: float | None = None
    cluster_size_cv: float = 0.0
    icc: float = 0.0
    match_correlation: float | None = None
    inflation: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 0.5:
            raise ValueError(f"alpha must lie between 0 and 0.5, got {self.alpha!r}")
        if not self.alpha < self.power < 1.0:
            raise ValueError(f"power must lie between alpha and 1, got {self.power!r}")
        if not 0.0 < self.share_treatment < 1.0:
            raise ValueError(f"share_treatment must lie between 0 and 1, got {self.share_treatment!r}")
        if self.treatments < 1:
            raise ValueError(f"treatments must be at least 1 arm, got {self.treatments!r}")
        if self.correction not in CORRECTIONS:
            raise ValueError(f"correction must be one of {CORRECTIONS!r}, got {self.correction!r}")
        for name, value in (("variance_reduction", self.variance_reduction), ("attrition", self.attrition)):
            if not 0.0 <= value < 1.0:
                raise ValueError(f"{name} must be a share of at least 0 and below 1, got {value!r}")
        if not 0.0 < self.compliance <= 1.0:
            raise ValueError(f"compliance must be a share above 0 and at most 1, got {self.compliance!r}")
        if not (math.isfinite(self.inflation) and self.inflation >= 1.0):
            raise ValueError(f"inflation must be at least 1, got {self.inflation!r}")
        if self.cluster_size is None and (self.icc != 0.0 or self.cluster_size_cv != 0.0):
            raise ValueError("cluster_size must be given with icc or cluster_size_cv")
        if self.match_correlation is not None:
            if self.cluster_size is None:
                raise ValueError("cluster_size must be given with match_correlation")
            if not 0.0 <= self.match_correlation < 1.0:
                raise ValueError(
                    f"match_correlation must be at least 0 and below 1, got {self.match_correlation!r}"
                )
        self.variance_factor()

    def variance_factor(self) -> float:
        """By how much do clusters and adjustment change the variance of independent units?"""
        factor = 1.0 - self.variance_reduction
        if self.cluster_size is not None:
            # Attrition thins the clusters too.
            kept = max(1.0, self.cluster_size * (1.0 - self.attrition))
            factor *= design_effect(self.icc, kept, self.cluster_size_cv)
        if self.match_correlation is not None:
            factor *= 1.0 - self.match_correlation
        return factor

    def cluster_df(self, n_enrolled: float) -> float | None:
        """Degrees of freedom that so many enrolled units in both arms leave; None without clusters.

        Clusters less two; unequal sizes count as 1 + cv^2 times fewer, which is what Satterthwaite's degrees
        of freedom of a clustered comparison come to (Bell and McCaffrey 2002). Where clusters are many enough
        for CR1 in the analysis (see `clusters.effects`), clusters less one. Pairs less one, if matched.
        """
        if self.cluster_size is None:
            return None
        clusters = n_enrolled / self.cluster_size
        if self.match_correlation is not None:
            return clusters / 2.0 - 1.0
        in_treatment = clusters * self.share_treatment
        if method_for(int(clusters - in_treatment), int(in_treatment), int(clusters)) == "cr1":
            return clusters - 1.0
        return clusters / (1.0 + self.cluster_size_cv**2) - 2.0

    def critical(self, df: float) -> float:
        """Beyond how many standard errors does the test find an effect in one arm?"""
        if self.treatments == 1 or self.correction == "bonferroni":
            level = self.alpha / self.treatments
            return one_sided_critical(level / 2.0 if self.two_sided else level, df)
        ratio = self.share_treatment / (1.0 - self.share_treatment)
        return dunnett_critical(self.alpha, df, self.treatments, ratio=ratio, two_sided=self.two_sided)


def best_control_share(treatments: int) -> float:
    """Which share of all units should control have, so that each of several arms is told best from it?

    Control as large as an arm times the root of their number (Dunnett 1955), for equal variances.
    """
    if treatments < 1:
        raise ValueError(f"treatments must be at least 1 arm, got {treatments!r}")
    return 1.0 / (1.0 + math.sqrt(treatments))


@lru_cache(maxsize=4096)
def dunnett_critical(
    alpha: float, df: float, treatments: int, *, ratio: float = 1.0, two_sided: bool = True
) -> float:
    """Beyond which t does any of several arms differ from their common control with probability alpha?

    Dunnett (1955): a multivariate t whose correlations come from the shared control; `ratio` is an arm's
    size over control's. df: degrees of freedom of the pooled variance, infinite for a normal. By quadrature
    over the control's deviation and the variance. Raises ValueError for alpha, df or treatments out of range.
    """
    from scipy import special
    from scipy.optimize import brentq

    if not 0.0 < alpha < 0.5:
        raise ValueError(f"alpha must lie between 0 and 0.5, got {alpha!r}")
    if treatments < 1 or not ratio > 0.0 or not df > 0.0:
        raise ValueError(f"treatments, ratio and df must be above 0, got {treatments}, {ratio!r}, {df!r}")
    shared = ratio / (1.0 + ratio)
    nodes, weights = np.polynomial.legendre.leggauss(96)
    z, z_weights = 8.5 * nodes, 8.5 * weights * np.exp(-0.5 * (8.5 * nodes) ** 2) / math.sqrt(2.0 * math.pi)
    spread, spread_weights = np.ones(1), np.ones(1)
    if df < 1e6:
        # The chi variable over its degrees of freedom, between its far quantiles.
        low, high = (math.sqrt(special.chdtri(df, p) / df) for p in (1.0 - 1e-15, 1e-15))
        spread = 0.5 * (high + low) + 0.5 * (high - low) * nodes
        log_density = (
            (1.0 - 0.5 * df) * math.log(2.0)
            + 0.5 * df * math.log(df)
            - special.gammaln(0.5 * df)
            + (df - 1.0) * np.log(spread)
            - 0.5 * df * spread**2
        )
        spread_weights = 0.5 * (high - low) * weights * np.exp(log_density)
    rest = math.sqrt(1.0 - shared)

    def excess(bound: float) -> float:
        centre = math.sqrt(shared) * z[:, None]
        inside = special.ndtr((bound * spread[None, :] + centre) / rest)
        if two_sided:
            inside = inside - special.ndtr((-bound * spread[None, :] + centre) / rest)
        held = float(z_weights @ (inside**treatments) @ spread_weights)
        return 1.0 - held - alpha

    single = one_sided_critical(alpha / 2.0 if two_sided else alpha, df)
    level = alpha / treatments
    several = one_sided_critical(level / 2.0 if two_sided else level, df)
    if treatments == 1:
        return single
    return float(brentq(excess, 0.9 * single, 1.1 * several, xtol=1e-10, rtol=1e-12))
