"""Two rankings in one list: which of them do the clicks prefer?"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from exp_pipeline.stats.labels.preference import Preference, preference
from exp_pipeline.stats.results import NotEstimable

Team = Literal["control", "treatment"]


@dataclass(frozen=True, slots=True)
class Interleaved:
    """Which list is shown, and which ranking gave each item? `teams` stands beside `items`."""

    items: tuple[Hashable, ...]
    teams: tuple[Team, ...]


@dataclass(frozen=True, slots=True)
class Credit:
    """How many clicked items did each ranking give to the list?"""

    control: int
    treatment: int

    @property
    def outcome(self) -> float:
        """Which ranking won this list? 1 treatment, 0 control, 0.5 a tie (also without a click)."""
        if self.control == self.treatment:
            return 0.5
        return 1.0 if self.treatment > self.control else 0.0


def team_draft(
    control: Sequence[Hashable], treatment: Sequence[Hashable], *, length: int, salt: str, query: str
) -> Interleaved:
    """Which list do two rankings make together?

    Team draft (Radlinski, Kurup and Joachims 2008): in each round a coin says which ranking picks first;
    each then gives its best item that is not yet in the list. Coins come from SHA-256 of salt, query and
    round, so the list of a query can be made again; `query` must be new for each time it is shown, or its
    coins repeat. A ranking without items left lets the other go on. Raises ValueError for repeated items or
    a length below 1.
    """
    for name, ranking in (("control", control), ("treatment", treatment)):
        if len(set(ranking)) != len(ranking):
            raise ValueError(f"{name} must not repeat an item")
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    items: list[Hashable] = []
    teams: list[Team] = []
    taken: set[Hashable] = set()
    rankings: dict[Team, Sequence[Hashable]] = {"control": control, "treatment": treatment}
    next_at: dict[Team, int] = {"control": 0, "treatment": 0}
    turn = 0
    while len(items) < length:
        order: tuple[Team, Team] = ("control", "treatment")
        if _coin(salt, query, turn):
            order = ("treatment", "control")
        before = len(items)
        for team in order:
            ranking = rankings[team]
            while next_at[team] < len(ranking) and ranking[next_at[team]] in taken:
                next_at[team] += 1
            if next_at[team] == len(ranking) or len(items) == length:
                continue
            item = ranking[next_at[team]]
            items.append(item)
            teams.append(team)
            taken.add(item)
        if len(items) == before:
            break
        turn += 1
    return Interleaved(tuple(items), tuple(teams))


def credit(shown: Interleaved, clicked: Collection[Hashable]) -> Credit:
    """How many clicked items did each ranking give? Raises ValueError for a click outside the list."""
    strangers = [item for item in clicked if item not in shown.items]
    if strangers:
        raise ValueError(f"clicked holds {strangers[0]!r}, which is not in the list")
    chosen = set(clicked)
    by_team = [team for item, team in zip(shown.items, shown.teams, strict=True) if item in chosen]
    return Credit(by_team.count("control"), by_team.count("treatment"))


def interleaving_preference(
    credits: Sequence[Credit], *, user: ArrayLike | None = None, level: float = 0.95
) -> Preference | NotEstimable:
    """Do clicks prefer the treatment ranking, and how surely?

    credits: one a list shown. Each list counts one win, loss or tie (half), so that a user with many clicks
    on one list is not many (Chapelle, Joachims, Radlinski and Yue 2012, section 3). user: (n,), whose lists
    are not independent: errors and sign test are then by user. The share is 0.5 without difference;
    `share` - 0.5 is their delta. It is a preference, not a change of any metric.
    """
    outcome = np.array([one.outcome for one in credits])
    found = preference(outcome, clusters=() if user is None else (user,), level=level)
    return replace(found, method=found.method.replace("preference", "team-draft", 1))


def _coin(salt: str, query: str, turn: int) -> bool:
    content = "\x1f".join((salt, query, str(turn))).encode()
    return hashlib.sha256(content).digest()[0] >= 128
