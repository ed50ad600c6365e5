"""What does a finding do to an incident? Pure: the past and a finding in, the new state and a change out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from exp_pipeline.model.incidents import RULES, Change, Finding, Incident, Severity, Transition

# A second message is worth it when the trouble is twice what was told, and by at least one more allowed
# amount (or factor ten of a p-value): an SRM's p-value falls a little every day, and that is no news.
WORSE_FACTOR = 2.0
WORSE_STEP = 1.0


@dataclass(frozen=True, slots=True)
class Told:
    """How bad people were told it is."""

    severity: Severity
    badness: float


@dataclass(frozen=True, slots=True)
class Track:
    """What is known of one rule and subject: newest incident, newest day judged, what was told, silence."""

    incident: Incident | None = None
    judged: date | None = None
    told: Told | None = None
    quiet_until: datetime | None = None

    @property
    def ongoing(self) -> Incident | None:
        """The incident that is not resolved, if there is one."""
        return self.incident if self.incident is not None and self.incident.status != "resolved" else None


def is_worse(told: Told, severity: Severity, badness: float) -> bool:
    """Is it so much worse than what people were told that they must hear again?"""
    if severity == "page" and told.severity == "warn":
        return True
    return badness >= WORSE_FACTOR * told.badness and badness - told.badness >= WORSE_STEP


def after_finding(track: Track, finding: Finding, at: datetime) -> tuple[Track, Transition | None]:
    """What follows from one new finding?

    "cannot_tell" changes nothing, nor does a finding on an older day than the newest judged: late answers
    neither open nor close. A failure opens, or worsens what is open; a pass resolves it. While silenced the
    incident follows its findings; what opened or got worse meanwhile is told at the first failure afterwards.
    A recovery is told exactly to those who heard of the trouble.
    """
    if finding.verdict == "cannot_tell" or (track.judged is not None and finding.day < track.judged):
        return track, None
    track = replace(track, judged=finding.day)
    quiet = track.quiet_until is not None and at < track.quiet_until
    incident = track.ongoing
    if finding.verdict == "pass":
        if incident is None:
            return track, None
        closed = _changed(incident, status="resolved", resolved_at=at, evidence=finding.evidence)
        closed = _changed(closed, number=finding.number, threshold=finding.threshold, badness=0.0)
        return _moved(replace(track, told=None), closed, "resolved", at, notify=track.told is not None)
    severity: Severity = "warn" if finding.verdict == "warn" else finding.severity
    told = None if quiet else Told(severity, finding.badness)
    if incident is None:
        return _moved(
            replace(track, told=told), _opened(finding, severity, at), "opened", at, notify=not quiet
        )
    newest = _changed(
        incident,
        severity="page" if "page" in (incident.severity, severity) else "warn",
        last_day=finding.day,
        evidence=finding.evidence,
        number=finding.number,
        threshold=finding.threshold,
        badness=finding.badness,
        owner=finding.owner,
    )
    if quiet or (track.told is not None and not is_worse(track.told, severity, finding.badness)):
        return replace(track, incident=newest), None
    change: Change = "opened" if track.told is None else "worsened"
    again = _changed(
        newest, status="open", acknowledged_by=None, revision=incident.revision + 1, escalations=0
    )
    return _moved(replace(track, told=Told(newest.severity, finding.badness)), again, change, at, notify=True)


def after_acknowledgement(
    track: Track, incident: str, revision: int, who: str, at: datetime
) -> tuple[Track, Transition | None]:
    """What follows when somebody takes an incident on? Nothing where it has changed since they saw it."""
    ongoing = track.ongoing
    if ongoing is None or (ongoing.id, ongoing.revision) != (incident, revision):
        return track, None
    taken = _changed(ongoing, status="acknowledged", acknowledged_by=who)
    return _moved(track, taken, "acknowledged", at, notify=False)


def due_escalation(track: Track, after: timedelta, most: int, now: datetime) -> Incident | None:
    """The incident that people must hear of again: a page, told of, which nobody has taken in time.

    Told again `after` the first message, then after twice that, four times ...; at most `most` times.
    """
    ongoing = track.ongoing
    if ongoing is None or ongoing.status != "open" or ongoing.severity != "page" or ongoing.told_at is None:
        return None
    if ongoing.escalations >= most or (track.quiet_until is not None and now < track.quiet_until):
        return None
    return ongoing if now >= ongoing.told_at + after * (1 << ongoing.escalations) else None


def after_escalation(
    track: Track, incident: str, revision: int, at: datetime
) -> tuple[Track, Transition | None]:
    """What follows when nobody took a page in time? Nothing where it has changed since."""
    ongoing = track.ongoing
    if ongoing is None or (ongoing.id, ongoing.revision) != (incident, revision) or ongoing.status != "open":
        return track, None
    again = _changed(ongoing, revision=ongoing.revision + 1, escalations=ongoing.escalations + 1)
    return _moved(track, again, "escalated", at, notify=True)


def after_silence(track: Track, until: datetime) -> Track:
    """What follows when messages are off up to a moment? One that has passed switches them on."""
    return replace(track, quiet_until=until)


def _opened(finding: Finding, severity: Severity, at: datetime) -> Incident:
    rule = RULES[finding.rule]
    return Incident(
        id=finding.digest()[:16],
        rule=finding.rule,
        subject=finding.subject,
        experiment=finding.experiment,
        severity=severity,
        status="open",
        opened_at=at,
        since=finding.day,
        last_day=finding.day,
        evidence=finding.evidence,
        number=finding.number,
        threshold=finding.threshold,
        badness=finding.badness,
        hurt=rule.hurt,
        first_action=rule.first_action,
        owner=finding.owner,
        runbook=finding.runbook or rule.runbook,
        revision=1,
    )


def _changed(incident: Incident, **fields: object) -> Incident:
    return incident.model_copy(update=fields)


def _moved(
    track: Track, incident: Incident, change: Change, at: datetime, *, notify: bool
) -> tuple[Track, Transition]:
    if change in ("acknowledged", "resolved"):
        incident = _changed(incident, revision=incident.revision + 1)
    if notify:
        incident = _changed(incident, told_at=at)
    return replace(track, incident=incident), Transition(
        change=change, at=at, incident=incident, notify=notify
    )
