"""Do the intervals keep their promise? Size, coverage by tail and power of each estimator, by simulation.

Run from the project folder: `.venv/bin/python bench/calibrate.py [--runs 12000]`. The seed is fixed, so the
table in bench/results/calibration.md changes only when code, libraries or the grid do.
"""

from __future__ import annotations

import argparse
import math
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from exp_pipeline.stats.adjustment import adjusted_difference  # noqa: E402
from exp_pipeline.stats.clusters import clustered_difference  # noqa: E402
from exp_pipeline.stats.means import difference_in_means  # noqa: E402
from exp_pipeline.stats.moments import Moments  # noqa: E402
from exp_pipeline.stats.ratios import difference_in_ratios  # noqa: E402
from exp_pipeline.stats.results import Effect, NotEstimable  # noqa: E402

SEED = 20260328
LEVEL = 0.95
# An effect this many true standard errors large is found with probability 0.80 at the 5 % level.
EIGHTY_PERCENT = 1.959964 + 0.841621
Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, float], Effect | NotEstimable]


@dataclass(frozen=True)
class Scenario:
    """A world without effect, or with the one given to `draw`; `cost` divides how often it is run."""

    method: str
    world: str
    draw: Draw
    cost: int = 1


@dataclass(frozen=True)
class Row:
    """What the runs of one scenario showed."""

    scenario: Scenario
    runs: int
    size: float
    interval_above: float
    interval_below: float
    power: float
    se_ratio: float
    refused: int


def _moments(values: Array, name: str = "y") -> Moments:
    return Moments.from_array(values, (name,))


def welch(control: Callable[..., Array], treatment: Callable[..., Array]) -> Draw:
    """Two samples and Welch's t."""

    def draw(random: np.random.Generator, effect: float) -> Effect | NotEstimable:
        return difference_in_means(
            _moments(control(random)), _moments(treatment(random) + effect), outcome="y", level=LEVEL
        )

    return draw


def ratio(units: int) -> Draw:
    """Shares of right answers where learners differ in how many they give and how well."""

    def arm(random: np.random.Generator, effect: float) -> Moments:
        answers = random.poisson(random.gamma(2.0, 5.0, units)) + 1
        skill = 0.3 + 0.4 * random.beta(2.0, 2.0, units) + effect
        right = random.binomial(answers, np.clip(skill, 0.0, 1.0))
        return Moments.from_array(np.column_stack([right, answers]), ("right", "answers"))

    def draw(random: np.random.Generator, effect: float) -> Effect | NotEstimable:
        return difference_in_ratios(
            arm(random, 0.0), arm(random, effect), numerator="right", denominator="answers", level=LEVEL
        )

    return draw


def cuped(units: int, correlation: float, *, skewed: bool) -> Draw:
    """An outcome that a measure from before foretells, linearly or nearly so."""

    def arm(random: np.random.Generator, effect: float) -> Moments:
        before = random.standard_normal(units)
        noise = math.sqrt(1 - correlation**2) * random.standard_normal(units)
        after = correlation * before + noise
        if skewed:
            before, after = np.exp(before), np.exp(0.8 * after)
        return Moments.from_array(np.column_stack([after + effect, before]), ("y", "pre"))

    def draw(random: np.random.Generator, effect: float) -> Effect | NotEstimable:
        return adjusted_difference(
            arm(random, 0.0), arm(random, effect), outcome="y", covariates=("pre",), level=LEVEL
        )

    return draw


def clustered(control: int, treatment: int, *, size_cv: float, icc: float) -> Draw:
    """Classes drawn whole, of unequal size, whose learners are alike."""
    shape = 1 / size_cv**2 if size_cv else 0.0

    def draw(random: np.random.Generator, effect: float) -> Effect | NotEstimable:
        classes = control + treatment
        drawn = random.gamma(shape, 20.0 / shape, classes) if shape else np.full(classes, 20.0)
        sizes = np.maximum(np.rint(drawn), 2).astype(int)
        cluster = np.repeat(np.arange(classes), sizes)
        treated = cluster >= control
        common = math.sqrt(icc) * random.standard_normal(classes)
        own = math.sqrt(1 - icc) * random.standard_normal(cluster.size)
        return clustered_difference(
            common[cluster] + own + effect * treated, treated, cluster, method="cr2", level=LEVEL
        )

    return draw


def grid() -> list[Scenario]:
    """The small grid: easy worlds, and those in which each method is known to be strained."""
    return [
        Scenario(
            "Welch",
            "normal, 50 + 50",
            welch(lambda r: r.standard_normal(50), lambda r: r.standard_normal(50)),
        ),
        Scenario(
            "Welch",
            "normal, 30 + 120, three times the spread in the small arm",
            welch(lambda r: 3 * r.standard_normal(30), lambda r: r.standard_normal(120)),
        ),
        Scenario(
            "Welch",
            "exponential, 50 + 50",
            welch(lambda r: r.exponential(size=50), lambda r: r.exponential(size=50)),
        ),
        Scenario(
            "Welch",
            "exponential, 40 + 360",
            welch(lambda r: r.exponential(size=40), lambda r: r.exponential(size=360)),
        ),
        Scenario("ratio (delta)", "shares of answers, 60 + 60 learners", ratio(60)),
        Scenario("ratio (delta)", "shares of answers, 500 + 500 learners", ratio(500)),
        Scenario("CUPED", "normal, correlation 0.6, 30 + 30", cuped(30, 0.6, skewed=False)),
        Scenario("CUPED", "normal, correlation 0.6, 300 + 300", cuped(300, 0.6, skewed=False)),
        Scenario("CUPED", "lognormal, correlation 0.6, 300 + 300", cuped(300, 0.6, skewed=True)),
        Scenario("CR2", "20 + 20 classes of 20, ICC 0.1", clustered(20, 20, size_cv=0.0, icc=0.1), 3),
        Scenario(
            "CR2", "8 + 8 classes, sizes vary by 0.5, ICC 0.1", clustered(8, 8, size_cv=0.5, icc=0.1), 3
        ),
        Scenario(
            "CR2", "5 + 15 classes, sizes vary by 0.5, ICC 0.2", clustered(5, 15, size_cv=0.5, icc=0.2), 3
        ),
    ]


def calibrate(scenario: Scenario, runs: int, seed: np.random.SeedSequence) -> Row:
    """Run one scenario without effect, then with the effect that a true standard error calls for."""
    quiet, loud = (np.random.default_rng(one) for one in seed.spawn(2))
    without = [scenario.draw(quiet, 0.0) for _ in range(runs)]
    effects = [one for one in without if isinstance(one, Effect)]
    spread = float(np.std([one.absolute for one in effects], ddof=1))
    with_effect = [scenario.draw(loud, EIGHTY_PERCENT * spread) for _ in range(runs)]
    found = [one for one in with_effect if isinstance(one, Effect)]
    return Row(
        scenario=scenario,
        runs=runs,
        size=float(np.mean([one.p_value < 1 - LEVEL for one in effects])),
        interval_above=float(np.mean([one.ci_lower > 0.0 for one in effects])),
        interval_below=float(np.mean([one.ci_upper < 0.0 for one in effects])),
        power=float(np.mean([one.p_value < 1 - LEVEL for one in found])),
        se_ratio=math.sqrt(float(np.mean([one.se**2 for one in effects]))) / spread,
        refused=2 * runs - len(effects) - len(found),
    )


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "# Calibration",
        "",
        f"Seed {SEED}, level {LEVEL:.0%}; Python {platform.python_version()}, numpy {version('numpy')}, "
        f"scipy {version('scipy')}. Nominal: size 5 %, 2.5 % of intervals wholly above the truth and 2.5 % "
        "wholly below it (columns above, below), power 80 %.",
        "The effect behind the power is 2.80 true standard errors, so a method with few degrees of freedom "
        "must show less than 80 %.",
        "`se` is the root of the mean squared standard error over the true spread of the estimates.",
        "",
        "| method | world | runs | size | above | below | coverage | se | power | refused |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        error = math.sqrt(0.05 * 0.95 / row.runs)
        lines.append(
            f"| {row.scenario.method} | {row.scenario.world} | {row.runs:,} | {row.size:.2%} ± {error:.2%} "
            f"| {row.interval_above:.2%} | {row.interval_below:.2%} "
            f"| {1 - row.interval_above - row.interval_below:.2%} | {row.se_ratio:.3f} "
            f"| {row.power:.1%} | {row.refused} |"
        )
    lines += ["", "± is one standard error of the simulation at a true size of 5 %.", ""]
    return "\n".join(lines)


def main() -> None:
    """Run the grid and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=12_000, help="runs of a scenario; clustered ones a third")
    runs = parser.parse_args().runs
    scenarios = grid()
    seeds = np.random.SeedSequence(SEED).spawn(len(scenarios))
    rows = []
    for scenario, seed in zip(scenarios, seeds, strict=True):
        started = time.monotonic()
        row = calibrate(scenario, max(100, runs // scenario.cost), seed)
        rows.append(row)
        print(
            f"{scenario.method:14} {scenario.world:58} size {row.size:6.2%}  power {row.power:6.1%}  "
            f"{time.monotonic() - started:5.1f} s",
            flush=True,
        )
    target = ROOT / "bench" / "results" / "calibration.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(table(rows), encoding="utf-8")
    print(f"\nWritten to {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
