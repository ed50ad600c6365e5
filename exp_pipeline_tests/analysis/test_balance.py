"""Balance before assignment, where arms were drawn within strata."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from exp_pipeline.analysis.integrity.balance import covariate_balance_check
from exp_pipeline.analysis.units import frame_of_units
from exp_pipeline_tests.analysis.builders import brief_of, units_table


def unlike_strata(seed: int, *, tilt: float = 0.0) -> pl.DataFrame:
    """Older learners stand higher before the start, more of them are treated; `tilt` favours treatment."""
    rng = np.random.default_rng(seed)
    n = 3_000
    old = rng.random(n) < 0.4
    treated = rng.random(n) < np.where(old, 0.8, 0.3)
    return units_table(
        list(np.where(treated, "treatment", "control")),
        stratum=np.where(old, "old", "young").tolist(),
        solved__num=(rng.random(n) < 0.4).astype(float),
        pre__minutes=5.0 * old + rng.normal(size=n) + tilt * treated,
    )


@pytest.mark.parametrize("by_class", [False, True])
def test_strata_that_differ_are_no_imbalance_and_arms_within_them_are(by_class: bool) -> None:
    changes: dict[str, Any] = {"randomisation_unit": "class", "icc": 0.1} if by_class else {}
    plain, within = brief_of(**changes), brief_of(strata=("grade",), **changes)
    tables = [unlike_strata(31), unlike_strata(31, tilt=0.4)]
    if by_class:
        # Ten learners of one arm and stratum make a class.
        group = pl.int_range(pl.len()).over("arm", "stratum") // 10
        tables = [
            table.with_columns(pl.format("{}-{}-{}", "arm", "stratum", group).alias("cluster_id"))
            for table in tables
        ]
    fair, tilted = tables
    assert covariate_balance_check(frame_of_units(fair, plain), plain).verdict == "fail"
    check = covariate_balance_check(frame_of_units(fair, within), within)
    assert check.verdict == "pass"
    assert "within strata" in check.evidence
    assert covariate_balance_check(frame_of_units(tilted, within), within).verdict == "fail"


def test_balance_within_strata_is_least_squares_with_a_constant_a_stratum() -> None:
    import statsmodels.api as sm

    brief, table = brief_of(strata=("grade",)), unlike_strata(33)
    rng = np.random.default_rng(1)
    table = table.with_columns(
        pl.Series("arm", np.where(rng.random(table.height) < 0.5, "treatment", "control")),
    )
    columns = [table["arm"] == "treatment", table["stratum"] == "old", pl.Series([1.0] * table.height)]
    design = np.column_stack([column.cast(pl.Float64).to_numpy() for column in columns])
    fit = sm.OLS(table["pre__minutes"].to_numpy(), design).fit(cov_type="HC2")
    check = covariate_balance_check(frame_of_units(table, brief), brief)
    # Their normal reference against a t of some 3,000 degrees of freedom.
    assert check.numbers["smallest_p_adjusted"] == pytest.approx(float(fit.pvalues[0]), abs=2e-3)
