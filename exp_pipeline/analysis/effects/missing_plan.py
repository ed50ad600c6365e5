"""What the brief's plan for missing values does to the primary: weights, or bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from exp_pipeline.analysis.effects.methods import Comparison
from exp_pipeline.analysis.integrity.attrition import ArmAttrition
from exp_pipeline.analysis.wording import interval_in_words
from exp_pipeline.model.readout import Estimate
from exp_pipeline.stats.missing.bounds import EffectBounds
from exp_pipeline.stats.missing.response_weights import WeightedEffect
from exp_pipeline.stats.results import NotEstimable

_SENTENCE = (
    "Units that have a value stand for those without one that were like them before assignment (weighted by "
    "one over the chance of a value)."
)
_WHY = "some units have no value, and the brief lets those seen stand for those lost"


def weighted_primary(
    comparisons: Mapping[str, Comparison], attrition: Sequence[ArmAttrition]
) -> dict[str, Comparison]:
    """What is the headline by arm where the brief asks for weights? As it was where nobody is missing.

    Where weights cannot be had the observed units are compared, and a flag says why.
    """
    found = dict(comparisons)
    for one in attrition:
        before = found[one.arm]
        if isinstance(one.weighted, WeightedEffect):
            flags = (*before.flags, *one.weighted.flags)
            found[one.arm] = Comparison(one.weighted.effect, _SENTENCE, True, flags, _WHY)
        else:
            flag = f"not weighted for missing values: {one.weighted.reason}"
            found[one.arm] = replace(before, flags=(*before.flags, flag))
    return found


def bounds_of(found: ArmAttrition) -> EffectBounds | NotEstimable:
    """Within which bounds is the primary, whoever is missing?

    The worst and the best case where values have a lowest and a highest (shares); else Lee's, for units that
    would have a value in either arm.
    """
    return found.worst_case if isinstance(found.worst_case, EffectBounds) else found.lee


def reversals(rows: Sequence[Estimate], attrition: Sequence[ArmAttrition]) -> tuple[str, ...]:
    """Where do missing units leave the sign of a shown effect open? A sentence an arm and kind of bounds."""
    by_arm = {row.arm: row for row in rows}
    found = []
    for one in attrition:
        row = by_arm.get(one.arm)
        if row is None or row.ci_lower is None or row.ci_upper is None:
            continue
        if row.ci_lower <= 0.0 <= row.ci_upper:
            continue
        shown = row.ci_lower > 0.0
        for answer, whom in (
            (one.lee, "units that would have a value in either arm"),
            (one.worst_case, "all units, were the missing the worst or the best there is"),
        ):
            if not isinstance(answer, EffectBounds):
                continue
            if (answer.ci_lower > 0.0) if shown else (answer.ci_upper < 0.0):
                continue
            interval = interval_in_words(answer.ci_lower, answer.ci_upper, row.display)
            found.append(
                f"{row.title} in {one.arm} may have the other sign because of units without a value: for "
                f"{whom} the effect lies in {interval}."
            )
    return tuple(found)
