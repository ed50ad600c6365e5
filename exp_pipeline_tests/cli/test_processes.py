"""`exp` as a process of its own: quick to answer, quiet about its insides, right in its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import yaml

from exp_pipeline_tests.cli.calling import ROOT, environment, exp
from exp_pipeline_tests.cli.test_tables import brief

HEAVY = ("dagster", "polars", "duckdb", "pandera", "pydantic", "scipy", "numpy")


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    """Half a second for `--help` is kept by what is not imported, which does not depend on the machine."""
    program = (
        "import sys\nfrom exp_pipeline.cli.app import app\n"
        "try:\n app(['--help'])\nexcept SystemExit as done:\n assert not done.code\n"
        f"print(sorted(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.strip() == "[]"
    assert "exp" in done.stdout


def test_the_repositorys_own_catalog_is_valid(tmp_path: Path) -> None:
    done = exp("validate", cwd=tmp_path, EXP_HOME=str(ROOT / "data"))
    assert done.returncode == 0, done.stderr
    assert "is valid" in done.stdout


def test_assign_is_the_same_in_every_process_and_as_coreutils_tell(tmp_path: Path) -> None:
    """First 16 digits of `sha256sum` modulo 10000 and 100: 5863 and 63 for `exp:v1:u1`, 7921, 21 for u2."""
    arms = ("--arms", "control=0.6,treatment=0.4")
    for seed in ("1", "7"):
        done = exp("assign", "exp", "u1", "u2", *arms, cwd=tmp_path, PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "u1\tcontrol\nu2\ttreatment\n"
    percent = exp("assign", "exp", "u1", "u2", *arms, "--scheme", "percent-v1", cwd=tmp_path)
    assert percent.stdout == "u1\tcontrol\nu2\ttreatment\n"


def test_a_simulated_world_lands_and_is_never_overwritten(tmp_path: Path) -> None:
    words = (
        "simulate",
        "--plan",
        "bench",
        "--events",
        10_000,
        "--days",
        14,
        "--out",
        tmp_path / "landing",
        "--json",
    )
    done = exp(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    lines = sum(
        int(pl.read_ndjson(path).height) for path in sorted((tmp_path / "landing").rglob("*.ndjson.gz"))
    )
    assert lines == found["truth"]["rows"]
    again = exp(*words, cwd=tmp_path)
    assert again.returncode == 2
    assert "never overwritten" in again.stderr
    assert "Traceback" not in again.stderr


def test_analyze_needs_neither_dagster_nor_a_home(tmp_path: Path) -> None:
    (tmp_path / "brief.yaml").write_text(yaml.safe_dump(brief()))
    pl.DataFrame({"user_id": [1, 2, 3, 4], "video": [0, 1, 0, 1], "completion": [0, 1, 1, 1]}).write_csv(
        tmp_path / "units.csv"
    )
    # A folder named before the real packages, whose `dagster` refuses to be imported.
    (tmp_path / "dagster.py").write_text("raise ImportError('exp analyze must not import dagster')")
    done = exp(
        "analyze", "--brief", "brief.yaml", "--table", "units.csv", "--out", "out",
        cwd=tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (tmp_path / "out" / "memo.html").is_file()
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} == {"out"}


def test_run_goes_through_dagster_and_tells_of_each_step(tmp_path: Path) -> None:
    home, landing = tmp_path / "home", tmp_path / "home" / "landing"
    assert exp("init", home, cwd=tmp_path).returncode == 0
    first = landing / "received_date=2026-03-01"
    first.mkdir()
    (first / "broken.ndjson").write_text("this is not JSON\n")
    # Dagster raises a deprecation warning about itself, so warnings are no errors here.
    done = exp(
        "run",
        "--home",
        home,
        cwd=tmp_path,
        warnings="ignore",
        EXP_HMAC_KEY="a key of the tests alone",
        DAGSTER_HOME=str(tmp_path / "history"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Daily tables, 2026-03-01 to 2026-03-01" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines() if line.endswith(" s")][:3] == [
        "land",
        "read_roster",
        "conform",
    ]
    assert "DEBUG" not in done.stdout + done.stderr
    status = json.loads(exp("status", "--home", home, "--json", cwd=tmp_path).stdout)
    assert (status["newest_landed_day"], status["landed_days_not_read"]) == ("2026-03-01", [])
