"""Simulated experiment months, judged daily: how often is somebody woken for nothing, and how late?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from exp_pipeline.analysis.daily import daily_guardrails, daily_sample_ratio
from exp_pipeline.model.brief import Brief
from exp_pipeline_tests.analysis.builders import brief_of, metric_of

START, DAYS = date(2026, 3, 2), 28
ARMS = ("control", "treatment")
KILL: dict[str, Any] = {"kill": {"alpha": 0.01, "action": "pause"}}
GUARDRAILS = (
    {"metric": "flagged", "margin": 0.02, **KILL},
    {"metric": "cost", "margin": 0.1, "margin_kind": "relative", **KILL},
    {"metric": "latency", "margin": 0.1, "margin_kind": "relative", **KILL},
)
METRICS = {
    "flagged": metric_of("flagged", direction="decrease"),
    "cost": metric_of("cost", type="mean", direction="decrease", display="usd"),
    "latency": metric_of("latency", type="quantile", quantile=0.95, direction="decrease", display="ms"),
}


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of one experiment: the share that treatment really gets, and what it does to a unit.

    cost, latency: by what they are multiplied in treatment; flagged: by how much its chance rises.
    """

    name: str
    share: float = 0.5
    cost: float = 1.0
    latency: float = 1.0
    flagged: float = 0.0


@dataclass(frozen=True, slots=True)
class Month:
    """The first day (0 is the first) of each alarm in one experiment; None where there was none."""

    mismatch: int | None
    kill: int | None


@dataclass(frozen=True, slots=True)
class Alarms:
    """Of many months of one truth: in how many was somebody woken, and after how many days (median)?"""

    truth: Truth
    months: int
    mismatches: int
    kills: int
    days_to_mismatch: float | None
    days_to_kill: float | None


NOTHING = Truth("A/A")
PLANTED = (
    Truth("treatment gets 45 % of units, not 50 %", share=0.45),
    Truth("cost of a unit 40 % higher", cost=1.4),
    Truth("waiting time 40 % higher", latency=1.4),
    Truth("flagged answers 10 points more", flagged=0.10),
)


def month(truth: Truth, rng: np.random.Generator, *, units_a_day: int = 60) -> Month:
    """One experiment of 28 days, its sample ratio and guardrails judged at the end of every day."""
    brief: Brief = brief_of(
        start=START, end=START + timedelta(days=DAYS), guardrails=GUARDRAILS, looks=(), name="month"
    )
    arrivals = rng.poisson(units_a_day, DAYS)
    first = np.repeat(np.arange(DAYS), arrivals)
    treated = rng.random(first.size) < truth.share
    counts = {
        START + timedelta(days=day): {
            "control": int(np.sum(~treated[first == day])), "treatment": int(np.sum(treated[first == day]))
        }
        for day in range(DAYS)
    }  # fmt: skip
    path = daily_sample_ratio(counts, brief.shares())
    mismatch = next(
        (
            index
            for index, seen in enumerate(path)
            if seen.sequential_p_value is not None and seen.sequential_p_value < brief.srm_alpha
        ),
        None,
    )
    units, days = _rows(truth, rng, first, treated)
    kill = None
    for day in range(DAYS):
        upto = START + timedelta(days=day)
        if any(one.kill_triggered for one in daily_guardrails(brief, METRICS, units, days, upto=upto)):
            kill = day
            break
    return Month(mismatch, kill)


def alarms(truth: Truth, *, months: int, seed: int) -> Alarms:
    """Many months of one truth."""
    children = np.random.SeedSequence(seed).spawn(months)
    found = [month(truth, np.random.default_rng(child)) for child in children]
    mismatches = [one.mismatch for one in found if one.mismatch is not None]
    kills = [one.kill for one in found if one.kill is not None]
    return Alarms(truth, months, len(mismatches), len(kills), _median_day(mismatches), _median_day(kills))


def _rows(
    truth: Truth, rng: np.random.Generator, first: np.ndarray, treated: np.ndarray
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Units, and their days: a unit comes back on a third of the days after its first."""
    n = first.size
    names = [f"u{number:06d}" for number in range(n)]
    units = pl.DataFrame(
        {
            "unit_id": names,
            "arm": np.where(treated, "treatment", "control"),
            "assigned_date": [START + timedelta(days=int(day)) for day in first],
        }
    )
    level = rng.normal(0.0, 0.4, n)
    present = (rng.random((n, DAYS)) < 1 / 3) | (np.arange(DAYS)[None, :] == first[:, None])
    present &= np.arange(DAYS)[None, :] >= first[:, None]
    unit, day = np.nonzero(present)
    arm = treated[unit]
    cost = rng.lognormal(-4.0 + level[unit], 0.8) * np.where(arm, truth.cost, 1.0)
    waits = rng.lognormal(7.0 + 0.5 * level[unit, None], 0.4, (unit.size, 3))
    waits *= np.where(arm, truth.latency, 1.0)[:, None]
    flagged = rng.random(n) < 0.08 + truth.flagged * treated
    firsts = day == first[unit]
    days = pl.DataFrame(
        {
            "unit_id": [names[one] for one in unit],
            "event_date": [START + timedelta(days=int(one)) for one in day],
            "cost": cost,
            "latency": waits.tolist(),
            "flagged": np.where(firsts & flagged[unit], 1.0, 0.0),
        }
    )
    return units, days


def _median_day(days: Sequence[int]) -> float | None:
    """The median day, the first counting as 1."""
    return float(np.median(days)) + 1.0 if days else None
