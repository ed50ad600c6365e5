"""Earlier experiments whose arms were equal: what they say of bucketing and logging."""

from __future__ import annotations

from pydantic import ValidationError

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.errors import StoreError
from exp_pipeline.model.evidence import EqualArms
from exp_pipeline.model.readout import Readout
from exp_pipeline.steps.context import Workbench
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.sealed import read_sealed


def is_equal_armed(brief: Brief) -> bool:
    """Is it an A/A: do its arms say the same of themselves, and may nothing differ in their receipts?"""
    words = {" ".join(arm.description.split()) for arm in brief.arms}
    return len(words) == 1 and words != {""} and not brief.receipt.may_differ


def equal_arms_before(bench: Workbench, brief: Brief) -> tuple[EqualArms, ...]:
    """Results of A/A experiments of the same scheme and unit that ended before this one, newest first.

    Asked for only where the brief says that its logging or bucketing is new. Those whose readout does not yet
    show effects are left out.
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
        folder = bench.home.readouts / f"experiment={name}" / f"snapshot={snapshot}"
        try:
            encoded = read_sealed(folder, "readout", "readout.json")
            readout = None if encoded is None else Readout.model_validate_json(encoded)
        except (StoreError, ValidationError):
            # A damaged or foreign readout is no result.
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
