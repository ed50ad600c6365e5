"""Several treatment arms: do they differ from one another, and by how much is each better than another?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

from exp_pipeline.analysis.effects.estimates import Setting, estimate_row, with_family
from exp_pipeline.analysis.effects.heterogeneity import arms_heterogeneity
from exp_pipeline.analysis.effects.methods import compare
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.model.readout import ArmsDifference, Estimate
from exp_pipeline.stats.multiplicity import holm
from exp_pipeline.stats.results import NotEstimable

FAMILY = "arms"


def arms_compared(setting: Setting, units: MetricUnits) -> tuple[Estimate, ...]:
    """By how much does each treatment arm differ from each before it, in the primary?

    Only where the brief asks for all comparisons. Holm over the pairs, as a family of their own: they do not
    weigh on the comparisons with control, nor those on them.
    """
    if setting.brief.comparisons != "all":
        return ()
    return with_family(_pairs(setting, units), FAMILY, holm)


def arms_difference(setting: Setting, units: MetricUnits) -> ArmsDifference | None:
    """Do the treatment arms differ in their effect on the primary? None for one treatment arm.

    Welch's test over means or shares of units that were randomised one by one; otherwise the smallest of the
    pairs' p-values after Holm, which is a valid test that no two differ.
    """
    arms = tuple(arm.name for arm in setting.brief.treatments())
    if len(arms) < 2:
        return None
    answer = arms_heterogeneity(setting, units)
    if not isinstance(answer, NotEstimable):
        return ArmsDifference(
            arms=arms,
            method=answer.interaction.method,
            p_value=answer.interaction.p_value,
            spread=math.sqrt(answer.between.tau2),
            flags=answer.flags,
        )
    pairs = _pairs(setting, units)
    known = {f"{row.arm} {row.control}": row.p_value for row in pairs if row.p_value is not None}
    if not known:
        reason = next((row.reason for row in pairs if row.reason), answer.reason)
        return ArmsDifference(arms=arms, reason=reason)
    untold = [f"{row.arm} against {row.control}: {row.reason}" for row in pairs if row.p_value is None]
    return ArmsDifference(
        arms=arms,
        method="holm over pairs",
        p_value=min(holm(known).values()),
        flags=tuple(untold),
    )


def _pairs(setting: Setting, units: MetricUnits) -> Sequence[Estimate]:
    found = []
    for earlier, later in combinations([arm.name for arm in setting.brief.treatments()], 2):
        comparison = compare(
            units, later, earlier, clustered=setting.clustered, adjusted=True, level=setting.level
        )
        found.append(estimate_row(setting, units, "primary", later, comparison, control=earlier))
    return found
