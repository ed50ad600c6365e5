"""Integrity of a readout: units by arm, sample ratios, and every check with its verdict and likely causes."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field

from exp_pipeline.model.base import Noun

Verdict = Literal["pass", "warn", "fail", "cannot_tell"]


class ArmCount(Noun):
    """Units of one arm: planned share, and how many were assigned, exposed and analysed."""

    arm: str
    planned_share: float
    assigned: int
    exposed: int
    analysed: int
    contaminated: int


class SampleRatioDay(Noun):
    """Cumulative units by arm up to the end of one day, with the SRM p-values at that point."""

    day: date
    counts: dict[str, int]
    p_value: float | None
    sequential_p_value: float | None


class SampleRatioGroup(Noun):
    """Units by arm in one value of something known at assignment (a platform, a stratum, a segment).

    `p_adjusted` is the SRM p-value after Holm over all groups of the readout; None where nothing can be
    tested. Where `suppressed`, the group is withheld for its size or its neighbour's: it has no counts.
    """

    column: str
    value: str
    counts: dict[str, int]
    p_value: float | None = None
    p_adjusted: float | None = None
    suppressed: bool = False


class Cause(Noun):
    """Where to look first when an integrity check did not pass: one place, what it shows, what to do there.

    rank: 1 is the likeliest. where: the place in words ("platform android", "2026-03-12 on ios").
    evidence: what was counted there, and a first action. share: the part of the fault that this place holds,
    from 0 to 1; None where that cannot be told.
    """

    rank: int = Field(ge=1)
    where: str
    evidence: str
    share: float | None = Field(default=None, ge=0.0, le=1.0)


class IntegrityCheck(Noun):
    """One integrity check: what was looked at, what was found, and whether effects may be believed.

    `causes` says where a fault sits, the likeliest place first; empty where the check passed.
    """

    name: str
    title: str
    verdict: Verdict
    evidence: str
    numbers: dict[str, float | int | str] = Field(default_factory=dict)
    causes: tuple[Cause, ...] = ()
