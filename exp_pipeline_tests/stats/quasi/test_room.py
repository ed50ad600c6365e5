from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import exp_pipeline.stats.quasi


def test_importing_the_room_brings_no_scipy_and_no_tables() -> None:
    modules = sorted(path.stem for path in Path(exp_pipeline.stats.quasi.__file__).parent.glob("*.py"))
    names = ", ".join(f"exp_pipeline.stats.quasi.{name}" for name in modules if name != "__init__")
    script = f"import sys\nimport {names}\nprint(sorted({{name.split('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "'numpy'" in loaded
    for heavy in ("scipy", "statsmodels", "pandas", "polars", "duckdb", "pandera", "dagster"):
        assert f"'{heavy}'" not in loaded
