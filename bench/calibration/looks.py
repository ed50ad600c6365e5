"""Rules for looking again and again: alpha spending, always-valid intervals, sequential SRM, kill rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bench.calibration.cases import Array, Random, RateCase
from bench.calibration.worlds import EXPONENTIAL, NORMAL, Ints, Shape
from exp_pipeline.stats.gates.guardrails import kill_verdict
from exp_pipeline.stats.gates.srm import log_bayes_factors
from exp_pipeline.stats.looks.always_valid import always_valid_interval
from exp_pipeline.stats.looks.group_sequential import SpendingPlan, stopped_trial
from exp_pipeline.stats.looks.interval import AlwaysValid, FixedHorizon, LookRule, look_interval
from exp_pipeline.stats.looks.spending import boundaries
from exp_pipeline.stats.many.effects import ManyEffects, many_means
from exp_pipeline.stats.moments_table import MomentsTable
from exp_pipeline.stats.results import Effect, NotEstimable

Count = Callable[[Random, int], int]
Answer = Effect | NotEstimable

# Runs in which the quick way and the public one are both asked.
CHECKED = 5


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """Welch's answers of all looks of all runs, look after look within a run."""

    many: ManyEffects
    looks: int

    def of(self, run: int) -> list[Answer]:
        """The answers of one run, oldest first."""
        return [self.many.at(run * self.looks + look) for look in range(self.looks)]

    def z(self) -> Array:
        """(runs, looks): normal deviates of the same p-values, without sign."""
        deviates = -special.ndtri(self.many.p_value / 2.0)
        return np.asarray(deviates.reshape(-1, self.looks), dtype=np.float64)


def looks_at(random: Random, runs: int, per_look: int, looks: int, shape: Shape, shift: float) -> Looks:
    """What is seen at each look of each run, on all units so far: `per_look` more an arm each time."""
    ends = per_look * np.arange(1, looks + 1)
    tables = []
    for add in (0.0, shift):
        values = shape.draw(random, (runs, per_look * looks)) - shape.mean + add
        sums = np.cumsum(values, axis=1)[:, ends - 1]
        squares = np.cumsum(values * values, axis=1)[:, ends - 1]
        means = sums / ends
        tables.append(
            MomentsTable.of_sums(
                np.tile(ends, runs).astype(np.int64),
                means.reshape(-1, 1),
                (squares - ends * means**2).reshape(-1, 1, 1),
                ("y",),
            )
        )
    return Looks(many_means(tables[0], tables[1], outcome="y"), looks)


def _in_blocks(runs: int, numbers: int) -> list[int]:
    """Sizes of blocks of runs that fit into memory, where a run draws so many numbers."""
    block = max(1, 2_000_000 // numbers)
    return [min(block, runs - start) for start in range(0, runs, block)]


def spending_crosses(plan: SpendingPlan, seen: Looks) -> NDArray[np.bool_]:
    """Runs in which any look is beyond its boundary, by the boundaries of the planned shares.

    All runs have the same shares, so the boundaries are made once; the first runs are asked of
    `look_interval` as well, and both must agree.
    """
    first = seen.of(0)
    shares = [plan.fraction(one) for one in first if isinstance(one, Effect)]
    bounds = np.array(boundaries(plan.spending(), shares, final=True).critical)
    crossed = np.asarray((seen.z() > bounds).any(axis=1))
    for run in range(min(CHECKED, crossed.size)):
        last = look_interval(plan, seen.of(run), final=True)
        if isinstance(last, NotEstimable) or (last.first_crossed is not None) != crossed[run]:
            raise ValueError(f"boundaries and look_interval disagree in run {run}: {last}")
    return crossed


def _crossed(rule: LookRule, per_look: int, looks: int, shape: Shape, shift: float) -> Count:
    """Runs in which any look was beyond the rule's bounds for no effect."""

    def count(random: Random, runs: int) -> int:
        found = 0
        for block in _in_blocks(runs, 2 * per_look * looks):
            seen = looks_at(random, block, per_look, looks, shape, shift)
            if isinstance(rule, SpendingPlan):
                found += int(spending_crosses(rule, seen).sum())
            elif isinstance(rule, FixedHorizon):
                found += int(np.sum((seen.many.p_value < 0.05).reshape(block, looks).any(axis=1)))
            else:
                found += sum(always_valid_crosses(rule, seen.of(run)) for run in range(block))
        return found

    return count


def always_valid_crosses(rule: AlwaysValid, answers: list[Answer]) -> bool:
    """Does any look rule out no effect?"""
    for answer in answers:
        found = always_valid_interval(answer, planned_n=rule.planned_n)
        if not isinstance(found, NotEstimable) and not found.lower <= 0.0 <= found.upper:
            return True
    return False


def _stopped_misses(plan: SpendingPlan, per_look: int, looks: int, shift: float) -> Count:
    """Runs in which the corrected interval of a stopped trial misses the true effect."""

    def count(random: Random, runs: int) -> int:
        missed = 0
        seen = looks_at(random, runs, per_look, looks, NORMAL, shift)
        for run in range(runs):
            answers = seen.of(run)
            found = stopped_trial(plan, answers, final=True)
            missed += isinstance(found, NotEstimable) or not found.lower <= shift <= found.upper
        return missed

    return count


def daily_counts(random: Random, runs: int, days: int, units: int, share: float) -> Ints:
    """(runs, days, 2): cumulative units by arm, where each comes to treatment with this probability."""
    treated = random.binomial(units, share, (runs, days)).cumsum(axis=1)
    everyone = units * np.arange(1, days + 1)
    return np.stack([everyone - treated, treated], axis=2).astype(np.int64)


def _srm(planned: float, real: float, units: int, days: int, alpha: float) -> Count:
    def count(random: Random, runs: int) -> int:
        counts = daily_counts(random, runs, days, units, real)
        evidence = log_bayes_factors(counts, np.array([1.0 - planned, planned]))
        return int(np.sum(evidence.max(axis=1) >= -np.log(alpha)))

    return count


def _killed(per_look: int, looks: int, shape: Shape, harm: float, margin: float) -> Count:
    def count(random: Random, runs: int) -> int:
        killed = 0
        seen = looks_at(random, runs, per_look, looks, shape, harm)
        for run in range(runs):
            for answer in seen.of(run):
                verdict = kill_verdict(
                    answer, margin=margin, harm="increase", planned_n=2 * per_look * looks, alpha=0.01
                )
                if verdict.answer == "kill":
                    killed += 1
                    break
        return killed

    return count


def cases() -> list[RateCase]:
    """Every rule at every number of looks."""
    found = [*_spending_cases(), *_stopped_cases(), *_srm_cases(), *_kill_cases()]
    found.append(
        RateCase(
            "one planned look",
            "1 look, 50 + 50, normal",
            "false alarms",
            0.05,
            "near",
            True,
            _crossed(FixedHorizon(), 50, 1, NORMAL, 0.0),
            10_000,
        )
    )
    return found


def _spending_cases() -> list[RateCase]:
    found = []
    for looks in (1, 2, 4, 10, 28):
        per_look = 400 // looks
        planned = 2 * per_look * looks
        rules: tuple[tuple[str, LookRule], ...] = (
            ("O'Brien-Fleming spending", SpendingPlan(planned_n=planned)),
            ("Pocock spending", SpendingPlan(planned_n=planned, family="pocock")),
            ("Kim-DeMets spending (2)", SpendingPlan(planned_n=planned, family="kim-demets", gamma=2.0)),
            ("always valid", AlwaysValid(planned_n=planned)),
        )
        for name, rule in rules:
            world = f"{looks} looks to {planned // 2} an arm, normal"
            promise = "at most" if name == "always valid" else "near"
            found.append(
                RateCase(
                    name,
                    world,
                    "false alarms",
                    0.05,
                    "at most" if promise == "at most" else "near",
                    True,
                    _crossed(rule, per_look, looks, NORMAL, 0.0),
                    20_000 if looks <= 4 or name != "always valid" else 6_000,
                )
            )
            if looks in (4, 28):
                found.append(
                    RateCase(
                        name,
                        world,
                        "power at 2.8 true standard errors",
                        0.8,
                        "shown",
                        True,
                        _crossed(rule, per_look, looks, NORMAL, 2.8 * (2.0 / (planned / 2)) ** 0.5),
                        4_000,
                    )
                )
    for name, per_look, looks, shape, inside in (
        ("O'Brien-Fleming spending", 20, 10, EXPONENTIAL, True),
        ("O'Brien-Fleming spending", 3, 4, NORMAL, False),
        ("Pocock spending", 8, 4, NORMAL, True),
        ("always valid", 20, 10, EXPONENTIAL, True),
        ("always valid", 4, 28, NORMAL, True),
    ):
        planned = 2 * per_look * looks
        rule = (
            AlwaysValid(planned_n=planned)
            if name == "always valid"
            else SpendingPlan(
                planned_n=planned, family="pocock" if name.startswith("P") else "obrien-fleming"
            )
        )
        found.append(
            RateCase(
                name,
                f"{looks} looks to {planned // 2} an arm, {shape.name}",
                "false alarms",
                0.05,
                "at most",
                inside,
                _crossed(rule, per_look, looks, shape, 0.0),
                8_000,
            )
        )
    return found


def _stopped_cases() -> list[RateCase]:
    found = []
    for shift in (0.0, 0.2, 0.35):
        for family in ("obrien-fleming", "pocock"):
            plan = SpendingPlan(planned_n=400, family="pocock" if family == "pocock" else "obrien-fleming")
            found.append(
                RateCase(
                    "stopped trial",
                    f"{family}, 4 looks to 200 an arm, true effect {shift:g} sd",
                    "intervals that miss",
                    0.05,
                    "near",
                    True,
                    _stopped_misses(plan, 50, 4, shift),
                    1_000,
                )
            )
    return found


def _srm_cases() -> list[RateCase]:
    found = []
    for planned, units in ((0.5, 20), (0.5, 1_000), (0.05, 200), (0.05, 10_000)):
        found.append(
            RateCase(
                "sequential SRM",
                f"{1 - planned:.0%} / {planned:.0%}, {units:,} units a day, 28 days",
                "false alarms",
                0.01,
                "at most",
                True,
                _srm(planned, planned, units, 28, 0.01),
                20_000,
            )
        )
    found.append(
        RateCase(
            "sequential SRM",
            "50 / 50 planned, 48 / 52 found, 500 units a day, 28 days",
            "alarms",
            1.0,
            "shown",
            True,
            _srm(0.5, 0.52, 500, 28, 0.01),
            4_000,
        )
    )
    return found


def _kill_cases() -> list[RateCase]:
    found = []
    for shape, per_look, harm, what, promise in (
        (NORMAL, 20, 0.1, "kills with harm at the margin", "at most"),
        (NORMAL, 20, 0.5, "kills with harm 0.4 sd beyond it", "shown"),
        (EXPONENTIAL, 20, 0.1, "kills with harm at the margin", "at most"),
    ):
        found.append(
            RateCase(
                "kill rule",
                f"28 daily looks, {per_look} + {per_look} more a day, {shape.name}, margin 0.1",
                what,
                0.01 if promise == "at most" else 1.0,
                "at most" if promise == "at most" else "shown",
                True,
                _killed(per_look, 28, shape, harm, 0.1),
                1_500 if promise == "at most" else 500,
            )
        )
    return found
