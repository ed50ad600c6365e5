"""Makes golden_wild.json: bootstrap statistics of wildboottest, which the project does not call.

Run in an environment of its own: pip install "numpy<2.3" statsmodels pandas wildboottest==0.3.2, then
python goldens_wild.py in this folder.
"""

from __future__ import annotations

import json
import warnings
from importlib.metadata import version

import numpy as np
from wildboottest.wildboottest import WildboottestCL

warnings.simplefilter("ignore")
rng = np.random.default_rng(301)


def trial(sizes: list[int], covariates: int, strata: bool, weights: str, draws: int) -> dict[str, object]:
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    n = cluster.size
    arm = (np.arange(len(sizes)) % 2)[cluster]
    layer = (np.arange(len(sizes)) // 4)[cluster]
    x = rng.normal(size=(n, covariates))
    y = 3 + 0.8 * arm + rng.normal(size=len(sizes))[cluster] + rng.normal(size=n) + x.sum(axis=1)
    columns = [arm, np.ones(n), *x.T]
    if strata:
        columns += [(layer == s).astype(float) for s in range(1, layer.max() + 1)]
    design = np.column_stack(columns).astype(float)
    pick = np.zeros(design.shape[1])
    pick[0] = 1
    boot = WildboottestCL(X=design, Y=y, cluster=cluster, R=pick, B=draws, seed=1, parallel=False)
    boot.get_scores(bootstrap_type="11", impose_null=True, adj=True, cluster_adj=True)
    boot.get_weights(weights_type=weights)
    boot.get_numer()
    boot.get_denom()
    boot.get_tboot()
    boot.get_vcov()
    boot.get_tstat()
    case: dict[str, object] = {
        "y": y.tolist(),
        "arm": arm.tolist(),
        "cluster": cluster.tolist(),
        "covariates": x.T.tolist(),
        "strata": layer.tolist() if strata else None,
        "weights": weights,
        "statistic": float(np.ravel(boot.t_stat)[0]),
        "sorted": np.sort(np.abs(np.ravel(boot.t_boot))).tolist(),
    }
    if weights == "webb":
        # The draws themselves, so that the same ones can be put into ours: clusters in rows.
        case["drawn"] = np.asarray(boot.v).tolist()
        case["statistics"] = np.ravel(boot.t_boot).tolist()
    return case


cases = {
    "plain": trial([5, 9, 4, 12, 7, 6, 10, 8], 0, False, "rademacher", 9999),
    "adjusted": trial([5, 9, 4, 12, 7, 6, 10, 8], 2, True, "rademacher", 9999),
    "webb": trial([4, 8, 6, 5, 7, 9, 3], 1, False, "webb", 60),
}
tools = {tool: version(tool) for tool in ("wildboottest", "numpy")}
with open("golden_wild.json", "w") as file:
    json.dump({"generator": "goldens_wild.py", "tools": tools, "cases": cases}, file)
    file.write("\n")
