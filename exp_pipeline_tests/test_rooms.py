"""The house as drawn: its rooms, who may import whom, and how large a room's pieces may grow."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "exp_pipeline"
ROOMS = (
    "defs",
    "steps",
    "catalog",
    "store",
    "analysis",
    "report",
    "notify",
    "simulate",
    "transform",
    "stats",
    "contracts",
    "model",
)
DOORS = ("definitions", "cli", "workspace")
LONGEST_MODULE = 450
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc", "shared"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(module: Path) -> str:
    return module.relative_to(ROOT).as_posix()


def top_level_imports(text: str) -> set[str]:
    """The outermost packages that a module imports anywhere, also inside functions and through importlib."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"}:
                found.add(str(node.args[0].value).partition(".")[0])
    return found


def knows_dagster(text: str) -> bool:
    return any(name == "dagster" or name.startswith("dagster_") for name in top_level_imports(text))


def contracts() -> list[dict[str, Any]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        found: list[dict[str, Any]] = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    return found


def test_import_contracts_hold() -> None:
    # In a process of its own: import-linter's set-up of logging silences every logger made before it.
    program = (
        "from importlinter.cli import lint_imports;"
        "raise SystemExit(lint_imports(config_filename='pyproject.toml', no_cache=True, no_logo=True))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_layers_name_every_room() -> None:
    (layers,) = (contract["layers"] for contract in contracts() if contract["type"] == "layers")
    named = {room.strip() for layer in layers for room in layer.split("|")}
    assert named == {*ROOMS, *DOORS}


def test_the_folders_are_the_rooms() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders - set(DOORS) == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_says_what_it_is_for(room: str) -> None:
    text = (PACKAGE / room / "__init__.py").read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), f"exp_pipeline/{room}/__init__.py has no docstring"


def test_nothing_but_the_doors_stands_outside_a_room() -> None:
    apart = {"__pycache__", "py.typed"}
    outside = {path.stem for path in PACKAGE.iterdir() if path.name not in apart} - set(ROOMS)
    assert outside == {"__init__", *DOORS}


def test_every_module_is_named_after_its_subject() -> None:
    nameless = [
        name_of(path)
        for folder in (PACKAGE, ROOT / "exp_pipeline_tests")
        for path in folder.rglob("*")
        if path.stem in NAMELESS and (path.suffix == ".py" or path.is_dir())
    ]
    assert nameless == []


def test_modules_stay_short() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_MODULE} == {}


def test_only_the_edge_knows_dagster() -> None:
    knowing = [name_of(path) for path in modules() if knows_dagster(path.read_text(encoding="utf-8"))]
    inside = [
        name
        for name in knowing
        if not name.startswith("exp_pipeline/defs/") and name != "exp_pipeline/definitions.py"
    ]
    assert inside == []
    assert knowing, "no module imports Dagster: the search finds nothing"


@pytest.mark.parametrize(
    ("text", "knows"),
    [
        ("import dagster as dg", True),
        ("def f():\n    from dagster_duckdb import DuckDBResource", True),
        ("import importlib\nimportlib.import_module('dagster._core')", True),
        ("from .dagster import nothing", False),
        ("text = 'import dagster'", False),
    ],
)
def test_the_search_for_dagster_finds_hidden_imports(text: str, knows: bool) -> None:
    assert knows_dagster(text) is knows
