"""mozanalysis: 19 means by arm, plain and adjusted. by_mozanalysis.py TASK DATA OUT

It has no ratio metrics and takes no segments. Its entry point for linear models compares one metric at a
time; only the columns of the task are read, and it is told not to copy them.
"""

from __future__ import annotations

import json
import sys
from typing import Any

METRICS, RATIO = 20, 19


def main() -> None:
    """Compare the branches by linear models and write effects and intervals."""
    import pandas as pd
    from mozanalysis.frequentist_stats.linear_models import (  # type: ignore[import-not-found]
        compare_branches_lm,
    )

    _, data, out = sys.argv[1:]
    places = [place for place in range(METRICS) if place != RATIO]
    names = [f"{kind}{place}" for place in places for kind in "mp"]
    frame = pd.read_parquet(f"{data}/units.parquet", columns=["arm", *names]).rename(
        columns={"arm": "branch"}
    )
    found: list[list[Any]] = []
    for place in places:
        for adjusted in (False, True):
            answer = compare_branches_lm(
                frame[["branch", f"m{place}", f"p{place}"]],
                f"m{place}",
                ref_branch_label="control",
                covariate_col_label=f"p{place}" if adjusted else None,
                alphas=[0.05],
                interactive=False,
            )
            for arm, one in answer["comparative"].items():
                effect, low, high = (one[("abs_uplift", key)] for key in ("exp", "0.025", "0.975"))
                relative = [one[("rel_uplift", key)] for key in ("0.025", "0.975")]
                numbers = (effect, (high - low) / 2, low, high, None, *relative)
                found.append([f"m{place}", str(arm), "", adjusted, *numbers])
    with open(out, "w", encoding="utf-8") as file:
        json.dump({"rows": found}, file)


if __name__ == "__main__":
    main()
