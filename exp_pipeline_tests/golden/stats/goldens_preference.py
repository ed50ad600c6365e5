"""Makes golden_choix.json. Run in an environment of its own with choix==0.4.1, in this folder."""

from __future__ import annotations

import json
from importlib.metadata import version

import choix  # type: ignore[import-not-found]
import numpy as np

rng = np.random.default_rng(11)
strengths = rng.normal(size=7)
pairs = [tuple(int(i) for i in rng.choice(7, 2, replace=False)) for _ in range(500)]
data = [
    (i, j) if rng.random() < 1.0 / (1.0 + np.exp(strengths[j] - strengths[i])) else (j, i) for i, j in pairs
]
maximum = choix.ilsr_pairwise(7, data, alpha=0.0, tol=1e-12, max_iter=1000)
ridged = choix.opt_pairwise(7, data, alpha=0.7, method="Newton-CG", tol=1e-14)
cases = {
    "wins": [[sum((i, j) == pair for pair in data) for j in range(7)] for i in range(7)],
    "maximum": [float(x) for x in maximum],
    "ridge": 0.7,
    "ridged": [float(x) for x in ridged],
}
with open("golden_choix.json", "w") as file:
    tools = {tool: version(tool) for tool in ("choix", "numpy", "scipy")}
    json.dump({"generator": "goldens_preference.py", "tools": tools, "cases": cases}, file)
    file.write("\n")
