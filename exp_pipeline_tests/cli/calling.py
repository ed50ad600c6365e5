"""How the tests call the command line: in this process, or as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without what would point the command line elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EXP_", "DAGSTER_"))}
    return {**kept, "PYTHONPATH": str(ROOT), **changes}


def exp(
    *arguments: object, cwd: Path, warnings: str = "error", **changes: str
) -> subprocess.CompletedProcess[str]:
    """`exp` with these arguments, in a folder and with environment variables of its own."""
    return subprocess.run(
        [sys.executable, "-W", warnings, "-m", "exp_pipeline.cli", *map(str, arguments)],
        cwd=cwd,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
