"""Makes golden_quasi_discontinuity.json: rdrobust, which the project does not call.

Run in an environment of its own: pip install rdrobust, then python goldens_quasi_discontinuity.py in this
folder. The rows of "senate" are the public data that come with it (Cattaneo, Frandsen and Titiunik 2015).
"""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
from rdrobust import rdrobust
from rdrobust.datasets import rdrobust_RDsenate

warnings.simplefilter("ignore")
rng = np.random.default_rng(43)


def widths(y: Any, x: Any, cutoff: float) -> tuple[float, float]:
    found = rdrobust(y, x, c=cutoff)
    return float(found.bws.iloc[0, 0]), float(found.bws.iloc[1, 0])


def one(y: Any, x: Any, cutoff: float, received: Any = None, h: float | None = None) -> dict[str, Any]:
    with contextlib.redirect_stdout(io.StringIO()):
        if received is None:
            found = rdrobust(y, x, c=cutoff, h=h)
        else:
            # Its own fuzzy bandwidth takes the ratio of levels side by side and so changes when a constant is
            # added to y. The bandwidth of y - ratio x received does not: made here from its sharp one.
            first, second = widths(y, x, cutoff)
            ratio = rdrobust(y, x, c=cutoff, fuzzy=received, h=first, b=second).coef.iloc[0, 0]
            first, second = widths(y - ratio * received, x, cutoff)
            found = rdrobust(y, x, c=cutoff, fuzzy=received, h=first, b=second)
    out = {
        "bandwidth": float(found.bws.iloc[0, 0]),
        "bias_bandwidth": float(found.bws.iloc[1, 0]),
        "estimates": [float(v) for v in found.coef.iloc[:, 0]],
        "se": [float(v) for v in found.se.iloc[:, 0]],
        "ci": [float(v) for v in found.ci.iloc[2]],
        "rows": [int(v) for v in found.N_h],
    }
    return out


def case(y: Any, x: Any, cutoff: float, received: Any = None, h: float | None = None) -> dict[str, Any]:
    return {
        "y": np.asarray(y).tolist(),
        "x": np.asarray(x).tolist(),
        "cutoff": cutoff,
        "received": None if received is None else np.asarray(received).tolist(),
        "given": h,
        **one(y, x, cutoff, received, h),
    }


n = 500
x = rng.normal(60, 12, n)
y = 3 + 0.05 * x + 0.002 * (x - 55) ** 2 + 1.2 * (x >= 58) + rng.normal(size=n)
got = (rng.random(n) < np.where(x >= 58, 0.8, 0.15)).astype(float)
yf = 1 + 0.03 * x + 2.0 * got + rng.normal(size=n)
oneside = np.where(x >= 58, got, 0.0)
marks = np.round(x)
senate = rdrobust_RDsenate()[["margin", "vote"]].dropna()
cases = {
    "sharp": case(y, x, 58.0),
    "given": case(y, x, 58.0, None, 9.0),
    "fuzzy": case(yf, x, 58.0, got),
    "one_sided": case(1 + 0.03 * x + 2.0 * oneside + rng.normal(size=n), x, 58.0, oneside),
    "marks": case(y, marks, 58.0),
    "coarse": case(y, 2 * np.round(x / 2), 58.0),
    "senate": case(senate["vote"].to_numpy(), senate["margin"].to_numpy(), 0.0),
}
with open("golden_quasi_discontinuity.json", "w") as file:
    content = {
        "generator": "goldens_quasi_discontinuity.py",
        "tools": {tool: version(tool) for tool in ("rdrobust", "numpy")},
        "cases": cases,
    }
    json.dump(content, file)
    file.write("\n")
