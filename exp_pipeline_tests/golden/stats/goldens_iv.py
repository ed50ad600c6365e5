"""Makes golden_iv.json: linearmodels' two-stage least squares, which the project does not call.

Run in an environment of its own: pip install linearmodels numpy, then python goldens_iv.py in this folder.
"""

from __future__ import annotations

import json
from importlib.metadata import version

import numpy as np
from linearmodels.iv import IV2SLS

rng = np.random.default_rng(302)


def trial(sizes: list[int], covariates: int, dose: bool) -> dict[str, object]:
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    n = cluster.size
    arm = (cluster % 2).astype(float)
    x = rng.normal(size=(n, covariates))
    u = rng.normal(size=n)
    received = 0.5 + 1.2 * arm + u if dose else (0.9 * arm + u > 0.6).astype(float)
    y = 2 + 1.5 * received + u + rng.normal(size=len(sizes))[cluster] + rng.normal(size=n) + x.sum(axis=1)
    others = np.column_stack([np.ones(n), x])
    model = IV2SLS(y, others, received, arm)
    robust = model.fit(cov_type="robust", debiased=True)
    clustered = model.fit(cov_type="clustered", clusters=cluster, debiased=True)
    return {
        "y": y.tolist(),
        "arm": arm.tolist(),
        "received": received.tolist(),
        "cluster": cluster.tolist(),
        "covariates": x.T.tolist(),
        "absolute": float(robust.params.iloc[-1]),
        "robust_se": float(robust.std_errors.iloc[-1]),
        "clustered_se": float(clustered.std_errors.iloc[-1]),
    }


cases = {
    "yes_or_no": trial([8, 5, 11, 7, 9, 6, 12, 4, 10, 8], 1, False),
    "dose": trial([3] * 40, 2, True),
}
tools = {tool: version(tool) for tool in ("linearmodels", "numpy")}
with open("golden_iv.json", "w") as file:
    json.dump({"generator": "goldens_iv.py", "tools": tools, "cases": cases}, file)
    file.write("\n")
