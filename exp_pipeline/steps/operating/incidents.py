"""Incidents: findings in, an append-only log, what is open and what people did about it out.

The log holds what was found and what people did, never what follows from it; incidents are read off by
folding it. So two processes that record at once cannot open one trouble twice, and a crash leaves nothing
half done.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.incidents import RULES, Finding, Incident, RuleName, Transition
from exp_pipeline.model.policies import IncidentPolicy
from exp_pipeline.notify.findings import findings_of_day
from exp_pipeline.notify.transitions import (
    Track,
    after_acknowledgement,
    after_escalation,
    after_finding,
    after_silence,
    due_escalation,
)
from exp_pipeline.store.state import Entry, StateLog

__all__ = [
    "acknowledge",
    "changes",
    "escalate",
    "findings_of_day",
    "incidents",
    "open_incidents",
    "record_findings",
    "silence",
    "silences",
]

FINDINGS, ACTIONS = "findings", "incident_action"


@dataclass(slots=True)
class _History:
    """The log, folded up to `last`: tracks by rule and subject, findings that count, changes."""

    tracks: dict[tuple[str, str], Track] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    changes: list[tuple[int, Transition]] = field(default_factory=list)
    last: Entry | None = None

    def take(self, entry: Entry) -> None:
        """Let one entry of the log act."""
        at = datetime.fromisoformat(entry.at)
        if entry.kind == FINDINGS:
            for key, content in _keyed(entry.content["findings"]):
                if key not in self.seen:
                    self._find(entry.entry_id, key, Finding.model_validate(content), at)
        else:
            self._act(entry, at)
        self.last = entry

    def _find(self, entry_id: int, key: str, finding: Finding, at: datetime) -> None:
        self.seen.add(key)
        place = (finding.rule, finding.subject)
        track, change = after_finding(self.tracks.get(place, Track()), finding, at)
        self._keep(place, track, change, entry_id)

    def _act(self, entry: Entry, at: datetime) -> None:
        content = entry.content
        place = (str(content["rule"]), str(content["subject"]))
        track = self.tracks.get(place, Track())
        if content["action"] == "silence":
            self.tracks[place] = after_silence(track, datetime.fromisoformat(str(content["until"])))
            return
        incident, revision = str(content["incident"]), int(str(content["revision"]))
        if content["action"] == "escalate":
            track, change = after_escalation(track, incident, revision, at)
        else:
            track, change = after_acknowledgement(track, incident, revision, str(content["who"]), at)
        self._keep(place, track, change, entry.entry_id)

    def _keep(self, place: tuple[str, str], track: Track, change: Transition | None, entry_id: int) -> None:
        self.tracks[place] = track
        if change is not None:
            self.changes.append((entry_id, change))


def record_findings(state: StateLog, findings: Iterable[Finding], now: datetime) -> tuple[Transition, ...]:
    """What do these findings change? Logs those that are new as one entry, whole or not at all.

    Findings act in order of their days, those of one day in the order given; equal findings count once,
    however often they are recorded and by however many processes. Raises ValueError where `now` has no time
    zone.
    """
    at = _moment("now", now)
    before = _folded(state)
    by_key = {finding.digest(): finding for finding in findings}
    new = [(key, one) for key, one in by_key.items() if key not in before.seen]
    if not new:
        return ()
    new.sort(key=lambda pair: pair[1].day)
    batch = digest_of([key for key, _ in new])
    content = {"batch": batch, "findings": [[key, one.model_dump(mode="json")] for key, one in new]}
    state.append(FINDINGS, "daily", key=batch, at=at, content=content)
    history = _folded(state)
    since = before.last.entry_id if before.last else 0
    own = {one.entry_id for one in state.since((FINDINGS,), since) if one.content["batch"] == batch}
    return tuple(change for entry_id, change in history.changes if entry_id in own)


def incidents(state: StateLog) -> tuple[Incident, ...]:
    """Every incident there ever was, as it is now, oldest first."""
    history = _folded(state)
    newest = {change.incident.id: change.incident for _, change in history.changes}
    newest.update({one.id: one for one in _ongoing(history)})
    return tuple(newest.values())


def open_incidents(
    state: StateLog, *, experiment: str | None = None, rule: RuleName | None = None
) -> tuple[Incident, ...]:
    """Which incidents are not resolved (of an experiment, of a rule), worst and oldest first?"""
    ongoing = _ongoing(_folded(state))
    found = [one for one in ongoing if experiment in (None, one.experiment) and rule in (None, one.rule)]
    found.sort(key=lambda one: (one.severity != "page", one.opened_at, one.rule, one.subject))
    return tuple(found)


def acknowledge(state: StateLog, rule: RuleName, subject: str, *, who: str, now: datetime) -> Incident:
    """Say that somebody has taken an incident on; it opens again if it gets worse.

    Returns the incident after it. Raises ExpError where nothing is open for this rule and subject.
    """
    at = _moment("now", now)
    incident = _the_ongoing(state, rule, subject)
    if incident.status == "acknowledged":
        return incident
    content = {
        "action": "acknowledge",
        "rule": rule,
        "subject": subject,
        "incident": incident.id,
        "revision": incident.revision,
        "who": who,
    }
    key = f"acknowledge:{incident.id}:{incident.revision}"
    state.append(ACTIONS, f"{rule}/{subject}", key=key, at=at, content=content)
    return _the_ongoing(state, rule, subject)


def silence(
    state: StateLog, rule: RuleName, subject: str, *, until: datetime, who: str, reason: str, now: datetime
) -> None:
    """Tell nobody of failures of a rule and subject before `until`; the incident goes on being followed.

    What opened or got worse meanwhile is told at the first failure after `until`, so nothing stays hidden.
    `until` in the past ends a silence. Raises ValueError for an unknown rule, an empty reason, or moments
    without a time zone.
    """
    if rule not in RULES:
        raise ValueError(f"rule {rule!r} is unknown; allowed: {', '.join(RULES)}")
    if not reason.strip():
        raise ValueError("reason must say why this is silenced, got an empty text")
    at, end = _moment("now", now), _moment("until", until)
    content = {
        "action": "silence",
        "rule": rule,
        "subject": subject,
        "until": end,
        "who": who,
        "reason": reason,
    }
    state.append(ACTIONS, f"{rule}/{subject}", key=digest_of([at, content]), at=at, content=content)


def escalate(state: StateLog, policy: IncidentPolicy, now: datetime) -> tuple[Transition, ...]:
    """Which pages has nobody taken in time? Each is logged once for its turn, whoever looks first."""
    at = _moment("now", now)
    after = timedelta(minutes=policy.escalate_minutes)
    tracks = _folded(state).tracks.values()
    due = [one for track in tracks if (one := due_escalation(track, after, policy.escalations, now))]
    keys = set()
    for incident in due:
        content = {
            "action": "escalate",
            "rule": incident.rule,
            "subject": incident.subject,
            "incident": incident.id,
            "revision": incident.revision,
        }
        key = f"escalate:{incident.id}:{incident.revision}"
        if state.append(ACTIONS, f"{incident.rule}/{incident.subject}", key=key, at=at, content=content):
            keys.add((incident.id, incident.revision + 1))
    if not keys:
        return ()
    return tuple(one for one in changes(state) if (one.incident.id, one.incident.revision) in keys)


def changes(state: StateLog) -> tuple[Transition, ...]:
    """Everything that ever happened to incidents, oldest first."""
    return tuple(change for _, change in _folded(state).changes)


def silences(state: StateLog, now: datetime) -> dict[tuple[str, str], datetime]:
    """Which rules and subjects are silent now, and until when?"""
    tracks = _folded(state).tracks.items()
    return {place: one.quiet_until for place, one in tracks if one.quiet_until and now < one.quiet_until}


# The daemon looks twice a minute, all day: what was folded before is kept, and only what came after is read.
_KEPT: OrderedDict[StateLog, _History] = OrderedDict()
_MOST_KEPT = 4
_ONE_AT_A_TIME = threading.Lock()


def _folded(state: StateLog) -> _History:
    with _ONE_AT_A_TIME:
        history = _KEPT.pop(state, None) or _History()
        entries = state.since((FINDINGS, ACTIONS), history.last.entry_id if history.last else 0)
        if history.last is not None and (not entries or entries[0] != history.last):
            # Another log stands in its place.
            history = _History()
            entries = state.since((FINDINGS, ACTIONS), 0)
        for entry in entries[0 if history.last is None else 1 :]:
            history.take(entry)
        _KEPT[state] = history
        while len(_KEPT) > _MOST_KEPT:
            _KEPT.popitem(last=False)
        return replace(
            history, tracks=dict(history.tracks), seen=set(history.seen), changes=[*history.changes]
        )


def _ongoing(history: _History) -> list[Incident]:
    return [track.ongoing for track in history.tracks.values() if track.ongoing is not None]


def _the_ongoing(state: StateLog, rule: RuleName, subject: str) -> Incident:
    track = _folded(state).tracks.get((rule, subject), Track())
    if track.ongoing is None:
        raise ExpError(f"no open incident of rule {rule} on {subject!r}")
    return track.ongoing


def _moment(name: str, value: datetime) -> str:
    if value.tzinfo is None:
        raise ValueError(f"{name} must carry a time zone, got {value.isoformat()}")
    return value.isoformat()


def _keyed(value: object) -> list[tuple[str, object]]:
    if not isinstance(value, list):
        raise ExpError("the state log holds an entry of findings without a list")
    return [(str(key), content) for key, content in value]
