"""statsmodels: least squares with errors by cluster, outcome by outcome. by_statsmodels.py TASK DATA OUT

Arrays are given as they are, without formula or pandas, and labels of clusters are whole numbers from 0: the
form in which it spends the least on anything but the fit.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

METRICS = 20


def main() -> None:
    """Fit each outcome on the arm and write effects with intervals."""
    import numpy as np
    import polars as pl
    from statsmodels.regression.linear_model import OLS

    _, data, out = sys.argv[1:]
    frame = pl.read_parquet(f"{data}/clusters.parquet")
    outcomes = [frame[f"m{place}"].to_numpy() for place in range(METRICS)]
    treated, groups = frame["treated"].to_numpy(), frame["class"].to_numpy()
    wall, cpu = time.perf_counter(), time.process_time()
    design = np.column_stack((np.ones(treated.shape[0]), treated))
    rows: list[list[Any]] = []
    for place, values in enumerate(outcomes):
        fit = OLS(values, design).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
        low, high = fit.conf_int()[1]
        numbers = (fit.params[1], fit.bse[1], low, high, fit.pvalues[1], None, None)
        rows.append([f"m{place}", "treated", "", False, *numbers])
    used = {
        "inner_seconds": time.perf_counter() - wall,
        "inner_cpu_seconds": time.process_time() - cpu,
    }
    with open(out, "w", encoding="utf-8") as file:
        json.dump({"rows": rows, **used}, file, default=float)


if __name__ == "__main__":
    main()
