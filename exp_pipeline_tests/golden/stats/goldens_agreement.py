"""Makes golden_raters.json. Run in an environment of its own with krippendorff and irrcac, in this folder."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import krippendorff  # type: ignore[import-not-found]
import numpy as np
import pandas as pd  # type: ignore[import-untyped,unused-ignore]
from irrCAC.raw import CAC  # type: ignore[import-not-found]

rng = np.random.default_rng(21)


def drawn(units: int, raters: int, gaps: float) -> np.ndarray:
    truth = rng.integers(1, 6, units)
    labels: np.ndarray = np.clip(truth[:, None] + rng.choice([-1, 0, 0, 0, 1], (units, raters)), 1, 5).astype(
        float
    )
    labels[rng.random(labels.shape) < gaps] = np.nan
    short = (~np.isnan(labels)).sum(axis=1) < 2
    labels[short, :2] = truth[short, None]
    return labels


def case(labels: np.ndarray) -> dict[str, Any]:
    result: dict[str, Any] = {"labels": [[None if np.isnan(x) else int(x) for x in row] for row in labels]}
    result["alpha"] = {
        scale: float(krippendorff.alpha(reliability_data=labels.T, level_of_measurement=scale))
        for scale in ("nominal", "ordinal", "interval", "ratio")
    }
    raw = CAC(pd.DataFrame(labels), digits=15)
    for name, found in (("fleiss", raw.fleiss()["est"]), ("ac1", raw.gwet()["est"])):
        result[name] = {"value": float(found["coefficient_value"]), "se": float(found["se"])}
    return result


# The example of Krippendorff (2011), four observers and twelve units.
published = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, np.nan, np.nan, np.nan],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, np.nan, 3],
        [np.nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, np.nan],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, np.nan],
    ]
).T
cases = {"full": case(drawn(60, 3, 0.0)), "gaps": case(drawn(80, 4, 0.25)), "published": case(published)}
with open("golden_raters.json", "w") as file:
    tools = {tool: version(tool) for tool in ("krippendorff", "irrcac", "numpy")}
    json.dump({"generator": "goldens_agreement.py", "tools": tools, "cases": cases}, file)
    file.write("\n")
