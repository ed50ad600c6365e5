"""Who changed what, and when: one list over everything that the state log keeps of people and schedules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from exp_pipeline.steps.experiments.erased import ERASURES
from exp_pipeline.steps.retired import RETENTION
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import Entry, state_log

FILES, PIPELINE = "the catalog's files", "the pipeline"


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One change: when (UTC), of what kind, what it was about, who made it, in words, and why."""

    at: datetime
    kind: str
    subject: str
    by: str
    what: str
    why: str
    entry: int


@dataclass(frozen=True, slots=True)
class _Told:
    by: str
    what: str
    why: str = ""


def audit(
    home: Home, *, since: date | None = None, by: str | None = None, kinds: tuple[str, ...] = ()
) -> tuple[AuditLine, ...]:
    """Every change from the day `since` on, by a team, of some kinds; oldest first.

    by: as it was given, letters of either case. Raises ValueError for a kind that is none of `KINDS`.
    """
    unknown = sorted(set(kinds) - set(_TELLS))
    if unknown:
        raise ValueError(f"unknown kind {', '.join(unknown)}; allowed: {', '.join(KINDS)}")
    log = state_log(home)
    found = []
    for kind, (name, tell) in _TELLS.items():
        if kinds and kind not in kinds:
            continue
        for entry in log.entries(name):
            told = tell(entry)
            at = _moment(entry.at)
            if told is None or (since is not None and at.date() < since):
                continue
            if by is not None and told.by.casefold() != " ".join(by.split()).casefold():
                continue
            found.append(AuditLine(at, kind, entry.subject, told.by, told.what, told.why, entry.entry_id))
    return tuple(sorted(found, key=lambda line: (line.at, line.entry)))


def _moment(text: str) -> datetime:
    """Moments that were written without a zone are UTC."""
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _text(content: Mapping[str, object], name: str) -> str:
    value = content.get(name)
    return "" if value is None else str(value)


def _listed(value: object) -> str:
    return "; ".join(str(one) for one in value) if isinstance(value, (list, tuple)) else str(value or "")


def _lock(entry: Entry) -> _Told:
    by = _text(entry.content, "by")
    digest = _text(entry.content, "analysis_digest")[:12]
    why = _text(entry.content, "reason") or ("" if by else "the first day of data")
    return _Told(by or PIPELINE, f"brief locked, {digest}", why)


def _brief_change(entry: Entry) -> _Told:
    old, new = (_short(entry.content.get(name)) for name in ("old", "new"))
    return _Told(FILES, f"{_text(entry.content, 'field')} changed after the start: {old} to {new}")


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unblinding(entry: Entry) -> _Told:
    return _Told(_text(entry.content, "by"), "effects shown early", _text(entry.content, "reason"))


def _review(entry: Entry) -> _Told:
    return _Told(
        _text(entry.content, "by"),
        f"{_text(entry.content, 'kind')} review given",
        _text(entry.content, "note"),
    )


def _decision(entry: Entry) -> _Told:
    content = entry.content
    by = "the rules" if content.get("by") == "rules" else _text(content, "by")
    arm = f" for {content['arm']}" if content.get("arm") else ""
    outcome = _text(content, "outcome").replace("_", " ")
    what = f"{_text(content, 'kind')}: {outcome}{arm}, snapshot {_text(content, 'snapshot')}"
    return _Told(by, what, _text(content, "because") if content.get("kind") == "decided" else "")


def _ramp(entry: Entry) -> _Told:
    content = entry.content
    action = _text(content, "action").replace("_", " ")
    what = (
        f"{action}, {_text(content, 'phase')} stage {_text(content, 'stage')} of {_text(content, 'stages')}"
    )
    traffic = content.get("traffic")
    share = f", {100 * traffic:g} % of traffic" if isinstance(traffic, (int, float)) else ""
    return _Told(_text(content, "by"), what + share, _listed(content.get("reasons")))


def _approval(entry: Entry) -> _Told:
    stage = _text(entry.content, "stage")
    what = (
        "A/A result found good" if stage == "0" else f"{_text(entry.content, 'phase')} stage {stage} approved"
    )
    return _Told(_text(entry.content, "by"), what, _text(entry.content, "reason"))


def _flags(entry: Entry) -> _Told:
    changes = entry.content.get("changes")
    named = (
        {str(one.get("experiment")) for one in changes if isinstance(one, dict)}
        if isinstance(changes, list)
        else set()
    )
    of = f" ({', '.join(sorted(named))})" if named else ""
    return _Told(PIPELINE, f"version {_text(entry.content, 'version')} of the flags published{of}")


def _incident(entry: Entry) -> _Told:
    content = entry.content
    action = _text(content, "action")
    if action == "silence":
        return _Told(
            _text(content, "who"), f"silenced until {_text(content, 'until')}", _text(content, "reason")
        )
    if action == "acknowledge":
        return _Told(_text(content, "who"), "incident acknowledged")
    return _Told(PIPELINE, "told again: nobody took it in time")


def _erasure(entry: Entry) -> _Told:
    rows = entry.content.get("rows")
    total = sum(int(str(one)) for one in rows.values()) if isinstance(rows, dict) else 0
    return _Told(_text(entry.content, "requested_by"), f"a person erased, {total:,} rows")


def _draw(entry: Entry) -> _Told:
    return _Told(
        PIPELINE,
        f"{_text(entry.content, 'units')} units drawn, table {_text(entry.content, 'table_digest')[:12]}",
    )


def _key(entry: Entry) -> _Told:
    return _Told(PIPELINE, f"identity key {_text(entry.content, 'standing').replace('_', ' ')}")


def _read(entry: Entry) -> _Told:
    return _Told(entry.subject, f"{_text(entry.content, 'entries')} texts of the debug envelope read")


def _expired(entry: Entry) -> _Told:
    return _Told(
        PIPELINE, f"{_text(entry.content, 'files')} files of the debug envelope deleted, past their day"
    )


def _retention(entry: Entry) -> _Told:
    tables = entry.content.get("tables")
    named = tables.items() if isinstance(tables, dict) else ()
    counts = ", ".join(f"{len(partitions)} of {table}" for table, partitions in sorted(named))
    return _Told(PIPELINE, f"past their day, deleted: {counts}", "the retention policy")


# By the kind's name in the list: its name in the log, and how an entry reads.
_TELLS: Mapping[str, tuple[str, Callable[[Entry], _Told | None]]] = {
    "lock": ("lock", _lock),
    "brief": ("brief_change", _brief_change),
    "unblinding": ("unblinding", _unblinding),
    "review": ("review", _review),
    "approval": ("ramp_approval", _approval),
    "ramp": ("ramp", _ramp),
    "flags": ("flags", _flags),
    "decision": ("decision", _decision),
    "incident": ("incident_action", _incident),
    "erasure": (ERASURES, _erasure),
    "draw": ("draw", _draw),
    "key": ("identity_key", _key),
    "texts-read": ("debug_envelope_read", _read),
    "texts-deleted": ("debug_envelope_expired", _expired),
    "retention": (RETENTION, _retention),
}
KINDS = tuple(_TELLS)
"""Kinds of changes that the list knows."""
