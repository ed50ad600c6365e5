"""`exp analyze` without a brief: what it prints and writes, and how it explains a mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from exp_pipeline.cli.app import app


@pytest.fixture
def units(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    n = 400
    arm = rng.choice(["control", "new"], n)
    frame = pl.DataFrame(
        {
            "id": range(n),
            "arm": arm,
            "class": rng.integers(0, 40, n),
            "y": rng.normal(size=n) + (arm == "new"),
            "clicks": rng.poisson(3, n),
            "views": rng.integers(5, 9, n),
        }
    )
    frame.write_csv(tmp_path / "units.csv")
    frame.write_parquet(tmp_path / "units.parquet")
    return tmp_path / "units.csv"


def call(*words: object) -> Result:
    return CliRunner().invoke(app, ["analyze", *(str(word) for word in words)])


def test_a_table_is_answered_at_once(units: Path, tmp_path: Path) -> None:
    done = call(units, "--unit", "id", "--arm", "arm", "--outcome", "y,clicks/views", "--shares",
                "control=0.5,new=0.5", "--out", tmp_path / "found")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "sample ratio: pass" in done.stdout
    assert "clicks/views" in done.stdout
    assert "welch" in done.stdout
    found = json.loads((tmp_path / "found" / "estimates.json").read_text())
    assert [row["outcome"] for row in found["estimates"]] == ["y", "clicks/views"]
    machine = call(
        units, "--unit", "id", "--arm", "arm", "--outcome", "y,clicks/views", "--shares", "equal", "--json"
    )
    assert [row["absolute"] for row in json.loads(machine.stdout)["estimates"]] == [
        row["absolute"] for row in found["estimates"]
    ]


def test_a_quantile_is_told_in_table_and_json(units: Path) -> None:
    words = ("--arm", "arm", "--outcome", "y", "--quantile", "0.95", "--quantile", "0.5")
    shown, machine = call(units, *words), call(units, *words, "--json")
    assert shown.exit_code == 0, shown.output
    assert "y p95" in shown.stdout
    found = json.loads(machine.stdout)
    assert [row["quantile"] for row in found["estimates"]] == [0.95, 0.5]
    assert found["design"]["quantiles"] == [0.95, 0.5]
    frame = pl.read_csv(units)
    levels = [float(np.quantile(frame.filter(arm=name)["y"].to_numpy(), 0.95)) for name in ("control", "new")]
    assert found["estimates"][0]["absolute"] == pytest.approx(levels[1] - levels[0], rel=1e-9)


def test_csv_and_parquet_say_the_same(units: Path) -> None:
    words = ("--arm", "arm", "--outcome", "y", "--cluster", "class", "--json")
    one, other = (json.loads(call(path, *words).stdout) for path in (units, units.with_suffix(".parquet")))
    assert one["estimates"] == other["estimates"]
    assert one["estimates"][0]["method"] == "cr2"


def test_rows_of_arms_need_no_arm_column(tmp_path: Path) -> None:
    pl.DataFrame({"n": [2000, 2000], "x": [760, 840]}).write_csv(tmp_path / "arms.csv")
    done = call(tmp_path / "arms.csv", "--trials", "n", "--successes", "x", "--json")
    (row,) = json.loads(done.stdout)["estimates"]
    assert (round(row["absolute"], 4), round(row["se"], 4)) == (0.04, 0.0155)
    assert (round(row["ci_lower"], 2), round(row["ci_upper"], 2)) == (0.01, 0.07)


def test_thousands_of_comparisons_are_summed_up(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    test = np.repeat(np.arange(100), 3)
    frame = pl.DataFrame({"test": test, "n": 500, "x": rng.binomial(500, 0.1, test.size)})
    frame.write_csv(tmp_path / "many.csv")
    done = call(
        tmp_path / "many.csv",
        "--test",
        "test",
        "--trials",
        "n",
        "--successes",
        "x",
        "--out",
        tmp_path / "e.json",
    )
    assert done.exit_code == 0, done.output
    assert "100 tests, 100 with a p-value" in done.stdout
    assert len(json.loads((tmp_path / "e.json").read_text())["estimates"]) == 200


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name the table"),
        (("t.csv", "--table", "u.csv"), "named twice"),
        (("UNITS",), "--arm ARM --outcome Y"),
        (("UNITS", "--arm", "group", "--outcome", "y"), "--arm: the table has no such column"),
        (
            ("UNITS", "--arm", "arm", "--outcome", "y", "--shares", "control:1"),
            "give arm=share once for each arm",
        ),
        (("UNITS", "--arm", "arm", "--outcome", "y", "--correction", "none"), "allowed are holm"),
        (
            ("UNITS", "--arm", "arm", "--test", "id", "--outcome", "y", "--cluster", "class"),
            "without --cluster",
        ),
        (
            ("UNITS", "--arm", "arm", "--test", "id", "--outcome", "y", "--quantile", "0.5"),
            "without --quantile",
        ),
        (("UNITS", "--arm", "arm", "--outcome", "y", "--quantile", "95"), "between 0 and 1"),
        (("UNITS", "--arm", "arm", "--outcome", "clicks/views", "--quantile", "0.5"), "has a denominator"),
        (("UNITS", "--trials", "views"), "trials and successes go together"),
        (("UNITS", "--brief", "b.yaml"), "name its folder with --out"),
    ],
)
def test_mistakes_are_explained(units: Path, words: tuple[str, ...], said: str) -> None:
    done = call(*(units if word == "UNITS" else word for word in words))
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_only_light_libraries_are_loaded(units: Path) -> None:
    code = (
        "import sys\n"
        "from exp_pipeline.cli.app import app\n"
        f"words = ['analyze', {str(units)!r}, '--arm', 'arm', '--outcome', 'y', '--json']\n"
        "app(words, standalone_mode=False)\n"
        "heavy = {'dagster', 'pandera', 'statsmodels', 'scipy', 'pandas', 'duckdb', 'sqlglot'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.strip() == "[]"
