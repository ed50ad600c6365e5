from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "golden" / "stats"


def golden(name: str) -> Any:
    """Which numbers did the independent software give? See the generators beside the files."""
    content = json.loads((FOLDER / f"golden_{name}.json").read_text())
    assert content["tools"], f"golden_{name}.json does not name the tools that made it"
    return content["cases"]
