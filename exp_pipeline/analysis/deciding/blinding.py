"""Whether primary effects may be seen yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from exp_pipeline.analysis.wording import listed
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import IntegrityCheck, LockState, Readout

# Columns of a unit's row that say, or from which a scheme computes, in which arm it is.
ARM_COLUMNS = ("arm", "arm_bucket", "hash_arm", "drawn_arm", "exposed_arm", "other_arm")


@dataclass(frozen=True, slots=True)
class Blinding:
    """May effects be shown, and why?

    planned: the data end where the brief planned a look or the horizon, so a decision may be taken.
    many_looks: effects may have been seen before, so only always-valid intervals are judged.
    """

    blinded: bool
    reason: str
    horizon_reached: bool
    planned: bool
    many_looks: bool


def blinding_of(
    brief: Brief, lock: LockState, as_of: date, integrity: Sequence[IntegrityCheck], unblinded_because: str
) -> Blinding:
    """May the primary effect be shown?

    The end and each look are days that are excluded: the look of the 15th is that on all data up to the end
    of the 14th. An end that was moved after the lock counts at the later of the two days, and looks that were
    changed after the lock open nothing. A failed integrity check hides effects whatever was recorded.
    """
    changed = {change.field: change.locked_value for change in lock.changes}
    horizon = brief.end
    unreadable = False
    if "end" in changed:
        try:
            horizon = max(horizon, date.fromisoformat(changed["end"].strip("\"' ")))
        except ValueError:
            unreadable = True
    complete = as_of + timedelta(days=1)
    reached = complete >= horizon and not unreadable
    looks = () if "looks" in changed else brief.looks
    planned = reached or complete in looks
    many = bool(brief.looks) or "looks" in changed or bool(unblinded_because)
    failed = [check.title for check in integrity if check.verdict == "fail"]
    if failed:
        reason = f"Effects are hidden because integrity fails: {listed(failed)}."
    elif planned:
        what = "The planned horizon has been reached" if reached else "This is a planned look"
        reason = f"{what}: data are complete to the end of {as_of}."
    elif unblinded_because:
        reason = f"Unblinded before the horizon of {horizon}. Recorded reason: {unblinded_because}"
    else:
        later = [look for look in looks if look > complete]
        following = f"the next planned look is on {min(later)}" if later else "no look is planned before it"
        reason = (
            f"Effects are hidden until the horizon of {horizon}; {following}. Data go to the end of {as_of}."
        )
    blinded = bool(failed) or not (planned or unblinded_because)
    return Blinding(blinded, reason, reached, planned, many)


def rows_blinded_because(brief: Brief | None, readout: Readout | None) -> str | None:
    """Why must rows of units be shown without their arm? None where nothing is to be hidden any more.

    brief: as it stands now, None where it is gone. readout: of the newest snapshot, None where there is none.
    A planned look opens the readout of its own snapshot only: rows of later days would show what came after.
    """
    if readout is None:
        return "No readout says yet that effects may be seen."
    if readout.blinded:
        return readout.blinding_reason
    if brief is None or readout.brief.analysis_digest() != brief.analysis_digest():
        return "The newest readout was made from another brief than the one that stands."
    if readout.horizon_reached or readout.unblinded_because:
        return None
    return f"A planned look opens its own readout, of data to the end of {readout.as_of}, and not later rows."
