"""Unit tables with a known effect: one row per unit, for dry runs, calibration and tests of estimators."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from exp_pipeline.model.base import Noun
from exp_pipeline.model.names import Slug
from exp_pipeline.simulate.population import Floats, Ints, class_sizes


class UnitArm(Noun):
    """One arm: its share, and its true effect on the mean of the outcome, absolute, control's being 0."""

    name: Slug
    share: float = Field(gt=0, le=1)
    effect: float = 0.0


class UnitPlan(Noun):
    """A table of units with declared truth.

    `mean` is the mean outcome without effect; `sd` applies to `normal`, `skew_sigma` (the sd of the log) to
    `lognormal`. `icc` is the share of the latent variance between clusters, `covariate_correlation` the
    correlation of `pre_outcome` with the latent outcome: for `binary` the latent normal is cut so that its
    mean is exactly `mean` plus the arm's effect. With `bernoulli` each unit (or cluster) draws its arm by
    itself, with `complete` the arms' counts are as near to their shares as whole numbers allow.
    """

    units: int = Field(ge=2, le=50_000_000)
    arms: tuple[UnitArm, ...] = Field(min_length=2)
    outcome: Literal["normal", "binary", "lognormal"] = "normal"
    mean: float = 0.0
    sd: float = Field(default=1.0, gt=0)
    skew_sigma: float = Field(default=1.0, gt=0, le=3)
    covariate_correlation: float = Field(default=0.5, gt=-1, lt=1)
    covariate_missing_share: float = Field(default=0.0, ge=0, lt=1)
    clusters: int = Field(default=0, ge=0)
    cluster_size_cv: float = Field(default=0.0, ge=0, le=0.5)
    icc: float = Field(default=0.0, ge=0, lt=1)
    assign_by: Literal["unit", "cluster"] = "unit"
    randomisation: Literal["bernoulli", "complete"] = "bernoulli"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        total = sum(arm.share for arm in self.arms)
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"arm shares must add up to 1, they add up to {total:g}")
        if self.clusters > self.units:
            raise ValueError(f"clusters must be at most units ({self.units}), got {self.clusters}")
        if not self.clusters and (self.icc or self.assign_by == "cluster"):
            raise ValueError("icc and assign_by='cluster' need clusters of at least 1, got 0")
        if self.icc + self.covariate_correlation**2 >= 1:
            raise ValueError("icc and the square of covariate_correlation must add up to less than 1")
        for arm in self.arms:
            value = self.mean + arm.effect
            if self.outcome == "binary" and not 0 < value < 1:
                raise ValueError(f"arm {arm.name}: mean plus effect must lie in (0, 1), got {value:g}")
            if self.outcome == "lognormal" and value <= 0:
                raise ValueError(f"arm {arm.name}: mean plus effect must be above 0, got {value:g}")
        return self


@dataclass(frozen=True, slots=True)
class Units:
    """Units as arrays of shape `(units,)`: arm position, cluster (-1: none), outcome, covariates.

    A missing covariate is NaN. `pre_outcome` correlates with the outcome, `pre_activity` with nothing.
    """

    arm: Ints
    cluster: Ints
    outcome: Floats
    pre_outcome: Floats
    pre_activity: Floats


def _arms(plan: UnitPlan, drawn: int, random: np.random.Generator) -> Ints:
    shares = np.array([arm.share for arm in plan.arms])
    edges = np.cumsum(shares)
    edges[-1] = 1.0
    if plan.randomisation == "complete":
        return random.permutation(np.searchsorted(edges, (np.arange(drawn) + 0.5) / drawn, side="right"))
    return np.searchsorted(edges, random.random(drawn), side="right").astype(np.int64)


def draw_units(plan: UnitPlan, seed: int | np.random.SeedSequence) -> Units:
    """What does one draw of this table look like, as arrays? The same seed gives the same draw."""
    random = np.random.default_rng(seed)
    n = plan.units
    cluster = np.full(n, -1, dtype=np.int64)
    between = np.zeros(n)
    if plan.clusters:
        sizes = class_sizes(n, plan.clusters, plan.cluster_size_cv, random)
        cluster = np.repeat(np.arange(plan.clusters), sizes)
        between = random.normal(size=plan.clusters)[cluster]
    if plan.assign_by == "cluster":
        arm = _arms(plan, plan.clusters, random)[cluster]
    else:
        arm = _arms(plan, n, random)
    rho = plan.covariate_correlation
    pre = random.normal(size=n)
    own = random.normal(size=n)
    latent = rho * pre + np.sqrt(plan.icc) * between + np.sqrt(1 - plan.icc - rho**2) * own
    mean = plan.mean + np.array([one.effect for one in plan.arms])
    if plan.outcome == "normal":
        outcome = mean[arm] + plan.sd * latent
    elif plan.outcome == "binary":
        cut = np.array([NormalDist().inv_cdf(value) for value in mean.tolist()])
        outcome = (latent < cut[arm]).astype(np.float64)
        pre = -pre
    else:
        outcome = mean[arm] * np.exp(plan.skew_sigma * latent - plan.skew_sigma**2 / 2)
    missing = random.random(n) < plan.covariate_missing_share
    return Units(
        arm=arm,
        cluster=cluster,
        outcome=outcome,
        pre_outcome=np.where(missing, np.nan, pre),
        pre_activity=np.where(missing, np.nan, random.normal(size=n)),
    )


def unit_table(plan: UnitPlan, seed: int) -> pl.DataFrame:
    """What would a team hand over as its table of units? One row per unit, covariates null where missing.

    Columns: `unit_id`, `arm`, `cluster_id` (null without clusters), `outcome`, `pre_outcome`, `pre_activity`.
    """
    units = draw_units(plan, seed)
    number = pl.int_range(pl.len()).cast(pl.String).str.zfill(8)
    table = pl.DataFrame(
        {
            "arm": pl.Series([arm.name for arm in plan.arms]).gather(pl.Series(values=units.arm)),
            "cluster": units.cluster,
            "outcome": units.outcome,
            "pre_outcome": units.pre_outcome,
            "pre_activity": units.pre_activity,
        }
    )
    cluster_id = pl.format("cluster-{}", pl.col("cluster").cast(pl.String).str.zfill(5))
    return table.select(
        pl.format("unit-{}", number).alias("unit_id"),
        "arm",
        pl.when(pl.col("cluster") >= 0).then(cluster_id).alias("cluster_id"),
        "outcome",
        pl.col("pre_outcome", "pre_activity").fill_nan(None),
    )
