"""Quantiles from bins lie within the bound they state of those from the values themselves."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
import polars as pl
import pytest

from exp_pipeline.analysis.effects.histograms import difference_in_binned_quantiles, with_edges
from exp_pipeline.model.metrics import Bins
from exp_pipeline.stats.effects.quantiles import difference_in_quantiles
from exp_pipeline.stats.results import Effect, NotEstimable

BINS = Bins(low=50, high=50_000, per_decade=30)


def drawn(seed: int, shift: float, units: int = 150) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Each unit's values, alike within a unit."""
    random = np.random.default_rng(seed)
    return [
        np.exp(random.normal(6 + shift + random.normal(0, 0.3), 0.6, random.integers(1, 25)))
        for _ in range(units)
    ]


def binned(values: list[np.ndarray[tuple[int], np.dtype[np.float64]]], bins: Bins) -> pl.DataFrame:
    """Units with their bins; a unit's come in two lists put together, as from two days."""
    edges = [None, *bins.boundaries(), None]
    rows = []
    for number, mine in enumerate(values):
        held = []
        for part in (mine[::2], mine[1::2]):
            places = [bisect_right(bins.boundaries(), value) for value in part]
            held += [
                {"low": edges[place], "high": edges[place + 1], "n": places.count(place)}
                for place in sorted(set(places))
            ]
        rows.append({"unit_id": f"{number:04d}", "values": held})
    kind = pl.List(pl.Struct({"low": pl.Float64, "high": pl.Float64, "n": pl.Int64}))
    return pl.DataFrame(rows, schema={"unit_id": pl.String, "values": kind})


def exact(
    control: list[np.ndarray[tuple[int], np.dtype[np.float64]]],
    treatment: list[np.ndarray[tuple[int], np.dtype[np.float64]]],
    quantile: float,
) -> Effect:
    sides = []
    for side in (control, treatment):
        sides += [np.concatenate(side), np.repeat(np.arange(len(side)), [len(mine) for mine in side])]
    found = difference_in_quantiles(*sides, quantile=quantile)
    assert isinstance(found, Effect)
    return found


@pytest.mark.parametrize("quantile", [0.5, 0.95])
def test_within_the_stated_bound_of_the_exact_answer(quantile: float) -> None:
    control, treatment = drawn(1, 0.0), drawn(2, 0.2)
    bound = BINS.relative_error()
    assert bound is not None
    found = difference_in_binned_quantiles(
        binned(control, BINS), binned(treatment, BINS), "unit_id", quantile=quantile, level=0.95
    )
    expected = exact(control, treatment, quantile)
    assert isinstance(found, Effect)
    for name in ("mean_control", "mean_treatment"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=bound)
    # Half a bin's width on either side of either arm, and a standard error that hardly moves.
    assert found.se == pytest.approx(expected.se, rel=0.1)
    assert found.ci_lower == pytest.approx(expected.ci_lower, abs=2 * bound * expected.mean_treatment)
    assert (found.n_control, found.n_treatment) == (150, 150)
    said = next(flag for flag in found.flags if flag.startswith("from a histogram"))
    assert float(said.rpartition("most ")[2].partition(" %")[0]) <= 100 * bound * 1.01


def test_what_lies_beyond_the_bins_is_not_guessed() -> None:
    bins = Bins(low=50, high=400, per_decade=30)
    control, treatment = (binned(drawn(seed, 0.0), bins) for seed in (1, 2))
    found = difference_in_binned_quantiles(control, treatment, "unit_id", quantile=0.5, level=0.95)
    assert isinstance(found, NotEstimable)
    assert "outside the bins" in found.reason
    inside = difference_in_binned_quantiles(control, treatment, "unit_id", quantile=0.2, level=0.95)
    assert isinstance(inside, Effect)


def test_the_order_of_units_and_bins_changes_nothing() -> None:
    control, treatment = binned(drawn(3, 0.0), BINS), binned(drawn(4, 0.1), BINS)
    turned = control.sample(fraction=1.0, shuffle=True, seed=1).with_columns(pl.col("values").list.reverse())
    pair = [
        difference_in_binned_quantiles(side, treatment, "unit_id", quantile=0.9, level=0.95)
        for side in (control, turned)
    ]
    assert pair[0] == pair[1]


def test_bin_numbers_get_their_edges() -> None:
    bins = Bins(edges=(1.0, 2.0, 4.0))
    frame = pl.DataFrame({"value": [{"bin": place, "n": place + 1} for place in range(4)]})
    found = frame.select(with_edges(pl.col("value"), bins).alias("value")).unnest("value").rows()
    assert found == [(None, 1.0, 1), (1.0, 2.0, 2), (2.0, 4.0, 3), (4.0, None, 4)]
