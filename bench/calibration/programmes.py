"""Programmes with known truth, decided by the real readout: what is decided, and what ships wrongly."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, get_args

import numpy as np

from bench.calibration.programme_worlds import END, START, Treatment, World, simulate
from bench.calibration.running import SEED
from exp_pipeline.analysis.readout import read_out
from exp_pipeline.model.brief import Arm, Brief, Hypothesis
from exp_pipeline.model.readout import BriefChange, Decision, LockState, Outcome
from exp_pipeline.stats.effects.means import wilson_interval

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
SHIPPING = ("ship", "ship_scoped")
RUNS = 200
ALPHA = 0.05
LAST_DAY = END - timedelta(days=1)
LOOK = START + timedelta(days=21)
Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Programme:
    """One experiment with known truth, and what should be decided of it.

    truth: what is true, in words. expected: the outcomes that are right, named before anything was run;
    expected_at_least: in which share of runs one of them must come out. right_arms: arms that may be shipped
    to everybody; right_platforms: platforms that may be shipped to alone. Anything else that ships is wrong.
    by_look: read out at each planned look, and decided at the first that ships.
    """

    name: str
    truth: str
    world: World
    expected: tuple[Outcome, ...]
    brief: Mapping[str, Any] = field(default_factory=dict)
    expected_at_least: float = 0.9
    right_arms: tuple[str, ...] = ()
    right_platforms: tuple[str, ...] = ()
    changes: tuple[BriefChange, ...] = ()
    by_look: bool = False

    def wrong(self, decision: Decision) -> bool:
        """Does anything ship that must not? Every arm is looked at, not only the one that speaks."""
        return any(
            (choice.outcome == "ship" and choice.arm not in self.right_arms)
            or (
                choice.outcome == "ship_scoped"
                and choice.arm not in self.right_arms
                and any(
                    part.column != "platform" or part.value not in self.right_platforms
                    for part in choice.segments
                )
            )
            for choice in decision.arms
        )


@dataclass(frozen=True, slots=True)
class ProgrammeRow:
    """What the runs of one programme showed. outcomes: runs by outcome; arms: shipped runs by arm."""

    name: str
    truth: str
    expected: tuple[str, ...]
    expected_at_least: float
    planned: float
    runs: int
    outcomes: dict[str, int]
    shipped: dict[str, int]
    wrong: int
    wrong_lower: float
    wrong_upper: float
    deciding: dict[str, int]
    cpu_seconds: float

    @property
    def as_expected(self) -> int:
        """In how many runs was the outcome one of those named in advance?"""
        return sum(self.outcomes.get(outcome, 0) for outcome in self.expected)

    def problems(self) -> tuple[str, ...]:
        """What is out of bounds, beyond what chance explains (95 % interval of Wilson)?"""
        found = []
        if self.wrong_lower > self.planned:
            found.append(f"ships wrongly in {self.wrong / self.runs:.1%}, planned {self.planned:.1%}")
        _, most = wilson_interval(self.as_expected, self.runs, Z)
        if most < self.expected_at_least:
            found.append(
                f"decides as expected in {self.as_expected / self.runs:.1%} only, "
                f"{self.expected_at_least:.0%} was expected"
            )
        return tuple(found)


def brief_of(programme: Programme) -> Brief:
    """The brief of one programme: equal arms, a mean with a covariate, two guardrails, a platform floor."""
    names = ("control", *programme.world.treatments)
    shares = [1.0 / len(names)] * len(names)
    fields: dict[str, Any] = {
        "name": "simulated",
        "title": programme.name.capitalize(),
        "hypothesis": Hypothesis(
            change="change what this programme says",
            population="simulated learners",
            context="a simulation",
            moves="they solve more problems",
            because="the truth is declared",
            without_harming="waiting time",
        ),
        "owner": "calibration",
        "on_call": "calibration",
        "arms": tuple(Arm(name=name, share=share) for name, share in zip(names, shares, strict=True)),
        "control": "control",
        "start": START,
        "end": END,
        "primary": "solved",
        "secondary": ("accuracy",),
        "guardrails": (
            {"metric": "wait", "margin": 0.1, "margin_kind": "relative", "kill": {}},
            {"metric": "escalated", "margin": 0.04},
        ),
        "segments": ({"column": "platform", "floor": {"relative": -0.05}},),
        "mde": {"relative": 0.05},
        "alpha": ALPHA,
        "variance_reduction": {"method": "cuped", "covariates": ("solved",)},
        "receipt": {"may_differ": ("prompt_version",)},
    }
    return Brief.model_validate(fields | dict(programme.brief))


@cache
def programmes() -> tuple[Programme, ...]:
    """Every programme, in the order of the table. What is expected of each was written before it was run."""
    nothing: tuple[Outcome, ...] = ("stop", "iterate", "extend")
    helps = Treatment(lifts=(0.08,))
    uneven = Treatment(lifts=(0.15,), platforms={"android": -0.3})
    scoped = {"decision": {"rules": [{"kind": "equity", "scoped_shipping": True}]}}
    on_gain = {"primary": "gain", "mde": {"absolute": 0.02}, "segments": ()}
    by_interval = [{"kind": "primary", "must_beat": "threshold", "by": "interval"}]
    return (
        Programme(
            name="nothing changes (A/A)",
            truth="no benefit",
            world=World({"treatment": Treatment()}),
            expected=nothing,
        ),
        Programme(
            name="nothing changes, three treatments",
            truth="no arm has a benefit",
            world=World({name: Treatment() for name in ("a", "b", "c")}, units=8300),
            expected=nothing,
        ),
        Programme(
            name="nothing changes, looked at twice",
            truth="no benefit; decided at the first look that ships",
            world=World({"treatment": Treatment()}),
            expected=nothing,
            brief={"looks": (LOOK,), "expected_units_per_day": 150.0},
            by_look=True,
        ),
        Programme(
            name="a real effect",
            truth="8 % more solved, nothing harmed",
            world=World({"treatment": helps}),
            expected=("ship",),
            right_arms=("treatment",),
        ),
        Programme(
            name="less than the threshold",
            truth="3 % more solved; 6 % are asked for, by the whole interval",
            world=World({"treatment": Treatment(lifts=(0.03,))}),
            expected=nothing,
            brief={"practical_threshold": {"relative": 0.06}, "decision": {"rules": by_interval}},
        ),
        Programme(
            name="guardrail harm",
            truth="no benefit; answers take 25 % longer, 10 % are allowed",
            world=World({"treatment": Treatment(wait=0.25)}),
            expected=("roll_back",),
        ),
        Programme(
            name="guardrail harm with a real effect",
            truth="8 % more solved; answers take 25 % longer, 10 % are allowed",
            world=World({"treatment": Treatment(lifts=(0.08,), wait=0.25)}),
            expected=("roll_back",),
        ),
        Programme(
            name="guardrail harm close to the margin",
            truth="8 % more solved; answers take 11 % longer, 10 % are allowed",
            world=World({"treatment": Treatment(lifts=(0.08,), wait=0.11)}),
            expected=("roll_back", "pause", "extend"),
        ),
        Programme(
            name="a guardrail without power",
            truth="8 % more solved, nothing harmed; no data of this size can show that it is not",
            world=World({"treatment": helps}),
            expected=("extend",),
            brief={"guardrails": ({"metric": "escalated", "margin": 0.004},)},
            expected_at_least=0.8,
            right_arms=("treatment",),
        ),
        Programme(
            name="SRM on one platform",
            truth="no benefit; weak treated learners on android are not logged",
            world=World({"treatment": Treatment()}, lost_platform="android"),
            expected=("investigate",),
        ),
        Programme(
            name="novelty only",
            truth="20 % more solved in a learner's first week, 4 % in the second, then nothing",
            world=World({"treatment": Treatment(lifts=(0.2, 0.04, 0.0))}),
            expected=("iterate",),
        ),
        Programme(
            name="one segment harmed",
            truth="15 % more solved, on android 15 % less; the floor is 5 % less",
            world=World({"treatment": uneven}),
            expected=nothing,
        ),
        Programme(
            name="one segment harmed, scope allowed",
            truth="the same, and the brief lets segments be shipped to alone",
            world=World({"treatment": uneven}),
            expected=("ship_scoped",),
            brief=scoped,
            right_platforms=("web", "ios"),
        ),
        Programme(
            name="attrition that reverses the sign",
            truth="gain 2 points smaller; six in ten weak treated learners leave before the second score",
            world=World({"treatment": Treatment(gain=-0.02)}, quitting=0.6),
            expected=("investigate",),
            brief=on_gain,
        ),
        Programme(
            name="some attrition, judged by bounds",
            truth="no benefit; one in seven weak treated learners leaves before the second score",
            world=World({"treatment": Treatment()}, quitting=0.15),
            expected=("investigate", *nothing),
            brief={**on_gain, "missing_data": "bounds"},
        ),
        Programme(
            name="contamination",
            truth="no benefit at full rollout: treated learners take what controls then lack",
            world=World({"treatment": Treatment(lifts=(0.04,))}, spill=0.04, contaminated=0.05),
            expected=("investigate",),
        ),
        Programme(
            name="model swapped in one arm",
            truth="no benefit of the treatment: its arm gets a better model in mid-flight",
            world=World({"treatment": Treatment(new_model=0.15)}, swapped="treatment"),
            expected=("investigate",),
        ),
        Programme(
            name="model swapped in both arms",
            truth="20 % more solved with the old model, nothing with the new one",
            world=World({"treatment": Treatment(lifts=(0.2,), old_model_only=True)}, swapped="every arm"),
            expected=("investigate", "iterate"),
        ),
        Programme(
            name="brief changed after the start",
            truth="8 % more solved, which became the primary after the start",
            world=World({"treatment": helps}),
            expected=("investigate",),
            changes=(BriefChange(field="primary", locked_value="accuracy", current_value="solved"),),
        ),
        Programme(
            name="too few units",
            truth="4 % more solved with a tenth of the units",
            world=World({"treatment": Treatment(lifts=(0.04,))}, units=400),
            expected=("extend",),
            expected_at_least=0.8,
            right_arms=("treatment",),
        ),
        Programme(
            name="several arms",
            truth="`good` 8 % more solved; `null` nothing; `slow` 12 % more, but answers take 25 % longer",
            world=World(
                {
                    "null": Treatment(),
                    "good": helps,
                    "slow": Treatment(lifts=(0.12,), wait=0.25),
                },
                units=8300,
            ),
            expected=("ship",),
            right_arms=("good",),
        ),
    )


def run_once(programme: Programme, brief: Brief, run: int, seed: int = SEED) -> Decision:
    """What is decided in one run of a programme? The same run gives the same decision."""
    digest = brief.analysis_digest()
    lock = LockState(
        locked_digest="0" * 64 if programme.changes else digest,
        current_digest=digest,
        locked_at=datetime(2026, 3, 1, 8),
        changes=programme.changes,
    )
    ends = (
        [*(look - timedelta(days=1) for look in brief.looks), LAST_DAY] if programme.by_look else [LAST_DAY]
    )
    decision: Decision | None = None
    for as_of in ends:
        # Each look sees the same learners and days, and more of them.
        random = np.random.default_rng([seed, run, *programme.name.encode()])
        decision = read_out(simulate(random, programme.world, brief, as_of=as_of, lock=lock)).decision
        if decision.outcome in SHIPPING:
            break
    if decision is None:
        raise ValueError(f"programme {programme.name!r} has no day to be read out on")
    return decision


def run_programme(programme: Programme, runs: int = RUNS, seed: int = SEED) -> ProgrammeRow:
    """What do so many runs of a programme lead to?"""
    started = time.process_time()
    brief = brief_of(programme)
    outcomes: Counter[str] = Counter()
    deciding: Counter[str] = Counter()
    shipped: Counter[str] = Counter()
    wrong = 0
    for run in range(runs):
        decision = run_once(programme, brief, run, seed)
        outcomes[decision.outcome] += 1
        speaking = next((one for one in decision.arms if one.arm == decision.arm), decision.arms[0])
        deciding[speaking.decided_by] += 1
        if decision.outcome in SHIPPING:
            shipped[decision.arm or ""] += 1
        wrong += programme.wrong(decision)
    lower, upper = wilson_interval(wrong, runs, Z)
    return ProgrammeRow(
        name=programme.name,
        truth=programme.truth,
        expected=tuple(dict.fromkeys(programme.expected)),
        expected_at_least=programme.expected_at_least,
        planned=ALPHA / 2.0,
        runs=runs,
        outcomes={outcome: outcomes[outcome] for outcome in OUTCOMES if outcomes[outcome]},
        shipped=dict(sorted(shipped.items())),
        wrong=wrong,
        wrong_lower=lower,
        wrong_upper=upper,
        deciding=dict(sorted(deciding.items())),
        cpu_seconds=time.process_time() - started,
    )
