from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import exp_pipeline.stats


def test_importing_the_room_costs_little_and_brings_no_tables() -> None:
    room = Path(exp_pipeline.stats.__file__).parent
    paths = sorted(path.relative_to(room).with_suffix("") for path in room.rglob("*.py"))
    modules = [".".join(("exp_pipeline", "stats", *path.parts)) for path in paths if path.name != "__init__"]
    assert "exp_pipeline.stats.effects.means" in modules
    names = ", ".join(modules)
    script = (
        "import numpy, sys, time; begin = time.process_time()\n"
        f"import {names}\n"
        "print(time.process_time() - begin)\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    seconds, loaded = result.stdout.splitlines()
    # About 0.25 s here for all eighty modules, of which a command loads a few.
    assert float(seconds) < 0.6
    for heavy in ("scipy", "statsmodels", "pandas", "polars", "duckdb", "pandera", "dagster"):
        assert f"'{heavy}'" not in loaded
