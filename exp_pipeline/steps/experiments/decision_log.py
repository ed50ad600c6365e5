"""The decision log: what readouts recommended and what people decided, in rows that are only ever added."""

from __future__ import annotations

from datetime import UTC, datetime

from exp_pipeline.analysis.deciding.record import (
    arm_that_speaks,
    at_planned_time,
    deciding_rule,
    logged_recommendation,
)
from exp_pipeline.model.decision_log import LoggedDecision
from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.readout import Outcome, Readout
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.sealed_readouts import current_snapshot, folder_of, readout_of
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import state_log

_KIND = "decision"
# These are logged at any time: somebody has to act on them, and guardrails are never hidden.
_AT_ANY_TIME: tuple[Outcome, ...] = ("pause", "stop", "roll_back")


def decisions(home: Home, experiment: str | None = None, search: str = "") -> tuple[LoggedDecision, ...]:
    """The log (of one experiment), oldest first; every word of `search` must stand in the row."""
    words = search.casefold().split()
    rows = (
        LoggedDecision.model_validate(dict(entry.content))
        for entry in state_log(home).entries(_KIND, experiment)
    )
    return tuple(row for row in rows if all(word in _text_of(row) for word in words))


def record_recommendation(bench: Workbench, readout: Readout, at: datetime) -> LoggedDecision | None:
    """Log what a readout recommends, once for its snapshot and outcome; None where there is nothing to log.

    Logged are outcomes of planned looks and the horizon whose effects are shown; and, at any time, that an
    experiment is to be paused, stopped or rolled back, where its last recommendation was another one.
    """
    row = logged_recommendation(readout, at=at, memo=_memo_of(bench, readout))
    if not row.planned or row.effects_hidden:
        last = _last_recommended(bench.home, row.experiment)
        if row.outcome not in _AT_ANY_TIME or row.outcome == last:
            return None
    key = f"{row.experiment}:{row.snapshot}:{row.outcome}"
    return row if _append(bench.home, row, key) else None


def record_decision(
    bench: Workbench,
    experiment: str,
    outcome: Outcome,
    *,
    by: str,
    reason: str,
    at: datetime,
    arm: str | None = None,
    snapshot: str | None = None,
) -> tuple[LoggedDecision, bool]:
    """Log what people decided on a readout (the newest, unless named); and whether it is new.

    It may differ from what the readout recommends: the row says so. Raises ValueError where `by` or `reason`
    is empty or the arm is none of the brief's treatments, and ExpError where there is no readout.
    """
    team, because = " ".join(by.split()), " ".join(reason.split())
    for name, text in (("by", team), ("reason", because)):
        if not text:
            raise ValueError(f"{name} is empty: a decision is logged with its team and its reason")
    name = snapshot or current_snapshot(bench, experiment)
    readout = readout_of(bench, experiment, name)
    treatments = [one.name for one in readout.brief.treatments()]
    if arm is not None and arm not in treatments:
        raise ValueError(f"arm {arm!r} is not among the treatment arms: {', '.join(treatments)}")
    if arm is None and len(treatments) == 1:
        (arm,) = treatments
    found = arm_that_speaks(readout, arm)
    recommended = found.outcome if arm is not None and found is not None else readout.decision.outcome
    row = LoggedDecision(
        kind="decided",
        experiment=experiment,
        title=readout.brief.title,
        snapshot=name,
        as_of=readout.as_of,
        at=at.astimezone(UTC),
        outcome=outcome,
        arm=arm,
        segments=found.segments if found is not None and outcome == "ship_scoped" else (),
        by=team,
        because=because,
        rule=deciding_rule(found),
        recommended=recommended,
        planned=at_planned_time(readout),
        effects_hidden=readout.blinded,
        brief_digest=readout.provenance.brief_digest,
        code_version=readout.provenance.code_version,
        memo=_memo_of(bench, readout),
    )
    key = digest_of([experiment, name, outcome, arm, team, because])
    return row, _append(bench.home, row, key)


def _append(home: Home, row: LoggedDecision, key: str) -> bool:
    return state_log(home).append(
        _KIND,
        row.experiment,
        key=key,
        at=row.at.isoformat(timespec="seconds"),
        content=row.model_dump(mode="json"),
    )


def _last_recommended(home: Home, experiment: str) -> Outcome | None:
    rows = [row for row in decisions(home, experiment) if row.kind == "recommended"]
    return rows[-1].outcome if rows else None


def _memo_of(bench: Workbench, readout: Readout) -> str:
    folder = folder_of(bench, readout.experiment, readout.provenance.snapshot)
    return (folder / "memo.html").relative_to(bench.home.root).as_posix()


def _text_of(row: LoggedDecision) -> str:
    parts = (
        row.kind, row.experiment, row.title, row.snapshot, row.outcome, row.outcome.replace("_", " "),
        row.arm or "", row.by, row.because, row.rule, row.brief_digest, row.code_version,
        f"{row.at:%Y-%m-%d}", f"{row.as_of}", "differs" if row.differs else "",
    )  # fmt: skip
    return "\n".join(parts).casefold()
