"""Who lives in a simulated world: schools, classes, learners, devices, and on which days each is active."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl

from exp_pipeline.simulate.plan import SimulatedExperiment, SimulationPlan
from exp_pipeline.transform.assignment import BUCKETS, arm_of
from exp_pipeline.transform.hashing import bucket_columns, layer_buckets

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

ROLES = ("student", "staff", "test")
PLATFORMS = ("chromebook", "web", "ios", "android")
LOCALES = ("en-US", "es-US", "en-GB")
APP_VERSIONS = ("5.3.1", "5.4.0", "5.4.2")
# Monday first. Homework is set on school days; Sunday evening is when it is done late.
WEEKDAY_ACTIVITY = (1.0, 1.05, 1.05, 1.0, 0.85, 0.12, 0.25)
NEVER = 1 << 30

# One number per independent stream of random numbers; a new stream gets a new number, old ones never move.
PEOPLE, ACTIVITY, EVENTS, FAULTS, CONTAMINATION, MALFORMED = range(6)


def stream(plan: SimulationPlan, purpose: int, day_index: int = 0) -> np.random.Generator:
    """Which random numbers serve one purpose on one day, independent of every other purpose and day?"""
    return np.random.default_rng(np.random.SeedSequence(plan.seed, spawn_key=(purpose, day_index)))


@dataclass(frozen=True, slots=True)
class Population:
    """Everything about a simulated world that does not depend on the day being written.

    Arrays over accounts (students first, then staff, then test accounts) have shape `(accounts,)`;
    `sessions` is `(days, accounts)`. `arms` and `first_day` hold one array per experiment, over accounts:
    the arm's position (-1: not eligible) and the position of the first active day on or after the start.
    `switched` is the arm position a contaminated learner is shown later, else -1. `entry` is the bucket that
    decides from which share of traffic on an account's unit is let in.
    """

    learner_ids: pl.Series
    device_ids: pl.Series
    class_ids: pl.Series
    school_ids: pl.Series
    teacher_ids: pl.Series
    role: Ints
    class_of: Ints
    school_of_class: Ints
    device: Ints
    platform: Ints
    locale: Ints
    app_version: Ints
    ability: Floats
    pace: Floats
    sessions: npt.NDArray[np.int8]
    arms: tuple[Ints, ...]
    first_day: tuple[Ints, ...]
    class_first_day: tuple[Ints, ...]
    switched: tuple[Ints, ...]
    entry: tuple[Ints, ...]


def class_sizes(learners: int, classes: int, cv: float, random: np.random.Generator) -> Ints:
    """How many learners does each class have? Shape `(classes,)`, at least 1 each, `learners` in all."""
    weights = np.clip(random.normal(1.0, cv, classes), 0.4, 1.6)
    wanted = weights / weights.sum() * (learners - classes)
    sizes = np.floor(wanted).astype(np.int64)
    remainder = learners - classes - int(sizes.sum())
    sizes[np.argsort(sizes - wanted, kind="stable")[:remainder]] += 1
    return np.asarray(sizes + 1, dtype=np.int64)


def _eligible(experiment: SimulatedExperiment, school: Ints, role: Ints) -> Bools:
    students: Bools = role == 0
    if not experiment.schools:
        return students
    return students & np.isin(school, np.array(experiment.schools))


def _arms(
    experiment: SimulatedExperiment,
    eligible: Bools,
    learner_ids: list[str],
    class_ids: list[str],
    class_of: Ints,
) -> Ints:
    """Arm position by account, by the product's own hash; -1 where the account is not eligible."""
    shares = experiment.shares()
    position: dict[str | None, int] = {arm: place for place, arm in enumerate(shares)}

    def arm(unit_id: str) -> int:
        scheme = experiment.hash_scheme
        return position[arm_of(experiment.name, experiment.version, unit_id, shares, scheme=scheme)]

    if experiment.unit == "class":
        by_class = np.array([arm(class_id) for class_id in class_ids], dtype=np.int64)
        return np.where(eligible, by_class[class_of], -1)
    drawn = np.full(len(learner_ids), -1, dtype=np.int64)
    for account in np.flatnonzero(eligible).tolist():
        drawn[account] = arm(learner_ids[account])
    return drawn


def _let_through(experiment: SimulatedExperiment, unit_ids: list[str]) -> Bools:
    """Which units do the experiment's layer and holdout leave to it? Shape `(units,)`."""
    through = np.ones(len(unit_ids), dtype=bool)
    for gate in experiment.gates:
        buckets = layer_buckets(gate.scheme, gate.salt, unit_ids)
        through &= (buckets >= gate.first) & (buckets < gate.end)
    return through


def _entry(experiment: SimulatedExperiment, unit_ids: list[str]) -> Ints:
    """The traffic bucket of each unit; 0 where everybody is let in. Shape `(units,)`."""
    if experiment.traffic is None:
        return np.zeros(len(unit_ids), dtype=np.int64)
    return bucket_columns(experiment.hash_scheme, experiment.name, experiment.version, unit_ids).traffic


def inside(share: float, entry: Ints) -> Bools:
    """Which of these traffic buckets does a share let in? Same shape as given."""
    return np.asarray(entry < share * BUCKETS - 1e-9)


def _session_counts(plan: SimulationPlan, activity: Floats) -> npt.NDArray[np.int8]:
    counts = np.zeros((plan.days, activity.size), dtype=np.int8)
    per_active_day = 1.25
    base = plan.sessions_per_learner_day / per_active_day
    for index in range(plan.days):
        random = stream(plan, ACTIVITY, index)
        chance = np.minimum(base * activity * WEEKDAY_ACTIVITY[plan.day(index).weekday()], 0.97)
        active = random.random(activity.size) < chance
        more = np.minimum(random.poisson(per_active_day - 1.0, activity.size), 3)
        counts[index] = np.where(active, 1 + more, 0)
    return counts


def _first_active(active: Bools, start: int, end: int) -> Ints:
    """Position of the first active day in [start, end) by column of `active` (days, units), or NEVER."""
    low, high = max(start, 0), min(end, active.shape[0])
    if high <= low:
        return np.full(active.shape[1], NEVER, dtype=np.int64)
    window = active[low:high]
    first: Ints = window.argmax(axis=0).astype(np.int64) + low
    return np.where(window.any(axis=0), first, NEVER)


def _switched(
    plan: SimulationPlan, arms: list[Ints], first: list[Ints], sessions: npt.NDArray[np.int8]
) -> list[Ints]:
    """Which arm are contaminated learners shown from their second active day on?"""
    switched = [np.full(drawn.size, -1, dtype=np.int64) for drawn in arms]
    for place, experiment in enumerate(plan.experiments):
        if experiment.unit != "learner" or not plan.contaminated_units:
            continue
        low, high = max(plan.index(experiment.start), 0), min(plan.index(experiment.end), plan.days)
        returning = ((sessions[low:high] > 0).sum(axis=0) >= 2) & (arms[place] >= 0) & (first[place] < NEVER)
        candidates = np.flatnonzero(returning)
        chosen = stream(plan, CONTAMINATION).permutation(candidates)[: plan.contaminated_units]
        switched[place][chosen] = (arms[place][chosen] + 1) % len(experiment.arms)
        break
    return switched


def _numbered(pattern: Callable[[int], str], count: int) -> pl.Series:
    return pl.Series([pattern(number) for number in range(count)], dtype=pl.String)


@lru_cache(maxsize=4)
def population(plan: SimulationPlan) -> Population:
    """Who lives in this plan's world? Computed once per plan and kept; about 1 s for 100,000 learners."""
    random = stream(plan, PEOPLE)
    classes = plan.schools * plan.classes_per_school
    accounts = plan.learners + plan.staff_accounts + plan.test_accounts
    sizes = class_sizes(plan.learners, classes, plan.class_size_cv, random)
    extra = random.integers(0, classes, accounts - plan.learners)
    class_of = np.concatenate([np.repeat(np.arange(classes), sizes), extra])
    role = np.repeat(np.arange(3), [plan.learners, plan.staff_accounts, plan.test_accounts])
    class_effect = random.normal(size=classes)
    own = random.normal(size=accounts)
    ability = np.sqrt(plan.class_icc) * class_effect[class_of] + np.sqrt(1 - plan.class_icc) * own
    activity = np.clip(random.gamma(4.0, 0.25, accounts), 0.1, 3.5)
    pace = random.lognormal(0.0, 0.25, accounts)
    platform = random.choice(4, accounts, p=[0.46, 0.3, 0.14, 0.1])
    locale = random.choice(3, accounts, p=[0.8, 0.15, 0.05])
    app_version = random.choice(3, accounts, p=[0.15, 0.5, 0.35])
    # A learner who shares uses the device of the classmate before them in the roster.
    device = np.arange(accounts)
    shares = random.random(accounts) < plan.shared_device_share
    shares[0] = False
    shares[1:] &= (class_of[1:] == class_of[:-1]) & (role[1:] == 0) & ~shares[:-1]
    device[shares] -= 1
    platform[shares] = platform[np.flatnonzero(shares) - 1]

    school_of_class = np.arange(classes) // plan.classes_per_school
    prefixes = ("learner", "staff", "test")
    starts = np.concatenate(
        [np.arange(plan.learners), np.arange(plan.staff_accounts), np.arange(plan.test_accounts)]
    )
    ids = [f"{prefixes[r]}-{n + 1:06d}" for r, n in zip(role.tolist(), starts.tolist(), strict=True)]
    class_ids = _numbered(lambda n: f"class-{n + 1:04d}", classes)
    sessions = _session_counts(plan, activity)

    school = school_of_class[class_of]
    arms, first, class_first, entries = [], [], [], []
    for experiment in plan.experiments:
        by_unit = experiment.unit == "learner"
        units = ids if by_unit else class_ids.to_list()
        of_account = np.arange(accounts) if by_unit else class_of
        eligible = _eligible(experiment, school, role)
        if experiment.gates:
            eligible &= _let_through(experiment, units)[of_account]
        drawn = _arms(experiment, eligible, ids, class_ids.to_list(), class_of)
        entries.append(_entry(experiment, units)[of_account])
        active = (sessions > 0) & (drawn >= 0)[None, :]
        if experiment.traffic is not None:
            for place in range(plan.days):
                active[place] &= inside(experiment.share_on(plan.day(place)), entries[-1])
        start, end = plan.index(experiment.start), plan.index(experiment.end)
        arms.append(drawn)
        first.append(_first_active(active, start, end))
        by_class = np.full(classes, NEVER, dtype=np.int64)
        np.minimum.at(by_class, class_of, first[-1])
        class_first.append(by_class)
    return Population(
        learner_ids=pl.Series(ids, dtype=pl.String),
        device_ids=_numbered(lambda n: f"device-{n + 1:06d}", accounts),
        class_ids=class_ids,
        school_ids=_numbered(lambda n: f"school-{n + 1:03d}", plan.schools),
        teacher_ids=_numbered(lambda n: f"teacher-{n + 1:04d}", classes),
        role=role,
        class_of=class_of,
        school_of_class=school_of_class,
        device=device,
        platform=platform,
        locale=locale,
        app_version=app_version,
        ability=ability,
        pace=pace,
        sessions=sessions,
        arms=tuple(arms),
        first_day=tuple(first),
        class_first_day=tuple(class_first),
        switched=tuple(_switched(plan, arms, first, sessions)),
        entry=tuple(entries),
    )
