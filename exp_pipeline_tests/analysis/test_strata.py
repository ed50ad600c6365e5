"""A brief that names strata has them as fixed effects, also where learners were randomised one by one."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm

from exp_pipeline.analysis.readout import read_out
from exp_pipeline.analysis.units import frame_of_units, units_of_metric
from exp_pipeline.model.brief import Segment
from exp_pipeline_tests.analysis.builders import brief_of, inputs_of, metric_of


@pytest.fixture(scope="module")
def mad() -> pl.DataFrame:
    rng = np.random.default_rng(12)
    n = 1_200
    stratum = rng.integers(0, 4, n)
    treated = rng.random(n) < 0.5
    before = rng.normal(0.0, 1.0, n)
    return pl.DataFrame(
        {
            "unit_id": [f"u{place:04d}" for place in range(n)],
            "arm": np.where(treated, "treatment", "control"),
            "stratum": [f"s{place}" for place in stratum],
            "segment__grade": rng.choice(["6", "7"], n),
            "minutes__num": 2.0 * stratum + before + rng.normal(size=n),
            "rate__num": rng.poisson(3 + stratum, n).astype(float),
            "rate__den": rng.poisson(5, n) + 1.0,
            "pre__minutes": before,
            "exposed": True,
            "exposures": 1,
        }
    )


METRICS = {
    "minutes": metric_of("minutes", type="mean", display="number"),
    "rate": metric_of("rate", type="ratio", denominator="opportunities", display="number"),
}


def dummies(mad: pl.DataFrame) -> np.ndarray:
    treated = (mad["arm"] == "treatment").to_numpy().astype(float)
    strata = [(mad["stratum"] == f"s{place}").to_numpy().astype(float) for place in (1, 2, 3)]
    return np.column_stack([np.ones(mad.height), treated, *strata])


def test_strata_enter_as_fixed_effects(mad: pl.DataFrame) -> None:
    brief = brief_of(
        primary="minutes", secondary=("rate",), strata=("school",), variance_reduction={"method": "cuped"},
        segments=(Segment(column="grade"),),
    )  # fmt: skip
    readout = read_out(inputs_of(brief, METRICS, mad))
    rows = {(row.metric, row.adjusted): row for row in (*readout.estimates, *readout.unadjusted)}
    outcome = mad["minutes__num"].to_numpy()
    plain = sm.OLS(outcome, dummies(mad)).fit(cov_type="HC2")
    found = rows["minutes", False]
    assert found.method == "strata-precision"
    assert (found.absolute, found.se) == pytest.approx((plain.params[1], plain.bse[1]), rel=1e-8)
    more = np.column_stack([dummies(mad), mad["pre__minutes"].to_numpy()])
    adjusted = rows["minutes", True]
    assert adjusted.absolute == pytest.approx(sm.OLS(outcome, more).fit().params[1], rel=1e-8)
    assert adjusted.se is not None
    assert found.se is not None
    assert adjusted.se < found.se
    assert any("within the strata" in sentence for sentence in readout.method)
    assert rows["rate", False].method == "strata-precision"
    part = mad.filter(pl.col("segment__grade") == "6")
    more = np.column_stack([dummies(part), part["pre__minutes"].to_numpy()])
    fit = sm.OLS(part["minutes__num"].to_numpy(), more).fit()
    (segment,) = [row for row in readout.segments if row.segment_value == "6"]
    assert segment.absolute == pytest.approx(fit.params[1], rel=1e-8)


def test_without_strata_in_the_brief_nothing_changes(mad: pl.DataFrame) -> None:
    readout = read_out(inputs_of(brief_of(primary="minutes"), METRICS, mad))
    assert {row.method for row in readout.estimates} == {"welch"}


def test_sums_are_made_once_and_anew_for_other_rows(mad: pl.DataFrame) -> None:
    from dataclasses import replace

    brief = brief_of(primary="minutes")
    units = units_of_metric(frame_of_units(mad, brief), METRICS["minutes"], brief)
    assert units.sums() is units.sums()
    fewer = replace(units, frame=units.frame.head(100))
    assert int(fewer.sums().table.n.sum()) == 100
    assert int(units.sums("segment__grade").table.n.sum()) == mad.height


def test_quantiles_say_that_they_do_not_use_strata(mad: pl.DataFrame) -> None:
    rng = np.random.default_rng(4)
    waits = [[float(value) for value in rng.lognormal(0, 0.5, 3)] for _ in range(mad.height)]
    latency = metric_of("latency", type="quantile", quantile=0.9, direction="decrease", display="ms")
    table = mad.with_columns(pl.Series("latency__values", waits))
    rows = []
    for strata in ((), ("grade",)):
        brief = brief_of(primary="latency", strata=strata)
        rows.append(read_out(inputs_of(brief, {"latency": latency}, table)).estimates[0])
    assert not any("strata" in flag for flag in rows[0].flags)
    assert any(flag.startswith("strata of the draw are not used") for flag in rows[1].flags)
    assert rows[0].absolute == rows[1].absolute
    assert "within strata" not in rows[1].why
