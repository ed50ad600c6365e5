from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.labels.krippendorff import Alpha, krippendorff_alpha
from exp_pipeline.stats.results import NotEstimable
from exp_pipeline_tests.stats.golden import golden

RATERS = golden("raters")
SCALES = ["nominal", "ordinal", "interval", "ratio"]


def estimated(result: Alpha | NotEstimable) -> Alpha:
    assert isinstance(result, Alpha), result
    return result


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", RATERS)
def test_alpha_equals_the_krippendorff_package(name: str, scale: Any) -> None:
    found = estimated(krippendorff_alpha(RATERS[name]["labels"], scale=scale, seed=1, draws=100))
    assert found.value == pytest.approx(RATERS[name]["alpha"][scale], rel=1e-12)


def test_the_published_example() -> None:
    # Krippendorff (2011), section C and D: .743, .815, .849, .797.
    labels = RATERS["published"]["labels"]
    found = [round(estimated(krippendorff_alpha(labels, scale=s, seed=1)).value, 3) for s in SCALES]  # type: ignore[arg-type]
    assert found == [0.743, 0.815, 0.849, 0.797]
    nominal = estimated(krippendorff_alpha(labels, scale="nominal", seed=1))
    assert (nominal.n_units, nominal.n_labels) == (11, 40)


def test_two_raters_and_interval_labels_by_brute_force_over_pairs() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(15, 2))
    within = np.mean([(a - b) ** 2 for a, b in rows])
    everything = rows.ravel()
    among = np.mean([(a - b) ** 2 for a, b in itertools.permutations(everything, 2)])
    found = estimated(krippendorff_alpha(rows.tolist(), scale="interval", seed=2, draws=100))
    assert found.value == pytest.approx(1 - within / among, rel=1e-12)


@pytest.mark.parametrize("scale", SCALES)
def test_draws_of_units_are_alphas_of_drawn_units(scale: Any) -> None:
    labels = RATERS["gaps"]["labels"]
    units, draws = len(labels), 100
    values = []
    for row in np.random.default_rng(5).integers(0, units, size=(draws, units)):
        drawn = [labels[i] for i in row]
        one = krippendorff_alpha(drawn, scale=scale, seed=1, draws=100, categories=[1, 2, 3, 4, 5])
        values.append(estimated(one).value)
    found = estimated(krippendorff_alpha(labels, scale=scale, seed=5, draws=draws, level=0.9))
    assert (found.ci_lower, found.ci_upper) == pytest.approx(np.percentile(values, (5, 95)), rel=1e-10)


def test_full_agreement_and_one_label() -> None:
    full = estimated(krippendorff_alpha([["a", "a"], ["b", "b"]], scale="nominal", seed=1))
    assert (full.value, full.ci_lower, full.ci_upper) == (1.0, None, None)
    assert full.flags
    cases: list[tuple[list[list[str | None]], str]] = [
        ([["a", "a"], ["a", "a"]], "all labels are 'a'"),
        ([["a", "b"], ["a", None]], "1 units have two or more labels"),
    ]
    for labels, words in cases:
        result = krippendorff_alpha(labels, scale="nominal", seed=1)
        assert isinstance(result, NotEstimable)
        assert words in result.reason


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="scale"):
        krippendorff_alpha([[1, 2]], scale="log", seed=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be numbers"):
        krippendorff_alpha([["a", "b"], ["a", "a"]], scale="interval", seed=1)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        krippendorff_alpha([[-1, 2], [1, 1]], scale="ratio", seed=1)
    with pytest.raises(ValueError, match="1002 values; round them"):
        krippendorff_alpha([[i, i + 0.5] for i in range(501)], scale="interval", seed=1)
    with pytest.raises(ValueError, match="draws"):
        krippendorff_alpha([[1, 2], [1, 1]], scale="ratio", seed=1, draws=5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), shift=st.integers(-50, 50), scale=st.integers(1, 9))
def test_what_each_scale_does_not_see(seed: int, shift: int, scale: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, 6, 20)
    labels = np.clip(truth[:, None] + rng.integers(-1, 2, (20, 3)), 1, 6)

    def alpha(values: np.ndarray, kind: Any) -> float:
        return estimated(krippendorff_alpha(values.tolist(), scale=kind, seed=1, draws=100)).value

    assert alpha(labels * scale + shift, "interval") == pytest.approx(alpha(labels, "interval"), abs=1e-10)
    assert alpha(labels * scale, "ratio") == pytest.approx(alpha(labels, "ratio"), abs=1e-10)
    assert alpha(labels**3 + shift, "ordinal") == pytest.approx(alpha(labels, "ordinal"), abs=1e-10)
    mixed = rng.permuted(labels, axis=1)[rng.permutation(20)]
    for kind in SCALES:
        assert alpha(mixed, kind) == pytest.approx(alpha(labels, kind), abs=1e-10)


def test_intervals_by_unit_cover() -> None:
    rng = np.random.default_rng(6)
    units, runs = 80, 150
    noise = 0.7
    # Two labels: truth plus noise on a normal scale; alpha for many units is the intraclass correlation.
    truth = 1.0 / (1.0 + noise**2)
    covered = 0
    for _ in range(runs):
        labels = (rng.normal(size=(units, 1)) + noise * rng.normal(size=(units, 3))).round(1)
        found = estimated(krippendorff_alpha(labels.tolist(), scale="interval", seed=7, draws=300))
        assert found.ci_lower is not None
        assert found.ci_upper is not None
        covered += found.ci_lower <= truth <= found.ci_upper
    # Percentiles of 80 units run a little short: 150 runs know the rate to 2 points.
    assert 0.86 < covered / runs < 0.98, covered
