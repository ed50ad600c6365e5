"""What do runs that ended say, as findings: failed jobs, and checks that stopped them?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from exp_pipeline.model.incidents import Finding, Incident, RuleName, Severity

OWNER = "data-platform"
# Blocking checks that are rules of their own.
_CHECKS: Mapping[str, RuleName] = {"conservation": "conservation", "contract": "contract"}
# A day without its facts stops ramps and readouts; anything else is somebody's own run.
PAGED_JOBS = frozenset({"daily_facts"})
# A brief that is not ready stops its run on purpose: its owner sees why, nobody is woken.
READINESS = "ready"


@dataclass(frozen=True, slots=True)
class EndedRun:
    """One run that ended: what it was for, how it ended, and what its blocking checks said.

    `subject` names the job and, for an experiment, its partition. `days` is the range it was for, where it
    had one. `error` names the step that failed and the kind of error, never a value out of the data.
    """

    run_id: str
    job: str
    subject: str
    ended: date
    succeeded: bool
    error: str = ""
    days: tuple[date, date] | None = None
    checks: Mapping[str, bool] | None = None


def findings_of_run(run: EndedRun, ongoing: Iterable[Incident]) -> tuple[Finding, ...]:
    """What does one run that ended open or close?

    A failure opens `run_failed` on its subject; a success closes it. A failed check of conservation or
    contract opens its own rule on the days of the run; a run that passes the check on those days, or on more,
    closes it. ongoing: the incidents that are open.
    """
    if not run.succeeded and (run.checks or {}).get(READINESS) is False:
        return ()
    severity: Severity = "page" if run.job in PAGED_JOBS else "warn"
    found = [
        Finding(
            rule="run_failed",
            subject=run.subject,
            day=run.ended,
            verdict="pass" if run.succeeded else "fail",
            severity=severity,
            evidence="a run succeeded" if run.succeeded else f"run {run.run_id[:8]}: {run.error}",
            owner=OWNER,
            look=run.run_id,
        )
    ]
    opened = list(ongoing)
    for name, passed in sorted((run.checks or {}).items()):
        rule = _CHECKS.get(name)
        if rule is None or run.days is None:
            continue
        if not passed:
            found.append(_of_check(rule, _told(run.days), run, passed=False))
        else:
            for one in opened:
                if one.rule == rule and _within(one.subject, run.days):
                    found.append(_of_check(rule, one.subject, run, passed=True))
    return tuple(found)


def _of_check(rule: RuleName, subject: str, run: EndedRun, *, passed: bool) -> Finding:
    said = "holds again" if passed else "failed: what lies below was not made"
    return Finding(
        rule=rule,
        subject=subject,
        day=run.ended,
        verdict="pass" if passed else "fail",
        evidence=f"check {rule} {said}, run {run.run_id[:8]}",
        owner=OWNER,
        look=run.run_id,
    )


def _told(days: tuple[date, date]) -> str:
    first, last = days
    return f"events:{first}" if first == last else f"events:{first}..{last}"


def _within(subject: str, days: tuple[date, date]) -> bool:
    """Whether the days that a subject speaks of all lie within a range."""
    _, _, told = subject.partition(":")
    first, _, last = told.partition("..")
    try:
        return days[0] <= date.fromisoformat(first) and date.fromisoformat(last or first) <= days[1]
    except ValueError:
        return False
