"""Sums made in SQL are those that the columns give, far from zero too, and translate for Spark."""

from __future__ import annotations

import duckdb
import numpy as np
import polars as pl
import pytest
import sqlglot
from sqlglot import exp

from exp_pipeline.analysis.tables.grouped import DENOMINATOR, NUMERATOR, Outcome, cells_of
from exp_pipeline.analysis.tables.source import FrameSource
from exp_pipeline.stats.moments_table import MomentsTable
from exp_pipeline.transform import queries
from exp_pipeline.transform.grouped_moments import Summed, moments_query


@pytest.fixture(scope="module")
def units() -> pl.DataFrame:
    rng = np.random.default_rng(17)
    n = 4_000
    frame = pl.DataFrame(
        {
            "arm": rng.choice(["a", "b", "c"], n),
            "grade": rng.choice(["6", "7"], n),
            "y": rng.normal(1e8, 1.0, n),
            "x": rng.normal(5.0, 2.0, n),
            "events": rng.poisson(3, n),
            "hours": rng.gamma(3, 1, n),
            "mature": rng.random(n) < 0.8,
        }
    )
    holes = [
        pl.when(pl.Series(rng.random(n) < share)).then(None).otherwise(pl.col(name)).alias(name)
        for name, share in (("arm", 0.02), ("grade", 0.05), ("y", 0.1), ("x", 0.15), ("hours", 0.03))
    ]
    return frame.with_columns(holes)


METRICS = (Summed("y", ("y",), ("x",), ("mature",)), Summed("rate", ("events", "hours")))


def table_of(found: pl.DataFrame, number: int, names: tuple[str, ...]) -> MomentsTable:
    """The reader's half: the rest of each mean goes back into it and out of the products."""
    k = len(names)
    n = found[f"m{number}_n"].to_numpy().astype(np.int64)
    safe = np.maximum(n, 1)
    centres = np.stack([found[f"m{number}_centre_{a}"].fill_null(0).to_numpy() for a in range(k)], axis=1)
    rests = (
        np.stack([found[f"m{number}_rest_{a}"].fill_null(0).to_numpy() for a in range(k)], axis=1)
        / safe[:, None]
    )
    products = np.zeros((n.size, k, k))
    for a in range(k):
        for b in range(a + 1):
            column = found[f"m{number}_product_{a}_{b}"].fill_null(0).to_numpy()
            products[:, a, b] = products[:, b, a] = column - safe * rests[:, a] * rests[:, b]
    rest, squares = rests[:, 0], found[f"m{number}_product_0_0"].fill_null(0).to_numpy()
    cubes = found[f"m{number}_cube"].fill_null(0).to_numpy() - 3.0 * rest * squares + 2.0 * n * rest**3
    return MomentsTable(n, centres, rests, products, names, cubes)


def test_sql_and_columns_make_the_same_moments(units: pl.DataFrame) -> None:
    text = moments_query("units", "arm", ("grade",), METRICS).sql(dialect="duckdb")
    with duckdb.connect() as connection:
        connection.register("units", units)
        relation = connection.sql(text)
        assert relation is not None
        found = relation.pl()
    outcomes = (
        Outcome("y", "y", covariates=("x",), counted=("mature",)),
        Outcome("rate", "events", "ratio", "hours"),
    )
    cells = cells_of(FrameSource(units), outcomes, arm="arm", segments=("grade",))
    labels = [
        (cells.arms[arm], cells.segments[0].labels[place])
        for arm, place in zip(cells.arm, cells.segments[0].of, strict=True)
    ]
    assert found.select("arm", "key_0").rows() == labels
    rate = table_of(found, 1, (NUMERATOR, DENOMINATOR))
    other = cells.outcomes[1].moments
    np.testing.assert_array_equal(rate.n, other.n)
    np.testing.assert_allclose(rate.means, other.means, rtol=1e-13)
    np.testing.assert_allclose(rate.products, other.products, rtol=1e-11)
    # Gaps are 0 with a mark in SQL; moved to the mean of what was observed, as the columns' reader does.
    raw = table_of(found, 0, ("numerator", "x", "x_missing"))
    whole = raw.merged(np.zeros(len(raw), dtype=np.int64), 1)
    gaps = whole.means[0, 2]
    moved = raw.linear(
        np.array([[1, 0, 0], [0, 1, whole.means[0, 1] / (1 - gaps)], [0, 0, 1]]),
        ("numerator", "x", "x_missing"),
    )
    mine = cells.outcomes[0].moments
    np.testing.assert_array_equal(moved.n, mine.n)
    np.testing.assert_allclose(moved.means, mine.means, rtol=1e-12)
    np.testing.assert_allclose(moved.products, mine.products, rtol=1e-9, atol=1e-8)
    assert moved.cubes is not None
    assert mine.cubes is not None
    # About 1,000 cubes of size one, the mean of each known to 1.5e-8.
    np.testing.assert_allclose(moved.cubes, mine.cubes, rtol=0, atol=1e-4)
    assert other.cubes is None
    variance = moved.merged(np.zeros(len(moved), dtype=np.int64), 1).group(0).variance("numerator")
    kept = units.filter(pl.col("y").is_not_null(), pl.col("mature"), pl.col("arm").is_not_null())[
        "y"
    ].to_numpy()
    # The values are exact to 1.5e-8 at 1e8; raw sums of squares would be off by whole units.
    assert variance == pytest.approx((kept - kept.mean()).var(ddof=1), rel=1e-9)
    assert variance == pytest.approx(1.0, abs=0.1)


def test_the_query_translates_for_spark() -> None:
    text = queries.spark_text(moments_query("units", "arm", ("grade", "region"), METRICS))
    assert sqlglot.parse_one(text, dialect="spark").find(exp.Select) is not None
    assert "filter" not in text.lower()


def test_a_query_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one metric"):
        moments_query("units", "arm", (), ())
