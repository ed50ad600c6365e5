"""The text of gauges reads back as it was meant, whatever stands in labels."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from exp_pipeline.report.prometheus import Gauge, Sample, prometheus_text

_LINE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"', flags=re.DOTALL)


def read(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a text, by name and labels: a reader of its own."""
    found = {}
    for line in text.split("\n"):
        if line and not line.startswith("#"):
            match = _LINE.fullmatch(line)
            assert match, line
            labels = tuple(
                (name, re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m.group(1), m.group(1)), value))
                for name, value in _LABEL.findall(match.group(2) or "")
            )
            found[match.group(1), labels] = float(match.group(3))
    return found


@given(st.dictionaries(st.text(max_size=20), st.floats(allow_nan=False, allow_infinity=False), max_size=6))
def test_labels_and_values_read_back(values: dict[str, float]) -> None:
    samples = [Sample(value, {"experiment": name}) for name, value in values.items()]
    text = prometheus_text([Gauge("exp_x", "What x is.", samples)])
    assert read(text) == {("exp_x", (("experiment", name),)): value for name, value in values.items()}


def test_the_format_is_that_of_the_collector() -> None:
    text = prometheus_text(
        [
            Gauge("exp_a", "Lines\nand \\.", [Sample(2, {"b": "y", "a": "x"}), Sample(1)]),
            Gauge("exp_none", ""),
        ]
    )
    assert text == ('# HELP exp_a Lines\\nand \\\\.\n# TYPE exp_a gauge\nexp_a 1.0\nexp_a{a="x",b="y"} 2.0\n')
    assert prometheus_text([]) == ""
