"""Makes golden_quasi_weighting.json: statsmodels' treatment effects and scikit-learn's ridge.

Run after goldens_quasi_matching.R (it reads those rows) in an environment of its own:
pip install statsmodels scikit-learn, then python goldens_quasi_weighting.py in this folder.
"""

from __future__ import annotations

import json
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import statsmodels.api as sm
from sklearn.linear_model import LogisticRegression
from statsmodels.treatment.treatment_effects import TreatmentEffect

warnings.simplefilter("ignore")
cases: dict[str, Any] = {}
with open("golden_quasi_matching.json") as file:
    rows = json.load(file)["cases"]
for name, case in rows.items():
    # Its method of moments finds its end only where outcomes are of the order of one.
    y = np.array(case["y"])
    y = (y - y.mean()) / y.std()
    arm = np.array(case["treated"])
    raw = np.column_stack([case["covariates"][one] for one in case["names"]]).astype(float)
    x = (raw - raw.mean(axis=0)) / raw.std(axis=0)
    design = sm.add_constant(x)
    score = sm.Logit(arm, design).fit(method="newton", maxiter=200, tol=1e-14, disp=0)
    model = TreatmentEffect(sm.OLS(y, design), arm, results_select=score)
    out: dict[str, Any] = {"scores": score.predict().tolist()}
    for label, found in (
        ("ate", model.ipw(effect_group="all")),
        ("att", model.ipw(effect_group=1)),
        ("aipw", model.aipw()),
    ):
        out[label] = [float(np.ravel(found.effect)[0]), float(found.results_gmm.bse[0])]
    ridge = LogisticRegression(C=1 / 3.0, tol=1e-14, max_iter=10000, solver="newton-cholesky").fit(x, arm)
    out["ridge"] = {"penalty": 3.0, "coefficients": [float(ridge.intercept_[0]), *ridge.coef_[0].tolist()]}
    cases[name] = out
tools = {tool: version(tool) for tool in ("statsmodels", "scikit-learn", "numpy")}
with open("golden_quasi_weighting.json", "w") as file:
    json.dump({"generator": "goldens_quasi_weighting.py", "tools": tools, "cases": cases}, file)
    file.write("\n")
