"""What is simulated, and what the runs showed: intervals, decision rules, and methods known to be wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.stats.many.effects import ManyEffects
from exp_pipeline.stats.results import Effect, NotEstimable

Array = NDArray[np.float64]
Random = np.random.Generator
Promise = Literal["at most", "near", "shown"]
Guarantee = Literal["nominal", "at least", "either end"]

LEVEL = 0.95
LEAST_COVERAGE, MOST_COVERAGE = 0.935, 0.965
LEAST_TAIL, MOST_TAIL = 0.015, 0.035
# A rate is taken to be out of bounds when it is so many Monte Carlo standard errors beyond one.
SURE = 2.5
# An effect this many true standard errors large is found with probability 0.80 at the 5 % level.
EIGHTY_PERCENT = 1.959964 + 0.841621


def _warns(flag: str) -> bool:
    """Does a flag speak of the absolute interval? Values are often centred here, so none is relative."""
    return "relative effect" not in flag


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """What a method said in each run: arrays (runs,), NaN where it gave no estimate.

    truth: the value that intervals are to hold. p: of no effect. flagged: the method warned by itself.
    """

    estimate: Array
    se: Array
    lower: Array
    upper: Array
    p: Array
    truth: float
    flagged: NDArray[np.bool_]

    @classmethod
    def of_rows(cls, rows: Array, truth: float, flagged: NDArray[np.bool_] | None = None) -> Draws:
        """Which draws are these? rows: (runs, 5): estimate, se, lower, upper, p."""
        estimate, se, lower, upper, p = rows.T
        none = np.zeros(rows.shape[0], dtype=bool)
        return cls(estimate, se, lower, upper, p, truth, none if flagged is None else flagged)

    @classmethod
    def of_effects(
        cls, answers: Sequence[Effect | NotEstimable], truth: float, *, relative: bool = False
    ) -> Draws:
        """What do these answers say: of the absolute effect, or of the relative one?"""
        rows = np.full((len(answers), 5), np.nan)
        flagged = np.zeros(len(answers), dtype=bool)
        for place, answer in enumerate(answers):
            if isinstance(answer, NotEstimable):
                continue
            flagged[place] = any(relative or _warns(flag) for flag in answer.flags)
            if not relative:
                rows[place] = answer.absolute, answer.se, answer.ci_lower, answer.ci_upper, answer.p_value
            elif answer.relative is not None:
                rows[place] = (
                    answer.relative,
                    np.nan,
                    np.nan if answer.relative_ci_lower is None else answer.relative_ci_lower,
                    np.nan if answer.relative_ci_upper is None else answer.relative_ci_upper,
                    answer.p_value,
                )
        return cls.of_rows(rows, truth, flagged)

    @classmethod
    def of_many(cls, many: ManyEffects, truth: float, *, relative: bool = False) -> Draws:
        """What do many effects say? Cells that the scalar estimator answered are taken from there."""
        if relative:
            nothing = np.full(len(many), np.nan)
            columns = [many.relative, nothing, many.relative_ci_lower, many.relative_ci_upper, many.p_value]
        else:
            columns = [many.absolute, many.se, many.ci_lower, many.ci_upper, many.p_value]
        rows = np.array(columns)
        flagged = np.zeros(len(many), dtype=bool)
        for mask, flag in many.flags:
            if relative or _warns(flag):
                flagged |= mask
        if many.special:
            places = sorted(many.special)
            own = cls.of_effects([many.special[place] for place in places], truth, relative=relative)
            rows[:, places] = own.estimate, own.se, own.lower, own.upper, own.p
            flagged[places] = own.flagged
        return cls.of_rows(rows.T, truth, flagged)

    @classmethod
    def joined(cls, parts: Sequence[Draws]) -> Draws:
        """Which draws are these, one part after another?"""
        arrays = [
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("estimate", "se", "lower", "upper", "p")
        ]
        flagged = np.concatenate([part.flagged for part in parts])
        return cls.of_rows(np.column_stack(arrays), parts[0].truth, flagged)


@dataclass(frozen=True, slots=True)
class IntervalCase:
    """One method in one world. `draw(random, runs, shift)` answers for a world with an effect of `shift`.

    inside: is this world in the method's stated domain? criterion: the number that decides so. guarantee:
    "nominal" where coverage is to be near 95 %, "at least" where the method promises no less than that;
    "either end": the same, where the truth lies at one end and all misses may be there.
    cells: numbers drawn in one run, so that runs are drawn in blocks that fit into memory.
    """

    method: str
    world: str
    inside: bool
    criterion: str
    draw: Callable[[Random, int, float], Draws]
    runs: int
    cells: int = 1
    powered: bool = False
    guarantee: Guarantee = "nominal"


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """What the runs of an `IntervalCase` showed. Shares are of the runs that were answered.

    above, below: intervals wholly above the truth, or below it. size: p below 5 % where there is no effect.
    """

    method: str
    world: str
    inside: bool
    criterion: str
    guarantee: str
    runs: int
    answered: int
    above: float
    below: float
    size: float | None
    se_ratio: float | None
    power: float | None
    flagged: float

    @property
    def coverage(self) -> float:
        """The share of intervals that held the truth."""
        return 1.0 - self.above - self.below

    @property
    def error(self) -> float:
        """Monte Carlo standard error of the coverage, were it 95 %."""
        return math.sqrt(LEVEL * (1.0 - LEVEL) / max(self.answered, 1))

    @property
    def tail_error(self) -> float:
        """Monte Carlo standard error of a tail, were it 2.5 %."""
        return math.sqrt(0.025 * 0.975 / max(self.answered, 1))

    def problems(self) -> tuple[str, ...]:
        """What is out of bounds, beyond what chance explains?"""
        found = []
        if self.answered == 0:
            return ("no run was answered",)
        if self.coverage < LEAST_COVERAGE - SURE * self.error:
            found.append(f"covers {self.coverage:.2%}")
        most = max(self.above, self.below)
        if self.guarantee != "either end" and most > MOST_TAIL + SURE * self.tail_error:
            found.append(f"one tail errs in {most:.2%}")
        if self.guarantee == "nominal":
            if self.coverage > MOST_COVERAGE + SURE * self.error:
                found.append(f"covers {self.coverage:.2%}, too wide")
            least = min(self.above, self.below)
            if least < LEAST_TAIL - SURE * self.tail_error:
                found.append(f"one tail errs in {least:.2%} only")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class RateCase:
    """One decision rule in one world: how often does it do what it promises to do, or not to do?

    count(random, runs): in how many of the runs did it happen. promise: "at most" or "near" `nominal`;
    "shown" promises nothing (power). slack: by how
    much a promise may be missed beside chance; a tenth of it unless given.
    """

    rule: str
    world: str
    what: str
    nominal: float
    promise: Promise
    inside: bool
    count: Callable[[Random, int], int]
    runs: int
    slack: float | None = None


@dataclass(frozen=True, slots=True)
class RateRow:
    """What the runs of a `RateCase` showed."""

    rule: str
    world: str
    what: str
    nominal: float
    promise: str
    inside: bool
    runs: int
    rate: float
    slack: float | None = None

    @property
    def error(self) -> float:
        """Monte Carlo standard error of the rate; where nothing happened, of two in so many runs."""
        rate = min(max(self.rate, 2.0 / self.runs), 1.0 - 2.0 / self.runs)
        return math.sqrt(rate * (1.0 - rate) / self.runs)

    def problems(self) -> tuple[str, ...]:
        """What is out of bounds, beyond the slack and what chance explains?"""
        slack = (0.1 * self.nominal if self.slack is None else self.slack) + SURE * self.error
        if self.promise == "at most" and self.rate > self.nominal + slack:
            return (f"{self.rate:.2%}, promised at most {self.nominal:.1%}",)
        if self.promise == "near" and abs(self.rate - self.nominal) > slack:
            return (f"{self.rate:.2%}, promised {self.nominal:.1%}",)
        return ()


@dataclass(frozen=True, slots=True)
class FaultyCase:
    """A method known to be wrong beside ours, in the same runs.

    count(random, runs): in how many runs each failed, (faulty, ours). It must fail in more than `above` of
    the runs, and ours in no more than `ours_at_most`.
    """

    method: str
    world: str
    failure: str
    nominal: float
    above: float
    ours_at_most: float
    ours: str
    count: Callable[[Random, int], tuple[int, int]]
    runs: int


@dataclass(frozen=True, slots=True)
class FaultyRow:
    """What the runs of a `FaultyCase` showed."""

    method: str
    world: str
    failure: str
    nominal: float
    above: float
    ours_at_most: float
    ours: str
    runs: int
    rate: float
    our_rate: float

    @property
    def error(self) -> float:
        """Monte Carlo standard error of the faulty method's rate."""
        return math.sqrt(max(self.rate * (1.0 - self.rate), 1.0 / self.runs) / self.runs)

    def problems(self) -> tuple[str, ...]:
        """Did the faulty method pass, or ours fail? Either says that the simulation does not see."""
        found = []
        if self.rate <= self.above:
            found.append(f"the faulty method passed: {self.rate:.2%}, expected above {self.above:.1%}")
        slack = SURE * math.sqrt(max(self.our_rate * (1.0 - self.our_rate), 1.0 / self.runs) / self.runs)
        if self.our_rate > self.ours_at_most + slack:
            found.append(f"ours failed too: {self.our_rate:.2%}, expected at most {self.ours_at_most:.1%}")
        return tuple(found)


Case = IntervalCase | RateCase | FaultyCase
Row = IntervalRow | RateRow | FaultyRow
