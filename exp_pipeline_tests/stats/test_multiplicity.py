from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pipeline.stats.multiplicity import benjamini_hochberg, holm
from exp_pipeline_tests.stats.golden import golden

CASE = golden("multiplicity")
P_VALUES = st.dictionaries(st.text(max_size=3), st.floats(0, 1), min_size=1, max_size=12)


@pytest.mark.parametrize(("correct", "name"), [(holm, "holm"), (benjamini_hochberg, "bh")])
def test_corrections_equal_r(correct, name: str) -> None:  # type: ignore[no-untyped-def]
    p = {f"m{index}": value for index, value in enumerate(CASE["p"])}
    adjusted = correct(p)
    assert list(adjusted) == list(p)
    assert list(adjusted.values()) == pytest.approx(CASE[name], rel=1e-12)  # one product each


@given(P_VALUES)
def test_corrections_never_help_and_keep_the_ranking(p: dict[str, float]) -> None:
    strict, lenient = holm(p), benjamini_hochberg(p)
    for name, value in p.items():
        assert value <= lenient[name] * (1 + 1e-12)
        assert lenient[name] <= strict[name] * (1 + 1e-12)
        assert strict[name] <= 1
    ranked = sorted(p, key=lambda name: p[name])
    for corrected in (strict, lenient):
        values = [corrected[name] for name in ranked]
        assert values == sorted(values)


@given(P_VALUES, st.randoms())
def test_order_says_nothing(p: dict[str, float], random) -> None:  # type: ignore[no-untyped-def]
    items = list(p.items())
    random.shuffle(items)
    assert holm(dict(items)) == holm(p)
    assert benjamini_hochberg(dict(items)) == pytest.approx(benjamini_hochberg(p))


def test_no_tests_and_bad_values() -> None:
    assert holm({}) == {}
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="'x'"):
            holm({"x": bad})
        with pytest.raises(ValueError, match="'x'"):
            benjamini_hochberg({"x": bad})
