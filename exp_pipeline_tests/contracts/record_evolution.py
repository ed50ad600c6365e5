"""Takes additions to the contracts into `evolution.json`.

Run `python -m exp_pipeline_tests.contracts.record_evolution`. It writes nothing where a change is not an
addition; the first time, where there is no record, it begins one.
"""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path

from exp_pipeline.contracts import evolution


def main(place: Path | None = None) -> int:
    """Record what was added. Gives 1, with the reasons on stderr, where something else changed."""
    file = place or Path(evolution.__file__).with_name(evolution.RECORD)
    now = evolution.current()
    if file.is_file():
        found = evolution.changes(json.loads(file.read_text(encoding="utf-8")), now, today=date.today())
        broken = [change for change in found if not change.additive]
        for change in broken or found:
            print(change, file=sys.stderr if broken else sys.stdout)
        if broken:
            return 1
    file.write_text(evolution.record_text(now), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
