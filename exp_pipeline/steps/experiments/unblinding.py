"""The record of who asked to see effects early, and why."""

from __future__ import annotations

import hashlib
from datetime import datetime

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import Unblinding
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import state_log

_KIND = "unblinding"


def unblindings_of(home: Home, brief: Brief) -> tuple[Unblinding, ...]:
    """Who asked to see the effects of this version of an experiment before their time? Oldest first.

    Records made before versions were kept with them count for every version.
    """
    entries = state_log(home).entries(_KIND, brief.name)
    return tuple(
        Unblinding(
            at=datetime.fromisoformat(entry.at),
            by=str(entry.content.get("by", "")),
            reason=str(entry.content.get("reason", "")),
        )
        for entry in entries
        if entry.content.get("version", brief.version) == brief.version
    )


def record_unblinding(home: Home, brief: Brief, reason: str, by: str, at: datetime) -> bool:
    """Record that a team wants to see effects early; False where it gave this reason before.

    Raises ValueError where reason or team is empty.
    """
    because, team = " ".join(reason.split()), " ".join(by.split())
    for what, text in (("reason", because), ("by", team)):
        if not text:
            raise ValueError(f"{what} is empty: an unblinding is recorded with its reason and its team")
    key = hashlib.sha256(f"{brief.name}\0{brief.version}\0{team}\0{because}".encode()).hexdigest()
    return state_log(home).append(
        _KIND,
        brief.name,
        key=key,
        at=at.isoformat(timespec="seconds"),
        content={"reason": because, "by": team, "version": brief.version},
    )
