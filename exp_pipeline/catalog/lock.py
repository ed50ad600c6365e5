"""The lock: what a brief promised when its experiment started, and what has changed since."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime

from pydantic import Field, JsonValue, ValidationError

from exp_pipeline.model.base import Noun
from exp_pipeline.model.brief import ANALYSIS_FIELDS, Brief
from exp_pipeline.model.names import Slug
from exp_pipeline.model.readout import BriefChange, LockState


class LockedBrief(Noun):
    """The analysis fields of a brief as they stood when its experiment started.

    `gaps` are what kept it from being ready at that moment. `by` and `reason` are given where a team took the
    lock, rather than the first day of data.
    """

    experiment: Slug
    analysis_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    locked_at: datetime
    data_through: date | None = None
    analysis: dict[str, JsonValue]
    gaps: tuple[str, ...] = ()
    by: str = ""
    reason: str = ""


def lock_record(
    brief: Brief,
    locked_at: datetime,
    data_through: date | None = None,
    *,
    gaps: Sequence[str] = (),
    by: str = "",
    reason: str = "",
) -> LockedBrief:
    """What to keep when an experiment starts. `locked_at` must carry its time zone (UTC by custom).

    `data_through` is the newest day whose data were there at that moment: it shows what could have been seen.
    """
    if locked_at.tzinfo is None:
        raise ValueError(f"locked_at must carry a time zone, got {locked_at.isoformat()}")
    return LockedBrief(
        experiment=brief.name,
        analysis_digest=brief.analysis_digest(),
        locked_at=locked_at,
        data_through=data_through,
        analysis=_analysis(brief),
        gaps=tuple(gaps),
        by=by,
        reason=reason,
    )


def lock_state(
    brief: Brief, locked: LockedBrief | None, *, first_seen: Mapping[str, datetime] | None = None
) -> LockState:
    """Whether a brief still stands as it was locked, and each analysis field that changed since.

    `changes` decides: a newer release may add analysis fields, and then the digests differ although no field
    does, because what was locked is read with the defaults of today. first_seen: since when a changed field
    is known to hold its value. Raises ValueError for another experiment's lock.
    """
    current_digest = brief.analysis_digest()
    if locked is None:
        return LockState(locked_digest=None, current_digest=current_digest)
    if locked.experiment != brief.name:
        raise ValueError(f"locked must be the lock of {brief.name!r}, got that of {locked.experiment!r}")
    seen = None if locked.data_through is None else max((locked.data_through - brief.start).days, 0)
    state = LockState(
        locked_digest=locked.analysis_digest,
        current_digest=current_digest,
        locked_at=locked.locked_at,
        days_seen=seen,
        gaps=locked.gaps,
    )
    if locked.analysis_digest == current_digest:
        return state
    changes = []
    for name, (before, after) in changed_fields(brief, locked).items():
        shown_before, shown_after = difference(before, after)
        changes.append(
            BriefChange(
                field=name,
                locked_value=shown_before,
                current_value=shown_after,
                first_seen=(first_seen or {}).get(name),
            )
        )
    return state.model_copy(update={"changes": tuple(changes)})


def changed_fields(
    brief: Brief, locked: LockedBrief, *, everything: bool = False
) -> dict[str, tuple[JsonValue, JsonValue]]:
    """Each analysis field that is not as it was locked: its value then and now (all fields: `everything`)."""
    current, then = _analysis(brief), _with_todays_defaults(brief, locked)
    pairs = {name: (then.get(name), current[name]) for name in ANALYSIS_FIELDS}
    return {name: pair for name, pair in pairs.items() if everything or pair[0] != pair[1]}


def _analysis(brief: Brief) -> dict[str, JsonValue]:
    whole = brief.model_dump(mode="json")
    return {name: whole[name] for name in ANALYSIS_FIELDS}


def _with_todays_defaults(brief: Brief, locked: LockedBrief) -> dict[str, JsonValue]:
    rest = {
        name: value
        for name, value in brief.model_dump(mode="json").items()
        if name not in ANALYSIS_FIELDS and name not in locked.analysis
    }
    try:
        return _analysis(Brief.model_validate({**rest, **locked.analysis}))
    except ValidationError:
        # Locked under rules that no longer hold: compare with the record as it is.
        return locked.analysis


def difference(before: JsonValue, after: JsonValue) -> tuple[str, str]:
    """Both values as text; of lists and mappings with the same shape only the entries that differ."""
    if isinstance(before, dict | list) and isinstance(after, dict | list):
        one, other = _leaves(before), _leaves(after)
        if one.keys() == other.keys() and any(one[key] == other[key] for key in one):
            differing = [key for key in one if one[key] != other[key]]
            return (
                ", ".join(f"{key} = {_shown(one[key])}" for key in differing),
                ", ".join(f"{key} = {_shown(other[key])}" for key in differing),
            )
    return _shown(before), _shown(after)


def _leaves(value: JsonValue, path: str = "") -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = {}
    if isinstance(value, dict) and value:
        for key in sorted(value):
            found |= _leaves(value[key], f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for position, entry in enumerate(value):
            found |= _leaves(entry, f"{path}[{position}]")
    else:
        found[path] = value
    return found


def _shown(value: JsonValue) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
