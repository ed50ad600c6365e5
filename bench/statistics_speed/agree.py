"""Do all sides say the same? Compared before any time is shown; prints JSON. agree.py TASK DATA FILES..."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# A row: metric, arm, segment, adjusted, then these.
ABSOLUTE, SE, LOWER, UPPER, P, RELATIVE_LOWER, RELATIVE_UPPER = range(4, 11)
Rows = dict[tuple[str, str, str, bool], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison: the largest difference found and the one allowed; `why` where it is not rounding."""

    what: str
    count: int
    largest: float
    allowed: float
    why: str = ""

    @property
    def agrees(self) -> bool:
        return bool(self.count > 0 and self.largest <= self.allowed)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Allowed differences: effects and interval ends in standard errors, errors relative, p absolute."""

    effect: float
    se: float
    p: float
    relative: float | None
    why: str = ""


ROUNDING = Tolerance(1e-6, 1e-6, 1e-6, 1e-5)
TOLERANCES: Mapping[str, tuple[Tolerance, Tolerance]] = {
    # Plain, adjusted.
    "tea-tasting": (
        ROUNDING,
        Tolerance(
            2e-2, 2e-3, 1e-2, None, "its slope is of both arms put together, ours of deviations within them"
        ),
    ),
    "mozanalysis": (
        Tolerance(1e-6, 2e-2, 1.0, None, "one variance for all arms; half widths, for it tells no errors"),
        Tolerance(2e-2, 2e-2, 1.0, None, "one variance and one slope for all three arms"),
    ),
    "cluster-experiments": (
        Tolerance(1e-4, 1e-4, 1e-4, None, "normal reference; robust variance with divisor n - k, not n - 1"),
        Tolerance(2e-2, 2e-3, 1e-2, None, "normal reference; robust variance"),
    ),
    "gbstats": (
        Tolerance(1e-9, 1e-9, 1e-9, None),
        Tolerance(2e-2, 2e-3, 1e-2, None, "its slope is of both arms put together"),
    ),
    "statsmodels": (Tolerance(1e-6, 1e-6, 1e-6, None), ROUNDING),
}  # fmt: skip


def keyed(rows: Sequence[Sequence[Any]]) -> Rows:
    """Rows by what they are of. Raises ValueError where two are of the same."""
    found = {(str(row[0]), str(row[1]), str(row[2]), bool(row[3])): row for row in rows}
    if len(found) != len(rows):
        raise ValueError(f"{len(rows)} rows are of {len(found)} estimates only")
    return found


def compared(peer: str, ours: Rows, theirs: Rows) -> list[Check]:
    """The peer's estimates beside ours. A row that ours lack is a disagreement."""
    checks = []
    for adjusted in (False, True):
        keys = [key for key in theirs if key[3] is adjusted]
        if not keys:
            continue
        allowed = TOLERANCES[peer][adjusted]
        kind = "adjusted" if adjusted else "plain"
        missing = sum(key not in ours for key in keys)
        worst = {"effect": 0.0, "se": 0.0, "interval": 0.0, "p": 0.0, "relative": 0.0}
        for key in keys:
            if key not in ours:
                continue
            for name, size in _apart(ours[key], theirs[key], half_width=peer == "mozanalysis").items():
                worst[name] = max(worst[name], size if math.isfinite(size) else math.inf)
        if missing:
            checks.append(Check(f"{kind}: estimates that ours lack", len(keys), missing, 0.0))
        of = {
            "effect": ("effects, in standard errors", allowed.effect),
            "se": ("standard errors, relative", allowed.se),
            # An interval's end moves with the effect and with two standard errors.
            "interval": ("interval ends, in standard errors", allowed.effect + 2.5 * allowed.se),
            "p": ("p-values", allowed.p),
            "relative": ("ends of relative intervals, absolute", allowed.relative),
        }
        for name, (text, bound) in of.items():
            if bound is None or (name == "p" and bound >= 1.0):
                continue
            checks.append(Check(f"{kind}: {text}", len(keys), worst[name], bound, allowed.why))
    return checks


def _apart(our: Sequence[Any], their: Sequence[Any], *, half_width: bool) -> dict[str, float]:
    se = float(our[SE])
    our_se, their_se = se, float(their[SE])
    if half_width:
        our_se = (our[UPPER] - our[LOWER]) / 2.0
    found = {
        "effect": abs(our[ABSOLUTE] - their[ABSOLUTE]) / se,
        "se": abs(their_se / our_se - 1.0),
        "interval": max(abs(our[place] - their[place]) for place in (LOWER, UPPER)) / se,
    }
    if their[P] is not None:
        found["p"] = abs(our[P] - their[P])
    if their[RELATIVE_LOWER] is not None:
        found["relative"] = max(abs(our[place] - their[place]) for place in (RELATIVE_LOWER, RELATIVE_UPPER))
    return found


def of_command(ours: Rows, answer: Mapping[str, Any]) -> list[Check]:
    """Plain effects that `exp analyze` wrote, beside those of the function."""
    largest, count = 0.0, 0
    for row in answer["estimates"]:
        if not row["adjusted"]:
            key = (row["outcome"].split("/")[0], row["arm"], row["segment_value"] or "", False)
            our = ours[key]
            largest = max(largest, abs(our[ABSOLUTE] - row["absolute"]) / our[SE])
            count += 1
    return [Check("plain: effects, in standard errors", count, largest, 1e-9)]


def of_quantile(data: Path, row: Sequence[Any]) -> list[Check]:
    """The difference from a full sort; its error from 400 resamples of whole learners."""
    import numpy as np
    import polars as pl

    frame = pl.read_parquet(data / "latencies.parquet")
    sides = [frame.filter(pl.col("treated") == side) for side in (False, True)]
    exact, draws = [], []
    rng = np.random.default_rng(5)
    for side in sides:
        values = side["latency_ms"].to_numpy()
        exact.append(float(np.quantile(values, 0.95)))
        learner = np.unique(side["learner"].to_numpy(), return_inverse=True)[1]
        learners = int(learner.max()) + 1
        order = np.argsort(values)
        ordered, owner = values[order], learner[order]
        # Only the upper fifth can hold the percentile of a resample.
        first = int(0.8 * values.size)
        sizes = np.bincount(owner, minlength=learners)
        top, whose = ordered[first:], owner[first:]
        found = []
        for _ in range(400):
            weight = np.bincount(rng.integers(0, learners, learners), minlength=learners)
            above = np.cumsum(weight[whose][::-1])
            place = int(np.searchsorted(above, 0.05 * float(weight @ sizes)))
            found.append(float(top[::-1][place]))
        draws.append(np.array(found))
    gap = draws[1] - draws[0]
    low, high = np.quantile(gap, (0.025, 0.975))
    se = float(row[SE])
    ends = max(abs(row[LOWER] - low), abs(row[UPPER] - high)) / se
    noise = "400 resamples know an error to 4 %, an interval's end to a tenth of an error"
    off = abs(row[ABSOLUTE] / (exact[1] - exact[0]) - 1.0)
    spread = abs(se / float(gap.std(ddof=1)) - 1.0)
    return [
        Check("effect against a full sort, relative", 1, off, 1e-9),
        Check("standard error against resampled learners", 1, spread, 0.15, noise),
        Check("interval ends against theirs, in standard errors", 1, ends, 0.4, noise),
    ]


def of_tests(data: Path, answer: Mapping[str, Any]) -> list[Check]:
    """Every test by scipy's chi-square, every interval by statsmodels, Holm by statsmodels."""
    import numpy as np
    import polars as pl
    from scipy.stats import chi2_contingency
    from statsmodels.stats.multitest import multipletests
    from statsmodels.stats.proportion import confint_proportions_2indep

    rows = pl.read_parquet(data / "tests.parquet")
    arms = {
        (test, arm): (n, x) for test, arm, n, x in rows.select("test", "arm", "impressions", "clicks").rows()
    }
    members: dict[str, list[tuple[int, int]]] = {}
    for (test, _), counts in arms.items():
        members.setdefault(test, []).append(counts)
    chi = 0.0
    whole = [one for one in answer["tests"] if one["method"] == "chi-square"]
    for one in whole:
        table = np.array([(x, n - x) for n, x in members[one["test"]]])
        if table[:, 0].sum():
            chi = max(chi, abs(float(chi2_contingency(table, correction=False)[1]) - one["p_value"]))
    ends, touches = 0.0, 0.0
    estimable = [row for row in answer["estimates"] if row["estimable"]]
    for row in estimable:
        n_c, x_c = arms[row["test"], row["control"]]
        n_t, x_t = arms[row["test"], row["arm"]]
        low, high = confint_proportions_2indep(x_t, n_t, x_c, n_c, method="newcomb", compare="diff")
        ends = max(ends, abs(low - row["ci_lower"]), abs(high - row["ci_upper"]))
        if 1e-12 < row["p_value"] < 1.0:
            interval = confint_proportions_2indep(
                x_t, n_t, x_c, n_c, method="newcomb", compare="diff", alpha=row["p_value"]
            )
            touches = max(touches, min(abs(end) for end in interval) / row["se"])
    judged = [one for one in answer["tests"] if one["p_value"] is not None]
    adjusted = multipletests([one["p_value"] for one in judged], method="holm")[1]
    holm = max(abs(float(a) - one["p_holm"]) for a, one in zip(adjusted, judged, strict=True))
    lost = len(members) - len(answer["tests"])
    return [
        Check("tests that are not there", len(members), abs(lost), 0.0),
        Check("p of tests of three and more arms, by chi2_contingency", len(whole), chi, 1e-9),
        Check("interval ends of comparisons, by confint_proportions_2indep", len(estimable), ends, 1e-9),
        Check("how far the interval at level 1 - p ends from zero, in errors", len(estimable), touches, 1e-6),
        Check("p after Holm over all tests, by multipletests", len(judged), holm, 1e-9),
    ]


def checks(
    task: str, data: Path, files: Mapping[str, Path], peers: Mapping[str, str]
) -> dict[str, list[Check]]:
    """The checks of one task, by side. files: what each side wrote; peers: the package of each."""
    read = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in files.items()}
    if task == "quantile":
        return {"ours": of_quantile(data, read["ours"]["rows"][0])}
    if task == "tests":
        return {"ours, exp analyze": of_tests(data, read["ours, exp analyze"])}
    if task == "imports":
        return {}
    ours = keyed(read["ours"]["rows"])
    found = {}
    for name, said in read.items():
        if name == "ours, exp analyze":
            found[name] = of_command(ours, said)
        elif peers.get(name):
            found[name] = compared(peers[name], ours, keyed(said["rows"]))
    return found


def main() -> None:
    """What the task's sides say of one another, as JSON on standard output."""
    task, data, listed = sys.argv[1:]
    given = json.loads(listed)
    files = {name: Path(path) for name, path in given["files"].items()}
    found = checks(task, Path(data), files, given["peers"])
    told = {
        name: [{**asdict(one), "largest": float(one.largest), "agrees": one.agrees} for one in several]
        for name, several in found.items()
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
