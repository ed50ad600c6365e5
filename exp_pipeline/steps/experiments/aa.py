"""Earlier experiments whose arms were equal: what they say of bucketing and logging."""

from __future__ import annotations

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.errors import StoreError
from exp_pipeline.model.evidence import EqualArms
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.stored_readouts import stored_readout
from exp_pipeline.store.marts import Marts


def is_equal_armed(brief: Brief) -> bool:
    """Is it an A/A: do its arms say the same of themselves, and may nothing differ in their receipts?"""
    words = {" ".join(arm.description.split()) for arm in brief.arms}
    return len(words) == 1 and words != {""} and not brief.receipt.may_differ


def equal_arms_before(bench: Workbench, brief: Brief) -> tuple[EqualArms, ...]:
    """Results of A/A experiments of the same scheme and unit that ended before this one, newest first.

    Asked for only where the brief says that its logging or bucketing is new. Those whose readout does not yet
    show effects are left out; one whose readout is no longer what was sealed is in it, without a result.
    """
    if not brief.new_logging:
        return ()
    found = []
    marts = Marts(bench.home.marts)
    for name, other in sorted(bench.catalog.briefs.items()):
        same = (other.hash_scheme, other.randomisation_unit) == (brief.hash_scheme, brief.randomisation_unit)
        if name == brief.name or other.end > brief.start or not same or not is_equal_armed(other):
            continue
        snapshot = marts.current(name)
        if snapshot is None:
            continue
        try:
            readout = stored_readout(bench.home, name, snapshot)
        except StoreError:
            told = f"`exp readout {name} --snapshot {snapshot}` puts it back or says what differs"
            found.append(
                EqualArms(experiment=name, snapshot=snapshot, ended=other.end, units=0, unreadable=told)
            )
            continue
        if readout is None:
            continue
        failed = tuple(check.title for check in readout.integrity if check.verdict == "fail")
        if not failed and (readout.blinded or not readout.horizon_reached):
            continue
        p_values = [row.p_value for row in readout.estimates if row.role == "primary"]
        known = [p for p in p_values if p is not None]
        found.append(
            EqualArms(
                experiment=name,
                snapshot=snapshot,
                ended=other.end,
                units=sum(one.assigned for one in readout.counts),
                failed=failed,
                # Bonferroni over the arms that are compared with control.
                p_value=min(1.0, min(known) * len(p_values)) if known else None,
            )
        )
    return tuple(sorted(found, key=lambda one: (one.ended, one.experiment), reverse=True))
