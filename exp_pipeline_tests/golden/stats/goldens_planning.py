"""Makes golden_planning_peers.json from statsmodels (and by enumeration where nothing else exists).

Run with a Python that has statsmodels: `python goldens_planning.py`. The project's own code is not imported.
"""

from __future__ import annotations

import json
from pathlib import Path

import statsmodels
from scipy import __version__ as scipy_version
from statsmodels.regression.quantile_regression import hall_sheather
from statsmodels.stats.power import NormalIndPower, TTestIndPower, TTestPower
from statsmodels.stats.proportion import power_proportions_2indep
from statsmodels.stats.rates import power_negbin_ratio_2indep, power_poisson_diff_2indep  # noqa: F401

HERE = Path(__file__).parent


def main() -> None:
    """Compute the cases and write them."""
    independent = TTestIndPower()
    paired = TTestPower()
    normal = NormalIndPower()
    cases = {
        "t": [
            {
                "n": n,
                "ratio": ratio,
                "d": d,
                "alpha": alpha,
                "power": float(independent.power(d, n, alpha, ratio=ratio)),
            }
            for n, ratio, d, alpha in [(15, 1.0, 0.8, 0.05), (60, 2.5, 0.4, 0.01), (500, 0.2, 0.3, 0.05)]
        ],
        "pairs": [
            {"n": n, "d": d, "power": float(paired.power(d, n, 0.05))} for n, d in [(10, 1.0), (80, 0.3)]
        ],
        "normal": [
            {"n": n, "d": d, "power": float(normal.power(d, n, 0.05))} for n, d in [(100, 0.3), (2000, 0.08)]
        ],
        "shares": [
            {
                "n": n,
                "ratio": ratio,
                "diff": diff,
                "baseline": baseline,
                # statsmodels counts its first sample as the one that differs: prop1 = prop2 + diff.
                "power": float(
                    power_proportions_2indep(diff, baseline, n, ratio=1.0 / ratio, return_results=False)
                ),
            }
            for n, ratio, diff, baseline in [(400, 1.0, 0.1, 0.3), (900, 2.0, 0.05, 0.2)]
        ],
        "poisson": [
            {
                "n": n,
                "ratio": ratio,
                "rate": rate,
                "diff": diff,
                "power": float(
                    power_poisson_diff_2indep(
                        rate + diff,
                        rate,
                        n * ratio,
                        nobs_ratio=1.0 / ratio,
                        method_var="alt",
                        return_results=False,
                    )
                ),
            }
            for n, ratio, rate, diff in [(200, 1.0, 2.0, 0.4), (5000, 0.5, 0.3, 0.04)]
        ],
        "bandwidth": [
            {"n": n, "quantile": q, "h": float(hall_sheather(n, q))}
            for n, q in [(100, 0.5), (2000, 0.95), (50, 0.2)]
        ],
    }
    tools = {"statsmodels": statsmodels.__version__, "scipy": scipy_version}
    content = {"generator": Path(__file__).name, "tools": tools, "cases": cases}
    (HERE / "golden_planning_peers.json").write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
