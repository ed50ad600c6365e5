"""A real test brought as a unit table: adjusted and unadjusted figures against ordinary least squares."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from exp_pipeline.analysis.readout import ReadoutInputs
from exp_pipeline.analysis.tables.from_table import exclusions_of_table, mad_from_table
from exp_pipeline.catalog import digest_of_metrics, load_brief
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import Estimate, LockState, Provenance, Readout
from exp_pipeline.steps.experiments.readouts import analyse_table
from exp_pipeline_tests.real.places import HERE, real_file


@pytest.fixture(scope="module")
def brief() -> Brief:
    return load_brief(HERE / "briefs" / "worked-example-video.yaml", None)


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return pl.read_csv(real_file("assistments_ab.csv"), infer_schema_length=None)


def read_out(brief: Brief, table: pl.DataFrame, out: Path) -> Readout:
    units, metrics = mad_from_table(table, brief)
    inputs = ReadoutInputs(
        brief=brief,
        metrics=metrics,
        mad=units,
        days=None,
        as_of=date(2015, 12, 31),
        lock=LockState(locked_digest=brief.analysis_digest(), current_digest=brief.analysis_digest()),
        provenance=Provenance(
            snapshot="table",
            brief_digest=brief.digest(),
            metrics_digest=digest_of_metrics(brief, metrics, {}),
            code_version="test",
            run_id="test",
            as_of=date(2015, 12, 31),
            source="unit table",
        ),
        exclusions=exclusions_of_table(table, brief),
    )
    readout, page = analyse_table(inputs, out)
    assert page.is_file()
    return readout


@pytest.fixture(scope="module")
def readout(brief: Brief, table: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Readout:
    return read_out(brief, table, tmp_path_factory.mktemp("table"))


def only(rows: tuple[Estimate, ...]) -> Estimate:
    (row,) = rows
    return row


def matrix(table: pl.DataFrame, brief: Brief) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    covariates = table.select(brief.variance_reduction.covariates).to_numpy().astype(float)
    return table["completion"].to_numpy().astype(float), table["video"].to_numpy() == 1, covariates


def test_without_adjustment_it_is_the_difference_of_two_shares(readout: Readout, table: pl.DataFrame) -> None:
    from statsmodels.stats.proportion import confint_proportions_2indep

    row = only(readout.unadjusted)
    counts = dict(table.group_by("video").agg(pl.col("completion").sum(), pl.len()).rows_by_key("video"))
    ((x1, n1),), ((x0, n0),) = counts[1], counts[0]
    assert (row.n_control, row.n_treatment) == (n0, n1) == (346, 337)
    assert row.absolute == pytest.approx(x1 / n1 - x0 / n0, abs=1e-12)
    low, high = confint_proportions_2indep(x1, n1, x0, n0, method="newcomb", compare="diff")
    assert (row.ci_lower, row.ci_upper) == pytest.approx((low, high), abs=1e-9)
    # +5.05 points (-2.34 to +12.36): the figure of this table's memo before adjustment.
    assert row.absolute == pytest.approx(0.050505, abs=5e-7)


def test_the_adjusted_effect_is_that_of_ordinary_least_squares(
    readout: Readout, table: pl.DataFrame, brief: Brief
) -> None:
    import statsmodels.api as sm

    row = only(readout.estimates)
    outcome, treated, covariates = matrix(table, brief)
    spread = (covariates - covariates.mean(axis=0)) / covariates.std(axis=0)
    fit = sm.OLS(outcome, sm.add_constant(np.column_stack([treated, spread]))).fit()
    assert row.adjusted
    assert row.absolute == pytest.approx(float(fit.params[1]), abs=1e-9)
    # Its variance is the sum of the arms' own; arms of nearly one size make that least squares' to a hair.
    assert row.se == pytest.approx(float(fit.bse[1]), rel=1e-3)
    low, high = fit.conf_int()[1]
    assert (row.ci_lower, row.ci_upper) == pytest.approx((float(low), float(high)), abs=2e-4)


def test_adjustment_narrows_the_interval(readout: Readout) -> None:
    adjusted, plain = only(readout.estimates), only(readout.unadjusted)
    assert adjusted.se is not None
    assert plain.se is not None
    assert adjusted.variance_reduction is not None
    assert adjusted.variance_reduction > 0.1
    assert adjusted.se < plain.se


def test_covariates_with_gaps_are_filled_and_marked(
    brief: Brief, table: pl.DataFrame, tmp_path: Path
) -> None:
    """This excerpt has no gaps, so some are made: then least squares gets the means and the marks as well."""
    import statsmodels.api as sm

    name = "student_prior_average_correctness"
    gaps = pl.int_range(pl.len()) % 7 == 3
    holed = table.with_columns(pl.when(gaps).then(None).otherwise(pl.col(name)).alias(name))
    row = only(read_out(brief, holed, tmp_path).estimates)
    filled = holed.with_columns(pl.col(name).fill_null(pl.col(name).mean()), gaps.alias("gap"))
    outcome, treated, covariates = matrix(filled, brief)
    spread = (covariates - covariates.mean(axis=0)) / covariates.std(axis=0)
    design = np.column_stack([treated, spread, filled["gap"].to_numpy()]).astype(float)
    fit = sm.OLS(outcome, sm.add_constant(design)).fit()
    assert row.absolute == pytest.approx(float(fit.params[1]), abs=1e-9)


def test_the_memo_says_what_the_figures_say(readout: Readout) -> None:
    assert not readout.blinded
    verdicts = {check.name: check.verdict for check in readout.integrity}
    assert "fail" not in verdicts.values()
    assert verdicts["sample_ratio_assigned"] == "pass"
    assert verdicts["covariate_balance"] in ("pass", "warn")
    assert readout.decision.outcome == "extend"
