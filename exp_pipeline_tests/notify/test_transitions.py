"""What a finding does to an incident."""

from __future__ import annotations

from datetime import timedelta

import pytest

from exp_pipeline.model.incidents import Finding, Transition
from exp_pipeline.notify.transitions import Track, after_acknowledgement, after_finding, after_silence
from exp_pipeline_tests.notify.incident_samples import NOON, finding


def run(*findings: Finding, track: Track | None = None) -> tuple[Track, list[Transition]]:
    """Findings one after the other, an hour apart."""
    now, changes = track or Track(), []
    for hour, one in enumerate(findings):
        now, change = after_finding(now, one, NOON + timedelta(hours=hour))
        if change is not None:
            changes.append(change)
    return now, changes


def said(changes: list[Transition]) -> list[tuple[str, bool]]:
    return [(change.change, change.notify) for change in changes]


def test_open_worse_recovered() -> None:
    track, changes = run(
        finding(day=0, badness=0.5),
        finding(day=1, badness=0.9),
        finding(day=2, badness=1.6),
        finding("pass", day=3),
    )
    assert said(changes) == [("opened", True), ("worsened", True), ("resolved", True)]
    assert track.ongoing is None
    assert len({change.key for change in changes}) == 3
    assert len({change.incident.id for change in changes}) == 1
    assert changes[-1].incident.last_day == finding(day=2).day


@pytest.mark.parametrize("verdict", ["pass", "cannot_tell"])
def test_nothing_opens_without_a_failure(verdict: str) -> None:
    assert run(finding(verdict))[1] == []


def test_cannot_tell_does_not_close() -> None:
    track, changes = run(finding(), finding("cannot_tell", day=1))
    assert said(changes) == [("opened", True)]
    assert track.ongoing is not None


def test_a_warning_that_becomes_a_page_is_told_again() -> None:
    track, changes = run(finding("warn", badness=0), finding("fail", day=1, badness=0))
    assert said(changes) == [("opened", True), ("worsened", True)]
    assert [change.incident.severity for change in changes] == ["warn", "page"]
    again, more = run(finding("warn", day=2, badness=0), track=track)
    assert more == []
    assert again.ongoing is not None
    assert again.ongoing.severity == "page"


def test_an_older_day_neither_opens_nor_closes() -> None:
    assert said(run(finding(day=5), finding("pass", day=4))[1]) == [("opened", True)]
    assert run(finding("pass", day=5), finding(day=4))[1] == []


def test_a_rerun_of_the_same_day_closes_and_opens_again() -> None:
    _, changes = run(finding(), finding("pass"), finding(evidence="again"))
    assert said(changes) == [("opened", True), ("resolved", True), ("opened", True)]
    assert changes[0].incident.id != changes[2].incident.id


def test_an_acknowledged_incident_opens_again_when_worse() -> None:
    track, _ = run(finding(badness=1))
    incident = track.ongoing
    assert incident is not None
    taken, change = after_acknowledgement(track, incident.id, incident.revision, "on-call", NOON)
    assert change is not None
    assert not change.notify
    assert taken.ongoing is not None
    assert (taken.ongoing.status, taken.ongoing.acknowledged_by) == ("acknowledged", "on-call")
    same, changes = run(finding(day=1, badness=1.5), track=taken)
    assert changes == []
    assert same.ongoing is not None
    assert same.ongoing.status == "acknowledged"
    worse, changes = run(finding(day=2, badness=4), track=same)
    assert said(changes) == [("worsened", True)]
    assert worse.ongoing is not None
    assert (worse.ongoing.status, worse.ongoing.acknowledged_by) == ("open", None)


def test_an_acknowledgement_of_what_has_changed_since_is_no_acknowledgement() -> None:
    track, _ = run(finding(badness=1), finding(day=1, badness=4))
    incident = track.ongoing
    assert incident is not None
    assert after_acknowledgement(track, incident.id, incident.revision - 1, "on-call", NOON) == (track, None)


def test_a_silence_hides_failures_and_tells_them_afterwards() -> None:
    quiet = after_silence(Track(), NOON + timedelta(minutes=90))
    _, changes = run(finding(day=0), finding(day=1), finding(day=2), finding("pass", day=3), track=quiet)
    assert said(changes) == [("opened", False), ("opened", True), ("resolved", True)]


def test_nobody_hears_of_a_recovery_of_which_nobody_heard() -> None:
    quiet = after_silence(Track(), NOON + timedelta(days=1))
    assert said(run(finding(), finding("pass", day=1), track=quiet)[1]) == [
        ("opened", False),
        ("resolved", False),
    ]
