"""cluster-experiments: 19 means, plain and adjusted, one ratio. by_cluster_experiments.py TASK DATA OUT

Its analysis classes are called directly: its plans copy the whole table for each metric and arm. Least
squares with the robust variance that is cheapest to make; the ratio by its delta method, unadjusted, for its
adjustment is of another kind (the covariate times the denominator).
"""

from __future__ import annotations

import json
import sys
from typing import Any

METRICS, RATIO = 20, 19


def main() -> None:
    """One fit a metric, arm and adjustment."""
    import pandas as pd
    from cluster_experiments.experiment_analysis import (  # type: ignore[import-not-found]
        DeltaMethodAnalysis,
        OLSAnalysis,
    )

    _, data, out = sys.argv[1:]
    names = [f"m{place}" for place in range(METRICS)] + [f"p{place}" for place in range(METRICS)]
    frame = pd.read_parquet(f"{data}/units.parquet", columns=["unit", "arm", "base", *names])
    found: list[list[Any]] = []
    for arm in ("hints", "worked"):
        pair = frame[frame["arm"].isin(["control", arm])]
        for place in range(METRICS):
            for adjusted in (False, True):
                if place == RATIO and adjusted:
                    continue
                if place == RATIO:
                    columns = ["unit", "arm", f"m{place}", "base"]
                    asked = DeltaMethodAnalysis(
                        cluster_cols=["unit"], target_col=f"m{place}", scale_col="base",
                        treatment_col="arm", treatment=arm,
                    )  # fmt: skip
                else:
                    columns = ["arm", f"m{place}", f"p{place}"]
                    asked = OLSAnalysis(
                        target_col=f"m{place}", treatment_col="arm", treatment=arm, cov_type="HC1",
                        covariates=[f"p{place}"] if adjusted else None,
                    )  # fmt: skip
                one = asked.get_inference_results(pair[columns], alpha=0.05)
                interval = (one.conf_int.lower, one.conf_int.upper)
                numbers = (one.ate, one.std_error, *interval, one.p_value, None, None)
                found.append([f"m{place}", arm, "", adjusted, *numbers])
    with open(out, "w", encoding="utf-8") as file:
        json.dump({"rows": found}, file, default=float)


if __name__ == "__main__":
    main()
