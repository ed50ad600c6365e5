"""The page on what goes beyond A/B: its examples run and print what it says."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "beyond-ab.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(
    r"^## ([^\n]+)\n(?:(?!^## ).)*?```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, flags=re.S | re.M
)


@pytest.mark.parametrize(("heading", "code", "printed"), EXAMPLES, ids=[example[0] for example in EXAMPLES])
def test_the_example_prints_what_stands_below_it(heading: str, code: str, printed: str) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, f"docs/beyond-ab.md: {heading}", "exec"), {})
    assert out.getvalue() == printed


def test_every_part_has_an_example() -> None:
    assert [example[0] for example in EXAMPLES] == re.findall(r"^## (.+)$", PAGE, flags=re.M)
    assert PAGE.count("```python") == len(EXAMPLES)


def test_every_function_of_the_table_exists() -> None:
    table = re.findall(r"^\| .+? \| (`.+?) \|", PAGE, flags=re.M)
    found = 0
    for cell in table:
        module = ""
        for name in re.findall(r"`([\w.]+)`", cell):
            *parts, function = name.split(".")
            module = ".".join(parts) or module
            assert callable(getattr(importlib.import_module(f"exp_pipeline.stats.{module}"), function))
            found += 1
    assert found >= 18
