"""Makes golden_quasi_differences.json: fixed effects by pyfixest, adoption in turns by diff-diff.

Run in an environment of its own: pip install pyfixest diff-diff, then python goldens_quasi.py in this folder.
The project does not call them.
"""

from __future__ import annotations

import json
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import pyfixest as pf
from diff_diff import CallawaySantAnna, HonestDiD

warnings.simplefilter("ignore")
rng = np.random.default_rng(41)


def save(name: str, tools: tuple[str, ...], cases: Any) -> None:
    content = {
        "generator": "goldens_quasi.py",
        "tools": {tool: version(tool) for tool in tools},
        "cases": cases,
    }
    with open(f"golden_{name}.json", "w") as file:
        json.dump(content, file)
        file.write("\n")


def panel(units: int, periods: int, per_cluster: int, missing: float, start: int) -> pd.DataFrame:
    unit = np.repeat(np.arange(units), periods)
    period = np.tile(np.arange(periods), units)
    cluster = unit // per_cluster
    adopter = cluster % 3 == 0
    x = rng.normal(size=unit.size) + 0.1 * period
    y = (
        100
        + rng.normal(size=units)[unit]
        + 0.3 * period
        + rng.normal(size=(cluster.max() + 1, periods))[cluster, period]
        + adopter * (period >= start) * 0.7
        + 0.4 * x
        + rng.normal(size=unit.size)
    )
    frame = pd.DataFrame({"y": y, "unit": unit, "period": period, "cluster": cluster, "x": x})
    frame["ever"] = adopter.astype(int)
    frame["d"] = (adopter & (period >= start)).astype(int)
    return frame[rng.random(unit.size) >= missing].reset_index(drop=True)


def fixed(frame: pd.DataFrame, start: int) -> dict[str, Any]:
    seen = frame.groupby("unit")["y"].transform("size") > 1
    frame = frame[seen].reset_index(drop=True)
    plain = pf.feols("y ~ d | unit + period", data=frame, vcov={"CRV1": "cluster"}, fixef_tol=1e-13)
    more = pf.feols("y ~ d + x | unit + period", data=frame, vcov={"CRV1": "cluster"}, fixef_tol=1e-13)
    frame["rel"] = frame["period"] - start
    names = []
    for e in sorted(frame["rel"].unique()):
        if e != -1:
            name = f"e{e}".replace("-", "m")
            frame[name] = ((frame["rel"] == e) & (frame["ever"] == 1)).astype(int)
            names.append((int(e), name))
    study = pf.feols(
        "y ~ " + " + ".join(n for _, n in names) + " | unit + period",
        data=frame,
        vcov={"CRV1": "cluster"},
        fixef_tol=1e-13,
    )
    cov = pd.DataFrame(study._vcov, index=study._coefnames, columns=study._coefnames)
    order = [n for _, n in names]
    return {
        "rows": {k: frame[k].tolist() for k in ("y", "unit", "period", "cluster", "x", "ever", "d")},
        "start": start,
        "effect": float(plain.coef()["d"]),
        "se": float(plain.se()["d"]),
        "effect_x": float(more.coef()["d"]),
        "se_x": float(more.se()["d"]),
        "relative": [e for e, _ in names],
        "points": study.coef()[order].tolist(),
        "covariance": cov.loc[order, order].to_numpy().tolist(),
    }


def turns(units: int, periods: int, never: bool, clusters: int | None) -> dict[str, Any]:
    unit = np.repeat(np.arange(units), periods)
    period = np.tile(np.arange(1, periods + 1), units)
    dates = np.array([0, 3, 4, 6] if never else [3, 4, 6])
    first = dates[rng.choice(dates.size, size=units, p=np.ones(dates.size) / dates.size)][unit]
    cluster = unit if clusters is None else unit % clusters
    y = (
        10
        + rng.normal(size=units)[unit]
        + 0.2 * period
        + (first > 0) * (period >= first) * (0.5 + 0.2 * (period - first))
        + rng.normal(size=cluster.max() + 1)[cluster] * 0.5 * period
        + rng.normal(size=unit.size)
    )
    frame = pd.DataFrame({"y": y, "unit": unit, "period": period, "first_treat": first, "cluster": cluster})
    out: dict[str, Any] = {"rows": {k: frame[k].tolist() for k in frame.columns}, "fits": {}}
    for control in ("never_treated", "not_yet_treated"):
        if control == "never_treated" and not never:
            continue
        model = CallawaySantAnna(
            control_group=control,
            estimation_method="reg",
            base_period="universal",
            cluster=None if clusters is None else "cluster",
        )
        fit = model.fit(
            frame,
            outcome="y",
            unit="unit",
            time="period",
            first_treat="first_treat",
            aggregate="all",
        )
        out["fits"][control] = {
            "cells": [
                [int(g), int(t), float(v["effect"]), float(v["se"])]
                for (g, t), v in fit.group_time_effects.items()
            ],
            "overall": [float(fit.overall_att), float(fit.overall_se)],
            "events": [
                [int(e), float(v["effect"]), float(v["se"])]
                for e, v in fit.event_study_effects.items()
                if v["se"] == v["se"] and v["se"] > 0
            ],
            "cohorts": [[int(g), float(v["effect"]), float(v["se"])] for g, v in fit.group_effects.items()],
        }
        if control == "never_treated" and clusters is None:
            honest = HonestDiD(method="relative_magnitude")
            for bar in (0.5, 1.0):
                found = honest.fit(fit, M=bar)
                out["fits"][control][f"honest_{bar}"] = [float(found.lb), float(found.ub)]
    return out


save(
    "quasi_differences",
    ("pyfixest", "numpy"),
    {
        "balanced": fixed(panel(60, 6, 1, 0.0, 3), 3),
        "unbalanced": fixed(panel(48, 7, 4, 0.2, 4), 4),
    },
)
save(
    "quasi_staggered",
    ("diff-diff", "numpy"),
    {
        "never": turns(120, 7, True, None),
        "not_yet": turns(90, 6, False, None),
        "clusters": turns(160, 7, True, 40),
    },
)
