from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import special

from exp_pipeline.stats.relative import hedges_correction
from exp_pipeline.stats.tails import (
    MANY_DF,
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


def test_the_correction_of_effect_sizes_is_the_gamma_ratio() -> None:
    # lgamma at 1e6 keeps 1e-10 of its difference; the series is the more exact of the two.
    for df, found in zip(DF[:-1], hedges_corrections(DF[:-1]), strict=True):
        assert found == pytest.approx(hedges_correction(float(df)), rel=1e-9)
    assert hedges_corrections(np.array([1e12]))[0] == pytest.approx(1.0 - 3.0 / (4.0 * 1e12 - 1.0), rel=1e-15)


def test_nothing_is_loaded_while_degrees_of_freedom_are_many() -> None:
    code = (
        "import sys, numpy as np\n"
        "from exp_pipeline.stats.many import many_means\n"
        "from exp_pipeline.stats.moments_table import MomentsTable\n"
        "n = np.full(3, 9_000)\n"
        "table = MomentsTable.of_sums(n, np.ones((3, 1)), np.full((3, 1, 1), 5e3), ('y',))\n"
        "print(many_means(table, table, outcome='y').p_value.tolist(), 'scipy.special' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[1.0, 1.0, 1.0] False"
    assert math.isfinite(float(t_tails(np.array([1.0]), np.array([5.0]))[0]))
