"""Makes golden_judge.json. Run with ppi-python, statsmodels and scikit-learn, in this folder."""

from __future__ import annotations

import json
from importlib.metadata import version

import numpy as np
import statsmodels.api as sm
from ppi_py import ppi_mean_ci, ppi_mean_pointestimate  # type: ignore[import-not-found]
from scipy import special, stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

rng = np.random.default_rng(31)
n, raters = 300, 30
rater = rng.integers(0, raters, n)
p = special.expit(rng.normal(0.3, 1.5, n))
y = (rng.random(n) < special.expit(0.2 + 0.7 * special.logit(p) + rng.normal(0, 0.5, raters)[rater])).astype(
    int
)
design = sm.add_constant(special.logit(p))
plain = sm.Logit(y, design).fit(disp=0, tol=1e-14)
# statsmodels' factor for clusters is G/(G-1) (n-1)/(n-p); without it, the bare sandwich.
by_rater = sm.Logit(y, design).fit(
    disp=0, tol=1e-14, cov_type="cluster", cov_kwds={"groups": rater, "use_correction": False}
)
held = sm.GLM(y, np.ones((n, 1)), family=sm.families.Binomial(), offset=special.logit(p)).fit(tol=1e-14)
share, mean = calibration_curve(y, p, n_bins=10, strategy="uniform")
calibration = {
    "probability": p.tolist(),
    "label": y.tolist(),
    "rater": rater.tolist(),
    "coefficients": plain.params.tolist(),
    "bare_errors": sm.Logit(y, design).fit(disp=0, tol=1e-14, cov_type="HC0").bse.tolist(),
    "bare_errors_by_rater": by_rater.bse.tolist(),
    "offset": float(held.params[0]),
    "brier": float(brier_score_loss(y, p)),
    "bin_share": share.tolist(),
    "bin_mean": mean.tolist(),
}
human = rng.integers(1, 6, 80)
judge = np.clip(human + rng.choice([-1, 0, 0, 1], 80), 1, 5)
ranks = {
    "judge": judge.tolist(),
    "human": human.tolist(),
    "pearson": float(stats.pearsonr(judge, human).statistic),
    "spearman": float(stats.spearmanr(judge, human).statistic),
    "kendall": float(stats.kendalltau(judge, human).statistic),
}
powered = []
for size, other in ((60, 500), (200, 150)):
    truth = rng.normal(3, 1, size + other)
    scores = 1.3 * truth - 0.5 + rng.normal(0, 0.4, size + other)
    labels = truth[:size] + rng.normal(0, 0.3, size)
    case = {"human": labels.tolist(), "judge": scores[:size].tolist(), "judge_only": scores[size:].tolist()}
    runs = {}
    for name, weight in (("one", 1.0), ("half", 0.5), ("none", 0.0), ("tuned", None)):
        point = ppi_mean_pointestimate(labels, scores[:size], scores[size:], lam=weight)
        low, high = ppi_mean_ci(labels, scores[:size], scores[size:], alpha=0.1, lam=weight)
        runs[name] = {
            "mean": float(np.squeeze(point)),
            "se": float(np.squeeze(high - low)) / 2 / float(stats.norm.ppf(0.95)),
        }
    powered.append({**case, "runs": runs})

with open("golden_judge.json", "w") as file:
    tools = {tool: version(tool) for tool in ("ppi-python", "statsmodels", "scikit-learn", "scipy", "numpy")}
    cases = {"calibration": calibration, "ranks": ranks, "powered": powered}
    json.dump({"generator": "goldens_judge.py", "tools": tools, "cases": cases}, file)
    file.write("\n")
