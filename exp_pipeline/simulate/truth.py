"""What is true in a simulated world: every planted fact, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import date
from functools import lru_cache

import numpy as np

from exp_pipeline.simulate.behaviour import DAY, Day, arm_values, behave, logistic
from exp_pipeline.simulate.plan import SimulationPlan
from exp_pipeline.simulate.population import ROLES, Bools, Floats, Ints, population
from exp_pipeline.simulate.rows import FAULT, FAULT_KINDS, KINDS, faults_of_day, rows_of

MALFORMED_KINDS = ("not_json", "not_utf8", "truncated")


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """One arm of one experiment as it was planted.

    `assigned` counts units (learners or classes) by the first arm they were logged in, `learners` the active
    eligible learners of the arm. The mastery shares are shares of learners with at least one mastery after
    assignment and before the end: `observed` among the arm's own learners; `potential` what all the
    experiment's learners would have reached in this arm, with the same answers drawn; `expected` the
    probability of that, averaged over them.
    """

    experiment: str
    arm: str
    assigned: int
    learners: int
    exposed: int
    observed_mastery_share: float
    potential_mastery_share: float
    expected_mastery_share: float


@dataclass(frozen=True, slots=True)
class Truth:
    """Every planted fact of a plan.

    `rows` counts NDJSON lines, malformed ones included; Parquet landing holds `rows` less the malformed and
    contract-breaking ones. `rows_by_fault` counts rows that suffered each fault. The conservation law holds
    as rows = kept + retries + quarantined + excluded under the default policies.
    """

    plan: str
    plan_digest: str
    rows: int
    kept: int
    retries: int
    quarantined: int
    excluded: int
    rows_by_fault: dict[str, int]
    excluded_by_role: dict[str, int]
    kept_by_event: dict[str, int]
    sessions: int
    explicit_ends: int
    sessions_over_midnight: int
    accounts_on_shared_devices: int
    contaminated: tuple[str, ...]
    arms: tuple[ArmFigures, ...]

    def as_dict(self) -> dict[str, object]:
        """The same as plain data, for JSON."""
        return asdict(self)


class _Outcomes:
    """What each learner reaches in each arm of one experiment, gathered day by day."""

    def __init__(self, plan: SimulationPlan, place: int) -> None:
        self.plan, self.place = plan, place
        accounts = population(plan).role.size
        arms = len(plan.experiments[place].arms)
        self.seen = np.zeros(accounts, dtype=bool)
        self.exposed = np.zeros(accounts, dtype=bool)
        self.observed = np.zeros(accounts, dtype=bool)
        self.potential = np.zeros((arms, accounts), dtype=bool)
        self.log_without = np.zeros((arms, accounts))

    def add(self, day: Day) -> None:
        plan, place = self.plan, self.place
        experiment = plan.experiments[place]
        inside = day.arm[place] >= 0
        self.seen[day.account[inside]] = True
        self.exposed[day.account[day.exposed[place]]] = True
        answer_at = day.submitted + day.latency + day.answer_delay
        end = (experiment.end - date(1970, 1, 1)).days * DAY
        use = np.flatnonzero(day.answered & inside[day.session] & (answer_at < end))
        who = day.account[day.session[use]]
        self.observed[who[day.mastery[use]]] = True
        accuracy, mastery = day.accuracy_logit[use], day.mastery_logit[use]
        for other in range(len(plan.experiments)):
            if other != place:
                arm = day.arm[other][day.session[use]]
                accuracy = accuracy + arm_values(plan, other, "accuracy_log_odds", 0.0)[arm]
                mastery = mastery + arm_values(plan, other, "mastery_log_odds", 0.0)[arm]
        for position, arm_truth in enumerate(experiment.arms):
            correct = logistic(accuracy + arm_truth.accuracy_log_odds)
            mastered = logistic(mastery + arm_truth.mastery_log_odds)
            reached = (day.accuracy_draw[use] < correct) & (day.mastery_draw[use] < mastered)
            self.potential[position, who[reached]] = True
            np.add.at(self.log_without[position], who, np.log1p(-correct * mastered))

    def figures(self) -> list[ArmFigures]:
        people, experiment = population(self.plan), self.plan.experiments[self.place]
        drawn, class_of = people.arms[self.place], people.class_of
        figures = []
        for position, arm in enumerate(experiment.arms):
            own = self.seen & (drawn == position)
            units: Ints = np.flatnonzero(own) if experiment.unit == "learner" else np.unique(class_of[own])
            figures.append(
                ArmFigures(
                    experiment=experiment.name,
                    arm=arm.name,
                    assigned=int(units.size),
                    learners=int(own.sum()),
                    exposed=int((self.exposed & own).sum()),
                    observed_mastery_share=_share(self.observed[own]),
                    potential_mastery_share=_share(self.potential[position, self.seen]),
                    expected_mastery_share=_share(-np.expm1(self.log_without[position, self.seen])),
                )
            )
        return figures


def _share(values: Bools | Floats) -> float:
    return round(float(np.mean(values)), 6) if values.size else float("nan")


@lru_cache(maxsize=4)
def truth(plan: SimulationPlan) -> Truth:
    """Which facts are planted in this world, and how many of each? Lives through every day once."""
    people = population(plan)
    outcomes = [_Outcomes(plan, place) for place in range(len(plan.experiments))]
    faults: Counter[str] = Counter()
    roles: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    sessions = explicit = midnight = 0
    for index in range(plan.days):
        day = behave(plan, index)
        rows = rows_of(plan, day)
        for outcome in outcomes:
            outcome.add(day)
        by_fault = np.bincount(rows.fault, minlength=len(FAULT_KINDS))
        faults.update(dict(zip(FAULT_KINDS, by_fault.tolist(), strict=True)))
        faults.update(
            {kind: count for kind, count in faults_of_day(plan, index).items() if kind not in FAULT}
        )
        role = people.role[day.account][rows.session]
        roles.update(dict(zip(ROLES, np.bincount(role, minlength=len(ROLES)).tolist(), strict=True)))
        lost = np.isin(rows.fault, [FAULT["retry"], FAULT["conflicting_duplicate"], FAULT["too_late"]])
        good = rows.kind[(role == 0) & ~lost]
        kept.update(dict(zip(KINDS, np.bincount(good, minlength=len(KINDS)).tolist(), strict=True)))
        sessions += day.account.size
        explicit += int(day.explicit_end.sum())
        midnight += int((day.session_end // DAY > day.session_start // DAY).sum())
    added = sum(faults[kind] for kind in (*MALFORMED_KINDS, "contract_break"))
    excluded = {role: roles[role] for role in ROLES[1:]}
    switched = np.flatnonzero(
        np.any([*people.switched, np.full(people.role.size, -1)] >= np.int64(0), axis=0)
    )
    device, uses = np.unique(people.device, return_counts=True)
    return Truth(
        plan=plan.name,
        plan_digest=plan.digest(),
        rows=sum(roles.values()) + added,
        kept=sum(kept.values()),
        retries=faults["retry"],
        quarantined=faults["conflicting_duplicate"] + faults["too_late"] + added,
        excluded=sum(excluded.values()),
        rows_by_fault={kind: count for kind, count in sorted(faults.items()) if kind != "none"},
        excluded_by_role=excluded,
        kept_by_event=dict(sorted(kept.items())),
        sessions=sessions,
        explicit_ends=explicit,
        sessions_over_midnight=midnight,
        accounts_on_shared_devices=int(np.isin(people.device, device[uses > 1]).sum()),
        contaminated=tuple(people.learner_ids.gather(switched.tolist()).to_list()),
        arms=tuple(figure for outcome in outcomes for figure in outcome.figures()),
    )
