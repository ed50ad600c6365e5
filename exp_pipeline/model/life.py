"""The life of an experiment: its states, what may follow what, and what is still to come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Literal

LifeState = Literal[
    "draft", "ready", "locked", "aa", "ramping", "running", "horizon", "decided", "shipping", "monitoring",
    "paused", "rolled_back", "closed",
]  # fmt: skip
LIFE_STATES: tuple[LifeState, ...] = (
    "draft", "ready", "locked", "aa", "ramping", "running", "horizon", "decided", "shipping", "monitoring",
    "paused", "rolled_back", "closed",
)  # fmt: skip
_NEXT: dict[LifeState, frozenset[LifeState]] = {
    "draft": frozenset({"ready", "locked", "closed"}),
    "ready": frozenset({"draft", "locked", "closed"}),
    "locked": frozenset({"aa", "ramping", "running", "closed"}),
    "aa": frozenset({"ramping", "running", "closed"}),
    "ramping": frozenset({"ramping", "running", "paused", "rolled_back", "horizon", "decided", "closed"}),
    "running": frozenset({"paused", "rolled_back", "horizon", "decided", "closed"}),
    "paused": frozenset(
        {"ramping", "running", "horizon", "decided", "shipping", "monitoring", "rolled_back", "closed"}
    ),
    "horizon": frozenset({"paused", "rolled_back", "decided", "closed"}),
    "decided": frozenset({"running", "shipping", "paused", "rolled_back", "closed"}),
    "shipping": frozenset({"shipping", "paused", "rolled_back", "monitoring", "closed"}),
    "monitoring": frozenset({"paused", "rolled_back", "closed"}),
    "rolled_back": frozenset({"closed"}),
    "closed": frozenset(),
}
ALLOWED: Mapping[LifeState, frozenset[LifeState]] = MappingProxyType(_NEXT)
"""What may follow each state; `rolled_back` can only be closed, `closed` is the end."""

_SAID: dict[LifeState, str] = {
    "draft": "draft",
    "ready": "ready to start",
    "locked": "brief locked, not started",
    "aa": "waiting for an A/A result",
    "ramping": "letting learners in",
    "running": "running",
    "horizon": "planned term is over, decision due",
    "decided": "decided",
    "shipping": "rolling out",
    "monitoring": "rolled out, effects still watched",
    "paused": "paused",
    "rolled_back": "rolled back",
    "closed": "closed",
}
LIFE_WORDS: Mapping[LifeState, str] = MappingProxyType(_SAID)
"""How pages, tables and the terminal say each state to people."""

ComingKind = Literal["start", "stage", "look", "horizon", "durability", "close"]
# Days after the end on which lasting effects are looked at.
DURABILITY_DAYS = (14, 28, 56)


@dataclass(frozen=True, slots=True)
class LifeStep:
    """One state of an experiment's life; `since` is None for a draft, whose beginning nobody noted."""

    state: LifeState
    since: datetime | None
    because: str
    stage: int | None = None

    @property
    def label(self) -> str:
        """The state as people read it, with its stage."""
        words = LIFE_WORDS[self.state]
        return words if self.stage is None else f"{words}, stage {self.stage}"


@dataclass(frozen=True, slots=True)
class Coming:
    """What is to come, and when; `by_itself` is false where a person has to act first."""

    kind: ComingKind
    at: datetime
    what: str
    by_itself: bool = True


@dataclass(frozen=True, slots=True)
class Life:
    """An experiment's life so far, oldest state first, and what is to come, soonest first."""

    steps: tuple[LifeStep, ...]
    coming: tuple[Coming, ...]

    @property
    def now(self) -> LifeStep:
        """The state that it is in."""
        return self.steps[-1]

    @property
    def next(self) -> Coming | None:
        """What comes next; None where nothing does by the calendar."""
        return self.coming[0] if self.coming else None
