"""Makes the goldens that come from Python packages which the project does not call.

Run in an environment of its own: pip install numpy scipy ssrm-test==0.1.5, then (it needs Debian's
libboost-dev and a compiler) pip install scikit-build cmake ninja pybind11 and, with --no-build-isolation,
confseq==0.0.11. Run python goldens.py in this folder.
"""

from __future__ import annotations

import json
from importlib.metadata import version

import numpy as np
from confseq import boundaries

np.Inf = np.inf  # type: ignore[attr-defined]  # ssrm-test was written before numpy 2

from ssrm_test.ssrm_test import sequential_p_values  # noqa: E402

rng = np.random.default_rng(7)


def save(name: str, tools: list[str], cases: dict[str, object]) -> None:
    content = {"generator": "goldens.py", "tools": {tool: version(tool) for tool in tools}, "cases": cases}
    with open(f"golden_{name}.json", "w") as file:
        json.dump(content, file)
        file.write("\n")


def sequential_srm(n: int, truth: list[float], shares: list[float], concentration: int) -> dict[str, object]:
    daily = rng.multinomial(n, truth, size=20)
    p_values = sequential_p_values(daily, np.array(shares), dirichlet_concentration=concentration)
    return {
        "daily": daily.tolist(),
        "shares": shares,
        "concentration": concentration,
        "p_values": [float(p) for p in p_values],
    }


save(
    "sequential_srm",
    ["ssrm-test", "scipy", "numpy"],
    {
        "drifting": sequential_srm(500, [0.48, 0.52], [0.5, 0.5], 10000),
        "three_arms": sequential_srm(90, [0.5, 0.3, 0.2], [0.5, 0.25, 0.25], 100),
    },
)

sequences = []
for n, planned_n in ((1000, 1000), (150, 1000), (5000, 1000), (40_000, 20_000)):
    for one_sided in (False, True):
        # Bounds on a sum of n values of variance one; over sqrt(n) they are in standard errors.
        bound = boundaries.normal_mixture_bound(
            float(n), alpha=0.05, v_opt=float(planned_n), alpha_opt=0.05, is_one_sided=one_sided
        )
        sequences.append(
            {"n": n, "planned_n": planned_n, "one_sided": one_sided, "radius": float(bound / n**0.5)}
        )
save("sequences", ["confseq", "numpy"], {"normal_mixture": sequences})
