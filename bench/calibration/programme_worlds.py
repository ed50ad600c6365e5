"""Simulated experiments with known truth, in the shape in which a snapshot hands them to a readout.

Learners enrol within a week and practise for four: each is active on some days, attempts problems, solves
some, waits for answers, and now and then asks for a person. Everything is drawn at once, in numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bench.calibration.cases import Array, Random
from exp_pipeline.analysis.inputs import ReadoutInputs
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.evidence import Exposures, Fidelity
from exp_pipeline.model.metrics import Measure, Metric, Score
from exp_pipeline.model.readout import LockState, Provenance

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

START = date(2026, 3, 2)
DAYS, WEEK = 28, 7
END = START + timedelta(days=DAYS)
ENROLMENT_DAYS = 7
PLATFORMS = ("web", "android", "ios")
PLATFORM_SHARES = (0.5, 0.3, 0.2)
# Where a model is swapped, it happens at the start of this day of the experiment.
SWAP_DAY = 14
RECEIPT = ("model_name", "model_version", "prompt_version", "retrieval_version", "safety_policy_version")
EVENTS = (
    "experiment_exposed",
    "tutor_session_started",
    "tutor_turn_submitted",
    "tutor_turn_response_shown",
)
MEASURES = ("solved", "attempts", "responses", "wait_seconds", "escalations")


@dataclass(frozen=True, slots=True)
class Treatment:
    """What one treatment arm really does to a learner.

    lifts: by what share problems solved rise in each week since assignment; the last goes on. platforms:
    further lifts of single platforms. wait: by what share answers take longer. escalation: how many more of a
    hundred active days end with a person asked. gain: what is added to the learning gain. old_model_only:
    lifts end with the swap of the model. new_model: the lift that the new model alone gives.
    """

    lifts: tuple[float, ...] = (0.0,)
    platforms: Mapping[str, float] = field(default_factory=dict)
    wait: float = 0.0
    escalation: float = 0.0
    gain: float = 0.0
    old_model_only: bool = False
    new_model: float = 0.0


@dataclass(frozen=True, slots=True)
class World:
    """What happens in one experiment beside what its arms do.

    treatments: by arm, in the brief's order. lost_platform: where six of ten weak treated learners are never
    logged. spill: by what share controls solve less because treated learners take what they share.
    contaminated: share of learners seen in two arms. swapped: in which arms the model is another from
    `SWAP_DAY` on. quitting: share of the weak half of treated learners who leave before the second score;
    leaving: share of anybody who does.
    """

    treatments: Mapping[str, Treatment]
    units: int = 4100
    lost_platform: str | None = None
    spill: float = 0.0
    contaminated: float = 0.0
    swapped: Literal["no arm", "treatment", "every arm"] = "no arm"
    quitting: float = 0.0
    leaving: float = 0.05


def metrics() -> dict[str, Metric]:
    """What can be primary, secondary or guardrail in a simulated brief."""

    def one(name: str, title: str, **more: object) -> Metric:
        fields: dict[str, object] = {
            "name": name,
            "title": title,
            "owner": "calibration",
            "definition": f"Simulated: {title.lower()}.",
            "type": "mean",
            "direction": "increase",
            "kind": "output",
        }
        return Metric.model_validate(fields | more)

    found = (
        one("solved", "Problems solved", numerator="solved"),
        one("accuracy", "Accuracy", type="ratio", numerator="solved", denominator="attempts"),
        one(
            "wait",
            "Seconds until an answer",
            type="ratio",
            numerator="wait_seconds",
            denominator="responses",
            direction="decrease",
        ),
        one(
            "escalated",
            "Learners who asked for a person",
            type="proportion",
            numerator="escalations",
            direction="decrease",
            display="share",
        ),
        one(
            "gain",
            "Learning gain",
            type="gain",
            pre=Score(points="first_score"),
            post=Score(points="second_score"),
            display="share",
        ),
    )
    return {metric.name: metric for metric in found}


@dataclass(frozen=True, slots=True, eq=False)
class Learners:
    """Who takes part: ability (n,), arm as a place in the brief's arms (n,), platform, day of assignment."""

    ability: Array
    arm: Ints
    platform: Ints
    entered: Ints


def simulate(random: Random, world: World, brief: Brief, *, as_of: date, lock: LockState) -> ReadoutInputs:
    """One experiment of this world, as its readout would be handed it on a day."""
    people = _learners(random, world, brief)
    n = people.arm.size
    every = np.arange(DAYS)
    present = every >= people.entered[:, None]
    chance = 1.0 / (1.0 + np.exp(0.5 - 0.5 * people.ability))
    active = present & (random.random((n, DAYS)) < chance[:, None])
    skill = 1.0 / (1.0 + np.exp(-0.3 - 0.6 * people.ability))
    waiting, asking = np.zeros(n), np.full(n, 0.004)
    for place, treatment in _treated(world, brief):
        waiting[people.arm == place] = treatment.wait
        asking[people.arm == place] += treatment.escalation / 100.0
    slow = np.exp(0.3 * random.standard_normal(n)) * (1.0 + waiting)
    who, when = np.nonzero(active)
    tried = random.poisson(5.0 * (1.0 + _lift(world, brief, people)[who, when]))
    seconds = random.standard_gamma(4.0 * np.maximum(tried, 1)) * slow[who] * (tried > 0)
    attempts, solved, asked = (np.zeros((n, DAYS), dtype=np.int64) for _ in range(3))
    wait = np.zeros((n, DAYS))
    attempts[who, when] = tried
    solved[who, when] = random.binomial(tried, skill[who])
    wait[who, when] = np.round(seconds, 3)
    asked[who, when] = random.random(who.size) < asking[who]
    # Everything is drawn to the end, so that an earlier look sees the same learners do the same.
    until = (as_of - START).days + 1
    active, attempts = active[:, :until], attempts[:, :until]
    parts: dict[str, Array | Ints] = {
        "solved": solved[:, :until],
        "attempts": attempts,
        "responses": attempts,
        "wait_seconds": wait[:, :until],
        "escalations": asked[:, :until],
    }
    names = pl.Series("unit_id", [f"u{place:06d}" for place in range(n)])
    gained = _gain(random, world, brief, people)
    contaminated = random.random(n) < world.contaminated
    seen: Bools = np.any(active, axis=1)
    digest = brief.digest()
    return ReadoutInputs(
        brief=brief,
        metrics=metrics(),
        mad=_mad(random, brief, people, parts, names, gained, contaminated, seen),
        days=_days(names, active, parts),
        weeks=_weeks(names, people, parts, until),
        measures={name: Measure(name=name, description=f"Simulated {name}.") for name in MEASURES},
        as_of=as_of,
        lock=lock,
        provenance=Provenance(
            snapshot="simulated",
            brief_digest=digest,
            metrics_digest="0" * 64,
            code_version="calibration",
            run_id="calibration",
            as_of=as_of,
            source="simulated programmes",
        ),
        fidelity_checked=n,
        fidelity_mismatched=0,
        fidelity=Fidelity(checked=n, mismatched=0),
        exposures=Exposures(
            assigned=n,
            exposed=int(seen.sum()),
            never_exposed={
                arm: int((~seen & (people.arm == place)).sum()) for place, arm in enumerate(brief.shares())
            },
            other_arm=int((contaminated & seen).sum()),
            exposures=int(active.sum()),
            surfaces={"tutor_panel": int(active.sum())},
        ),
        receipts=_receipts(world, brief, people, attempts),
        completeness=_completeness(brief, people, active, attempts),
        late_share=0.004,
    )


def _treated(world: World, brief: Brief) -> list[tuple[int, Treatment]]:
    names = list(brief.shares())
    return [(names.index(arm), treatment) for arm, treatment in world.treatments.items()]


def _learners(random: Random, world: World, brief: Brief) -> Learners:
    n = world.units
    ability = random.standard_normal(n)
    arm = random.choice(len(brief.arms), n, p=list(brief.shares().values()))
    platform = random.choice(len(PLATFORMS), n, p=PLATFORM_SHARES)
    entered = random.integers(0, ENROLMENT_DAYS, n)
    if world.lost_platform is not None:
        here = platform == PLATFORMS.index(world.lost_platform)
        control = list(brief.shares()).index(brief.control)
        kept = ~(here & (arm != control) & (ability < 0.0) & (random.random(n) < 0.6))
        ability, arm, platform, entered = ability[kept], arm[kept], platform[kept], entered[kept]
    return Learners(ability, arm, platform, entered)


def _lift(world: World, brief: Brief, people: Learners) -> Array:
    """By what share each learner does more on each day, (n, DAYS)."""
    days = np.arange(DAYS)
    week = np.maximum(days - people.entered[:, None], 0) // WEEK
    lift = np.zeros((people.arm.size, DAYS))
    control = list(brief.shares()).index(brief.control)
    lift[people.arm == control] -= world.spill
    for place, treatment in _treated(world, brief):
        mine = people.arm == place
        steps = np.array(treatment.lifts)
        own = steps[np.minimum(week[mine], steps.size - 1)]
        if treatment.old_model_only:
            own = own * (days < SWAP_DAY)
        own = own + treatment.new_model * (days >= SWAP_DAY)
        for name, more in treatment.platforms.items():
            own = own + more * (people.platform[mine] == PLATFORMS.index(name))[:, None]
        lift[mine] = own
    return lift


def _gain(random: Random, world: World, brief: Brief, people: Learners) -> tuple[Array, Array]:
    """Scores before and after, NaN where a learner left before the second one."""
    n = people.arm.size
    before = np.clip(0.45 + 0.12 * people.ability + 0.1 * random.standard_normal(n), 0.02, 0.95)
    gain = 0.3 + 0.12 * people.ability + 0.15 * random.standard_normal(n)
    stays = random.random(n) >= world.leaving
    for place, treatment in _treated(world, brief):
        mine = people.arm == place
        gain[mine] += treatment.gain
        stays &= ~(mine & (people.ability < 0.0) & (random.random(n) < world.quitting))
    return before, np.where(stays, before + gain * (1.0 - before), np.nan)


def _mad(
    random: Random,
    brief: Brief,
    people: Learners,
    parts: Mapping[str, Array | Ints],
    names: pl.Series,
    scores: tuple[Array, Array],
    contaminated: Bools,
    seen: Bools,
) -> pl.DataFrame:
    n = people.arm.size
    noon = np.datetime64(datetime(START.year, START.month, START.day, 9), "us")
    assigned = noon + people.entered.astype("timedelta64[D]")
    before, after = scores
    sums = {name: part.sum(axis=1).astype(np.float64) for name, part in parts.items()}
    earlier = random.poisson(40.0 / (1.0 + np.exp(0.5 - 0.5 * people.ability)))
    none = pl.Series([None] * n, dtype=pl.String)
    true = np.ones(n, dtype=bool)
    return pl.DataFrame(
        {
            "experiment": np.repeat(brief.name, n),
            "version": np.full(n, brief.version),
            "unit_id": names,
            "arm": np.array(list(brief.shares()))[people.arm],
            "assigned_at": assigned,
            "assigned_date": assigned.astype("datetime64[D]"),
            "cluster_id": none,
            "stratum": none,
            "contaminated": contaminated,
            "exposed": seen,
            "first_exposed_at": np.where(seen, assigned, np.datetime64("NaT")),
            "exposures": (parts["attempts"] > 0).sum(axis=1),
            "observed_days": (parts["attempts"] > 0).sum(axis=1),
            "source": np.repeat("logged", n),
            "segment__platform": np.array(PLATFORMS)[people.platform],
            "solved__num": sums["solved"],
            "solved__mature": true,
            "accuracy__num": sums["solved"],
            "accuracy__den": sums["attempts"],
            "accuracy__mature": true,
            "wait__num": sums["wait_seconds"],
            "wait__den": sums["responses"],
            "wait__mature": true,
            "escalated__num": sums["escalations"],
            "escalated__mature": true,
            "gain__num": pl.Series((after - before) / (1.0 - before)).fill_nan(None),
            "gain__pre": before,
            "gain__post": pl.Series(after).fill_nan(None),
            "gain__mature": true,
            "pre__solved": earlier.astype(np.float64),
        }
    )


def _days(names: pl.Series, active: Bools, parts: Mapping[str, Array | Ints]) -> pl.DataFrame:
    who, when = np.nonzero(active)
    dates = np.datetime64(START) + when.astype("timedelta64[D]")
    columns = {name: part[who, when] for name, part in parts.items()}
    return pl.DataFrame({"unit_id": names.gather(who), "event_date": dates, **columns})


def _weeks(names: pl.Series, people: Learners, parts: Mapping[str, Array | Ints], until: int) -> pl.DataFrame:
    """What each learner did in each week since assignment that has begun."""
    n = people.arm.size
    begun = (until - 1) // WEEK + 1
    week = (np.arange(until) - people.entered[:, None]) // WEEK
    cells = np.where(week >= 0, np.arange(n)[:, None] * begun + week, n * begun).ravel()
    sums = {
        name: np.bincount(cells, weights=part.ravel(), minlength=n * begun + 1)[:-1]
        for name, part in parts.items()
    }
    who, which = np.divmod(np.arange(n * begun), begun)
    started = people.entered[who] + WEEK * which < until
    frame = pl.DataFrame(
        {
            "unit_id": names.gather(who),
            "week": which.astype(np.int32),
            "complete": people.entered[who] + WEEK * (which + 1) <= until,
            "solved__num": sums["solved"],
            "accuracy__num": sums["solved"],
            "accuracy__den": sums["attempts"],
            "wait__num": sums["wait_seconds"],
            "wait__den": sums["responses"],
            "escalated__num": sums["escalations"],
        }
    )
    return frame.filter(pl.Series(started))


def _receipts(world: World, brief: Brief, people: Learners, attempts: Ints) -> pl.DataFrame:
    """How many answers of each arm, day and platform carried which version."""
    rows = []
    control = list(brief.shares()).index(brief.control)
    for place, arm in enumerate(brief.shares()):
        for kind, platform in enumerate(PLATFORMS):
            mine = attempts[(people.arm == place) & (people.platform == kind)].sum(axis=0)
            swapped = world.swapped == "every arm" or (world.swapped == "treatment" and place != control)
            for day in np.flatnonzero(mine):
                when = START + timedelta(days=int(day))
                for name in RECEIPT:
                    value = "v1"
                    if name == "prompt_version":
                        value = f"tutor-{arm}"
                    elif name == "model_version" and swapped and day >= SWAP_DAY:
                        value = "v2"
                    rows.append((arm, name, value, when, platform, int(mine[day])))
    columns = ["arm", "field", "value", "event_date", "platform", "responses"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def _completeness(brief: Brief, people: Learners, active: Bools, attempts: Ints) -> pl.DataFrame:
    rows = []
    for place, arm in enumerate(brief.shares()):
        mine = people.arm == place
        days, units = int(active[mine].sum()), int(active[mine].any(axis=1).sum())
        turns = int(attempts[mine].sum())
        talking = int((attempts[mine] > 0).any(axis=1).sum())
        counts = ((days, units), (days, units), (turns, talking), (turns, talking))
        rows += [(arm, event, *count) for event, count in zip(EVENTS, counts, strict=True)]
    return pl.DataFrame(rows, schema=["arm", "event_name", "events", "units"], orient="row")
