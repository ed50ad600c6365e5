"""The decision log: what readouts recommended and what people decided, in rows that are only ever added."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from exp_pipeline.analysis.deciding.blinding import blinding_of
from exp_pipeline.model.decision_log import LoggedDecision
from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.readout import ArmDecision, Outcome, Readout
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.sealed_readouts import current_snapshot, folder_of, readout_of
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import state_log

_KIND = "decision"
_BY_RULES = "rules"
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
    planned = blinding_of(
        readout.brief, readout.lock, readout.as_of, readout.integrity, readout.unblinded_because
    ).planned
    outcome = readout.decision.outcome
    if not (planned and not readout.blinded):
        last = _last_recommended(bench.home, readout.experiment)
        if outcome not in _AT_ANY_TIME or outcome == last:
            return None
    arm = _deciding(readout, readout.decision.arm)
    row = LoggedDecision(
        kind="recommended",
        experiment=readout.experiment,
        title=readout.brief.title,
        snapshot=readout.provenance.snapshot,
        as_of=readout.as_of,
        at=at.astimezone(UTC),
        outcome=outcome,
        arm=readout.decision.arm,
        segments=arm.segments if arm is not None else (),
        by=_BY_RULES,
        because=readout.decision.summary,
        rule=_rule_of(arm),
        planned=planned,
        effects_hidden=readout.blinded,
        brief_digest=readout.provenance.brief_digest,
        code_version=readout.provenance.code_version,
        memo=_memo_of(bench, readout),
    )
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
    found = _deciding(readout, arm)
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
        rule=_rule_of(found),
        recommended=recommended,
        planned=blinding_of(
            readout.brief, readout.lock, readout.as_of, readout.integrity, readout.unblinded_because
        ).planned,
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


def _deciding(readout: Readout, arm: str | None) -> ArmDecision | None:
    """The decision for an arm; without one, the first arm's whose outcome is the experiment's."""
    arms: Iterable[ArmDecision] = readout.decision.arms
    if arm is not None:
        return next((one for one in arms if one.arm == arm), None)
    return next((one for one in arms if one.outcome == readout.decision.outcome), None)


def _rule_of(arm: ArmDecision | None) -> str:
    if arm is None:
        return ""
    return arm.decided_by or next((rule.rule for rule in arm.rules if rule.verdict != "pass"), "")


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
