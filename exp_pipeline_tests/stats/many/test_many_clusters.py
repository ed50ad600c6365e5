"""Many outcomes of the same clusters are answered as one by one, and by statsmodels' sandwich."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest
import statsmodels.api as sm

from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.many.clusters import many_clustered_differences
from exp_pipeline.stats.results import Effect, NotEstimable


def same(many: Effect | NotEstimable, one: Effect | NotEstimable) -> None:
    assert type(many) is type(one), (many, one)
    for field in fields(many):
        left, right = getattr(many, field.name), getattr(one, field.name)
        if isinstance(left, float) and isinstance(right, float):
            # The same regression from sums by cluster instead of rows: rounding only.
            assert math.isclose(left, right, rel_tol=1e-8, abs_tol=1e-11), (field.name, left, right)
        else:
            assert left == right, field.name


@pytest.mark.parametrize(
    ("clusters", "rows", "covariates", "strata", "method"),
    [
        (24, 500, 0, 0, "auto"),
        (24, 500, 2, 0, "auto"),
        (40, 700, 1, 3, "cr2"),
        (220, 3_000, 0, 0, "auto"),
        (220, 3_000, 2, 4, "cr1"),
        (500, 500, 1, 0, "auto"),
    ],
)
def test_outcomes_are_answered_as_one_by_one(
    clusters: int, rows: int, covariates: int, strata: int, method: str
) -> None:
    rng = np.random.default_rng(clusters + rows + covariates)
    cluster = rng.integers(0, clusters, rows)
    treated = cluster % 2 == 1
    extra = rng.normal(size=(rows, covariates)) if covariates else None
    layers = (cluster // 2) % strata if strata else None
    shared = rng.normal(size=clusters)[cluster]
    outcomes = [
        rng.normal(size=rows) + shared,
        1e6 + rng.normal(size=rows) + shared + (extra.sum(axis=1) if extra is not None else 0.0),
        (rng.random(rows) < 0.3).astype(float),
        np.full(rows, 3.0),
    ]
    many = many_clustered_differences(
        outcomes,
        treated,
        11 * cluster - 5,
        covariates=extra,
        strata=layers,
        method=method,  # type: ignore[arg-type]
    )
    for outcome, found in zip(outcomes, many, strict=True):
        alone = clustered_difference(
            outcome,
            treated,
            cluster,
            covariates=extra,
            strata=layers,
            method=method,  # type: ignore[arg-type]
        )
        same(found, alone)
    assert isinstance(many[3], NotEstimable)


def test_twenty_outcomes_have_statsmodels_errors() -> None:
    rng = np.random.default_rng(8)
    cluster = rng.integers(0, 300, 6_000)
    treated = cluster % 3 == 0
    outcomes = [rng.normal(size=6_000) + rng.normal(size=300)[cluster] for _ in range(20)]
    for outcome, found in zip(outcomes, many_clustered_differences(outcomes, treated, cluster), strict=True):
        fit = sm.OLS(outcome, sm.add_constant(treated.astype(float))).fit(
            cov_type="cluster", cov_kwds={"groups": cluster}
        )
        assert isinstance(found, Effect)
        assert (found.absolute, found.se) == pytest.approx((fit.params[1], fit.bse[1]), rel=1e-9)


def test_refusals_and_mistakes_are_those_of_the_single_estimator() -> None:
    y, cluster = np.arange(6.0), np.array([0, 0, 1, 1, 2, 2])
    for treated in (np.zeros(6, dtype=bool), cluster == 2, cluster >= 1):
        (found,) = many_clustered_differences([y], treated, cluster)
        same(found, clustered_difference(y, treated, cluster))
    with pytest.raises(ValueError, match="outcomes must be finite"):
        many_clustered_differences([np.full(6, np.nan)], cluster >= 1, cluster)
    with pytest.raises(ValueError, match=r"shape \(6,\), got \(5,\)"):
        many_clustered_differences([y[:5]], cluster >= 1, cluster)
