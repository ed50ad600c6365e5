from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import special

from exp_pipeline.stats.effects.relative import hedges_correction
from exp_pipeline.stats.tails import (
    MANY_DF,
    chi_square_tails,
    hedges_corrections,
    normal_critical,
    normal_tails,
    t_critical,
    t_tails,
)

DF = np.array([2.0, 17.5, 300.0, MANY_DF - 1.0, MANY_DF, 12_345.6, 1e6, 1e12])


def test_tails_are_scipys_far_out_too() -> None:
    t = np.linspace(0.0, 30.0, 301)
    for df in DF:
        n = np.full(t.shape, df)
        # Hill's correction leaves 1e-11 at t = 30 with 5,000 degrees of freedom, less with more.
        np.testing.assert_allclose(t_tails(t, n), special.stdtr(n, -t), rtol=1e-10)
    np.testing.assert_allclose(normal_tails(t), special.ndtr(-t), rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.45, 0.1, 0.025, 0.005, 1e-4, 1e-7])
def test_quantiles_are_scipys(alpha: float) -> None:
    assert normal_critical(alpha) == pytest.approx(-special.ndtri(alpha), rel=1e-13)
    np.testing.assert_allclose(t_critical(alpha, DF), -special.stdtrit(DF, alpha), rtol=1e-12)


@pytest.mark.parametrize("df", [1.0, 1.5, 2.0, 3.3, 7.0, 29.0, 30.0, 101.5, 1_000.0, MANY_DF - 0.01])
def test_tails_of_few_degrees_are_scipys_to_twelve_digits(df: float) -> None:
    t = np.concatenate([[0.0], np.linspace(0.01, 8.0, 200), [12.0, 20.0, 37.0, 1e3, 1e6]])
    n = np.full(t.shape, df)
    wanted = special.stdtr(n, -t)
    np.testing.assert_allclose(t_tails(t, n), wanted, rtol=1e-12, atol=1e-300)
    # Their quantiles lead back, whatever the two agree on.
    for alpha in (0.49, 0.2, 0.025, 1e-3, 1e-9):
        found = t_critical(alpha, np.array([df]))
        assert found[0] == pytest.approx(-special.stdtrit(df, alpha), rel=1e-12)
        assert t_tails(found, np.array([df]))[0] == pytest.approx(alpha, rel=1e-12)


def test_tails_at_one_and_two_degrees_are_closed_forms() -> None:
    # scipy's own are off by 3e-9 at 1e-8.
    t = np.concatenate([[1e-12, 1e-8, 1e-4], np.linspace(0.0, 50.0, 101)])
    cauchy = 0.5 - np.arctan(t) / math.pi
    np.testing.assert_allclose(t_tails(t, np.full(t.shape, 1.0)), cauchy, rtol=1e-12)
    root = np.sqrt(2.0 + t * t)
    two = 1.0 / (root * (root + t))
    np.testing.assert_allclose(t_tails(t, np.full(t.shape, 2.0)), two, rtol=1e-13)
    assert t_tails(np.array([1e200]), np.array([4.0]))[0] < 1e-290


def test_tails_do_not_jump_where_the_method_changes() -> None:
    t, below, above = np.linspace(0.0, 20.0, 81), MANY_DF * (1.0 - 1e-14), MANY_DF
    near = [t_tails(t, np.full(t.shape, df)) for df in (below, above)]
    np.testing.assert_allclose(near[0], near[1], rtol=1e-11)


@pytest.mark.parametrize("df", [1, 2, 3, 4, 7, 20, 61, 200])
def test_chi_square_tails_are_scipys(df: int) -> None:
    statistic = np.concatenate([[0.0], np.geomspace(1e-6, 1_600.0, 300)])
    wanted = special.chdtrc(df, statistic)
    found = chi_square_tails(statistic, np.full(statistic.shape, df))
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-300)


def test_a_quantile_above_the_middle_is_refused() -> None:
    with pytest.raises(ValueError, match=r"between 0 and 0\.5, got 0\.7"):
        t_critical(0.7, np.array([4.0]))


def test_the_correction_of_effect_sizes_is_the_gamma_ratio() -> None:
    # lgamma at 1e6 keeps 1e-10 of its difference; the series is the more exact of the two.
    for df, found in zip(DF[:-1], hedges_corrections(DF[:-1]), strict=True):
        assert found == pytest.approx(hedges_correction(float(df)), rel=1e-9)
    assert hedges_corrections(np.array([1e12]))[0] == pytest.approx(1.0 - 3.0 / (4.0 * 1e12 - 1.0), rel=1e-15)


def test_no_library_is_loaded_for_tails() -> None:
    code = (
        "import sys, numpy as np\n"
        "from exp_pipeline.stats.many.effects import many_means\n"
        "from exp_pipeline.stats.moments_table import MomentsTable\n"
        "n = np.array([9_000, 30, 2])\n"
        "table = MomentsTable.of_sums(n, np.ones((3, 1)), np.full((3, 1, 1), 5e3), ('y',))\n"
        "print(many_means(table, table, outcome='y').p_value.tolist(), 'scipy.special' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[1.0, 1.0, 1.0] False"
    assert math.isfinite(float(t_tails(np.array([1.0]), np.array([5.0]))[0]))
