"""Whole readouts of experiments without effect, on rosters as schools have them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import cache
from typing import Literal

import numpy as np
import polars as pl

from bench.calibration.cases import Promise, Random, RateCase
from bench.calibration.running import SEED
from bench.calibration.worlds import sizes_of
from exp_pipeline.analysis.inputs import ReadoutInputs
from exp_pipeline.analysis.readout import read_out
from exp_pipeline.model.brief import Arm, Brief, Effect, Guardrail, Hypothesis, KillRule, VarianceReduction
from exp_pipeline.model.metrics import Metric
from exp_pipeline.model.readout import LockState, Provenance

Unit = Literal["learner", "class"]

START = date(2026, 3, 2)
END = START + timedelta(days=28)
# Classes join on these days, a third each.
WAVES = (0, 7, 14)
CLASSES = 48
RULE = "whole readout, A/A"
LATE_SHARE = 0.15
CO_TAUGHT_SHARE = 0.2

# What is counted, in words, what is promised.
ALARMS: tuple[tuple[str, str, float, Promise], ...] = (
    ("minutes found", "primary (mean, CUPED) found without effect", 0.05, "near"),
    ("solved found", "secondary (share, CUPED) found without effect", 0.05, "near"),
    ("wait found", "guardrail metric (skewed mean) found without effect", 0.05, "near"),
    ("sample ratio fails", "sample-ratio check fails", 0.001, "at most"),
    ("sequential sample ratio alarms", "daily sequential sample ratio alarms", 0.001, "at most"),
    ("guardrail fails", "guardrail fails without harm", 0.05, "at most"),
    ("guardrail pages", "kill rule pages", 0.01, "at most"),
    ("shipped", "decision to ship", 0.025, "at most"),
    ("withheld", "effects withheld, an integrity check having failed", 0.0, "shown"),
)


def metrics() -> dict[str, Metric]:
    """A share, a mean with a covariate, and a skewed mean for the guardrail."""
    return {
        name: Metric(
            name=name,
            title=title,
            owner="calibration",
            definition=f"Simulated: {title.lower()}.",
            type="proportion" if name == "solved" else "mean",
            numerator=name,
            direction="decrease" if name == "wait" else "increase",
            kind="output",
            display="share" if name == "solved" else "number",
        )
        for name, title in (("solved", "Solved"), ("minutes", "Minutes"), ("wait", "Waiting time"))
    }


def brief(unit: Unit) -> Brief:
    """The brief of every simulated experiment of one unit of randomisation."""
    return Brief(
        name="no-effect",
        title="No effect",
        hypothesis=Hypothesis(
            change="change nothing",
            population="simulated learners",
            context="a simulation",
            moves="nothing moves",
            because="nothing was changed",
            without_harming="anything",
        ),
        owner="calibration",
        on_call="calibration",
        randomisation_unit=unit,
        arms=(Arm(name="control", share=0.5), Arm(name="treatment", share=0.5)),
        control="control",
        start=START,
        end=END,
        primary="minutes",
        secondary=("solved",),
        guardrails=(Guardrail(metric="wait", margin=0.1, margin_kind="relative", kill=KillRule()),),
        mde=Effect(relative=0.05),
        icc=0.05 if unit == "class" else 0.0,
        variance_reduction=VarianceReduction(method="cuped", covariates=("minutes",)),
    )


def roster(random: Random, unit: Unit) -> pl.DataFrame:
    """One experiment's units: classes of unequal size join in waves, some learners late, some co-taught.

    Co-taught classes share a teacher, so that both are drawn into one arm. Arms are drawn by chance alone.
    """
    sizes = sizes_of(random, CLASSES, 22.0, 0.35, least=4)
    of_class = np.repeat(np.arange(CLASSES), sizes)
    n = of_class.size
    group = np.arange(CLASSES)
    pairs = round(CLASSES * CO_TAUGHT_SHARE / 2)
    together = random.permutation(CLASSES)[: 2 * pairs].reshape(pairs, 2)
    group[together[:, 1]] = together[:, 0]
    wave = np.array(WAVES)[random.integers(0, len(WAVES), CLASSES)]
    wave[together[:, 1]] = wave[together[:, 0]]
    late = random.random(n) < LATE_SHARE
    day = wave[of_class] + np.where(late, random.integers(1, 14, n), 0)
    drawn = random.random(CLASSES) < 0.5
    treated = drawn[group[of_class]] if unit == "class" else random.random(n) < 0.5

    level = math.sqrt(0.05) * random.standard_normal(CLASSES)[of_class]
    ability = level + math.sqrt(0.95) * random.standard_normal(n)
    before = np.exp(2.5 + 0.4 * (0.7 * ability + 0.7 * random.standard_normal(n)))
    minutes = np.exp(2.6 + 0.4 * (0.8 * ability + 0.6 * random.standard_normal(n)) - 0.02 * day)
    solved = random.random(n) < 1.0 / (1.0 + np.exp(-(ability - 0.3)))
    wait = np.exp(0.8 * random.standard_normal(n) + 0.2 * level)
    assigned = [START + timedelta(days=int(one)) for one in day]
    moments = pl.Series(
        [datetime(one.year, one.month, one.day, 9) for one in assigned], dtype=pl.Datetime("us")
    )
    return pl.DataFrame(
        {
            "unit_id": [f"u{place:06d}" for place in range(n)],
            "arm": np.where(treated, "treatment", "control"),
            "assigned_at": moments,
            "assigned_date": pl.Series(assigned, dtype=pl.Date),
            "cluster_id": [f"c{place:03d}" for place in group[of_class]]
            if unit == "class"
            else pl.Series([None] * n, dtype=pl.String),
            "stratum": pl.Series([None] * n, dtype=pl.String),
            "contaminated": [False] * n,
            "exposed": [True] * n,
            "first_exposed_at": moments,
            "exposures": [1] * n,
            "minutes__num": minutes,
            "solved__num": solved.astype(np.float64),
            "wait__num": wait,
            # Learners who enrolled late have no earlier weeks.
            "pre__minutes": pl.Series(np.where(late, np.nan, before)).fill_nan(None),
        }
    )


@cache
def tallies(unit: Unit, runs: int) -> Counter[str]:
    """How often does each thing happen in so many experiments without effect?"""
    random = np.random.default_rng([SEED, *unit.encode()])
    own = brief(unit)
    digest = own.analysis_digest()
    lock = LockState(locked_digest=digest, current_digest=digest, locked_at=datetime(2026, 3, 1, 8))
    as_of = END - timedelta(days=1)
    provenance = Provenance(
        snapshot="simulated",
        brief_digest=own.digest(),
        metrics_digest="0" * 64,
        code_version="calibration",
        run_id="calibration",
        as_of=as_of,
        source="simulated rosters",
    )
    found: Counter[str] = Counter()
    for _ in range(runs):
        readout = read_out(
            ReadoutInputs(
                brief=own,
                metrics=metrics(),
                mad=roster(random, unit),
                days=None,
                as_of=as_of,
                lock=lock,
                provenance=provenance,
            )
        )
        rows = {row.metric: row for row in readout.estimates}
        # A readout whose integrity fails withholds its effects: nothing is found there.
        for name, row in rows.items():
            found[f"{name} found"] += row.p_value is not None and row.p_value < own.alpha
        found["withheld"] += "minutes" not in rows
        checks = {check.name: check.verdict for check in readout.integrity}
        found["sample ratio fails"] += checks["sample_ratio_assigned"] == "fail"
        found["sequential sample ratio alarms"] += any(
            day.sequential_p_value is not None and day.sequential_p_value < own.srm_alpha
            for day in readout.sample_ratio
        )
        found["guardrail fails"] += any(one.status == "fail" for one in readout.guardrails)
        found["guardrail pages"] += any(one.kill_triggered for one in readout.guardrails)
        found["shipped"] += readout.decision.outcome == "ship"
    return found


def _counted(unit: Unit, what: str) -> Callable[[Random, int], int]:
    def count(random: Random, runs: int) -> int:
        return tallies(unit, runs)[what]

    return count


def cases() -> list[RateCase]:
    """Every false alarm that a readout can give. All cases of a unit share their readouts."""
    found = []
    for unit in ("learner", "class"):
        own: Unit = "class" if unit == "class" else "learner"
        world = f"{CLASSES} classes in three waves, late and co-taught; randomised by {unit}"
        for what, words, nominal, promise in ALARMS:
            found.append(
                RateCase(
                    RULE,
                    world,
                    words,
                    nominal,
                    promise,
                    True,
                    _counted(own, what),
                    800,
                )
            )
    return found
