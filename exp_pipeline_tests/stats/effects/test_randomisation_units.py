"""Units drawn one by one are tested from sums by arm; pairs of equal rows go the general way and agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.effects.randomisation import RandomisationTest, randomisation_test


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(12, 60), st.sampled_from(["normal", "shares", "far", "heavy"]),
    st.floats(0.2, 0.8),
)  # fmt: skip
def test_doubled_rows_as_clusters_say_the_same(seed: int, n: int, kind: str, share: float) -> None:
    rng = np.random.default_rng(seed)
    treated = np.arange(n) < max(2, min(n - 2, round(share * n)))
    y = {
        "normal": rng.normal(size=n) + 0.5 * treated,
        "shares": (rng.random(n) < 0.5).astype(float),
        "far": 1e6 + rng.normal(size=n),
        "heavy": rng.lognormal(0, 2, n),
    }[kind]
    if np.ptp(y) == 0.0:
        return
    one = randomisation_test(y, treated, seed=7, draws=199)
    two = randomisation_test(
        np.repeat(y, 2), np.repeat(treated, 2), seed=7, draws=199, cluster=np.repeat(np.arange(n), 2)
    )
    assert isinstance(one, RandomisationTest)
    assert isinstance(two, RandomisationTest)
    assert one.p_value == two.p_value
    assert one.absolute == pytest.approx(two.absolute, rel=1e-9, abs=1e-9)
    for mine, other in ((one.ci_lower, two.ci_lower), (one.ci_upper, two.ci_upper)):
        if mine is None or other is None:
            assert mine == other
            continue
        assert mine == pytest.approx(other, rel=1e-6, abs=1e-6 * float(np.std(y)))
