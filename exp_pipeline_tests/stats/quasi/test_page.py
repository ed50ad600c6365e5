"""The page on designs without randomisation: its examples run and print what it says."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "without-randomisation.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(
    r"^## ([^\n]+)\n(?:(?!^## ).)*?```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, flags=re.S | re.M
)


def printed_by(heading: str, code: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, f"docs/without-randomisation.md: {heading}", "exec"), {})
    return out.getvalue()


@pytest.mark.parametrize(("heading", "code", "printed"), EXAMPLES, ids=[example[0] for example in EXAMPLES])
def test_the_example_prints_what_stands_below_it(heading: str, code: str, printed: str) -> None:
    assert printed_by(heading, code) == printed
    assert printed


def test_every_part_has_an_example() -> None:
    assert [example[0] for example in EXAMPLES] == re.findall(r"^## (.+)$", PAGE, flags=re.M)
    assert PAGE.count("```python") == len(EXAMPLES)


def test_every_function_of_the_table_exists() -> None:
    cells = re.findall(r"^\| .+? \| (`.+?) \|", PAGE, flags=re.M)
    names = [name for cell in cells for name in re.findall(r"`(\w+)\.(\w+)`", cell)]
    assert len(names) >= 10
    for module, function in names:
        assert callable(getattr(importlib.import_module(f"exp_pipeline.stats.quasi.{module}"), function))
