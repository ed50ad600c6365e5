"""Makes `golden_flag_arms.json`: what the real flag SDKs give to 100,000 units at every stage.

    python -m exp_pipeline_tests.golden.flags.goldens_flags FOLDER PYTHON_OF_FLAGD PYTHON_OF_FLAGD_V2

from the project's environment. The two Pythons have openfeature-provider-flagd 0.6.1 (hash of scheme `flagd`)
and 0.5.0 (`flagd-v2`), both growthbook 4.0.0; FOLDER takes the flag files and the products' own buckets.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from exp_pipeline.model.digests import digest_of
from exp_pipeline_tests.analysis.ramps.flag_stages import READ_BY, STAGES, documents, write

UNITS = 100_000
HERE = Path(__file__).parent


def main(folder: Path, pythons: dict[str, str]) -> None:
    """Write the files of every stage, let the SDKs read them, keep what they say."""
    write(folder, UNITS)
    runs: dict[str, Any] = {}
    for release, names in READ_BY.items():
        place, stages, made_by = folder / release, {}, {}
        for stage in STAGES:
            files = [str(place / f"{stage}.{kind}.json") for kind in ("flagd", "growthbook")]
            done = subprocess.run(
                [
                    pythons[release],
                    str(HERE / "flag_arms.py"),
                    *files,
                    str(UNITS),
                    str(place / "buckets.json"),
                ],
                capture_output=True,
                text=True,
                check=True,
                timeout=3600,
            )
            said = json.loads(done.stdout)
            made_by = said["made_by"]
            stages[stage] = {
                "documents": digest_of(list(documents(stage, names))),
                "flagd": said["flagd"],
                "growthbook": said["growthbook"],
            }
        runs[release] = {"made_by": made_by, "stages": stages}
    content = json.dumps({"runs": runs, "units": UNITS}, indent=1, sort_keys=True)
    (HERE / "golden_flag_arms.json").write_text(content + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), {"flagd": sys.argv[2], "flagd-v2": sys.argv[3]})
