"""Everything that shows a primary effect, made in one place and only where effects may be seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from exp_pipeline.analysis.deciding.blinding import Blinding
from exp_pipeline.analysis.effects.arms import arms_compared, arms_difference
from exp_pipeline.analysis.effects.compliance import complier_effects
from exp_pipeline.analysis.effects.cumulative import cumulative_points, effects_by_day
from exp_pipeline.analysis.effects.estimates import Setting
from exp_pipeline.analysis.effects.families import Judged
from exp_pipeline.analysis.effects.methods import Comparison
from exp_pipeline.analysis.effects.novelty import Novelty, novelty_of
from exp_pipeline.analysis.effects.past_units import PastUnits, refusal_of
from exp_pipeline.analysis.effects.repeated_looks import planned_look, with_looks
from exp_pipeline.analysis.effects.robustness import robustness_rows
from exp_pipeline.analysis.effects.segments import Segments, segments_of
from exp_pipeline.analysis.inputs import ReadoutInputs
from exp_pipeline.analysis.integrity.attrition import ArmAttrition
from exp_pipeline.analysis.units import MetricUnits, Units
from exp_pipeline.model.readout import (
    ArmsDifference,
    ComplierEffect,
    CumulativePoint,
    Estimate,
    FamilyResult,
    RobustnessRow,
)


@dataclass(frozen=True, slots=True)
class PrimaryEffects:
    """What may be seen of the primary once effects may? The default is what a blinded readout has: nothing.

    main: the primary's rows, one a treatment arm, with what planned looks say.
    """

    main: tuple[Estimate, ...] = ()
    families: tuple[FamilyResult, ...] = ()
    segments: Segments = field(default_factory=Segments)
    compliance: tuple[ComplierEffect, ...] = ()
    arms_compared: tuple[Estimate, ...] = ()
    arms_difference: ArmsDifference | None = None
    cumulative: tuple[CumulativePoint, ...] = ()
    novelty: Novelty = field(default_factory=Novelty)
    robustness: tuple[RobustnessRow, ...] = ()


def primary_effects(
    inputs: ReadoutInputs,
    setting: Setting,
    units: Units,
    primary: MetricUnits,
    comparisons: Mapping[str, Comparison],
    families: Judged,
    attrition: Sequence[ArmAttrition],
    blinding: Blinding,
) -> PrimaryEffects:
    """What do the data say of the primary, in every way that a readout shows it?

    comparisons: the headline of the primary by arm. families: the readout's rows with adjusted p-values.
    attrition: what missing values do, by arm. Nothing is computed while effects are blinded.
    """
    if blinding.blinded:
        return PrimaryEffects()
    brief, days = inputs.brief, inputs.days
    look = planned_look(brief, blinding, inputs.as_of)
    reason = refusal_of(primary, days, inputs.measures)
    earlier: PastUnits | str = reason
    if look is not None and len(look.days) > 1 and days is not None and not reason:
        earlier = PastUnits.of(primary, days, inputs.measures)
    main = with_looks(
        setting,
        [row for row in families.rows if row.role == "primary"],
        {arm: found.effect for arm, found in comparisons.items()},
        look,
        primary,
        earlier,
    )
    cumulative: tuple[CumulativePoint, ...] = ()
    novelty = Novelty()
    if days is not None:
        by_day = effects_by_day(
            primary,
            days,
            brief,
            clustered=units.clustered,
            upto=inputs.as_of,
            level=setting.level,
            measures=inputs.measures,
        )
        cumulative = cumulative_points(by_day, brief)
        novelty = novelty_of(
            setting,
            units,
            primary,
            days,
            upto=inputs.as_of,
            weeks=inputs.weeks,
            measures=inputs.measures,
        )
    return PrimaryEffects(
        main=main,
        families=families.families,
        segments=segments_of(setting, primary),
        compliance=complier_effects(setting, primary),
        arms_compared=arms_compared(setting, primary),
        arms_difference=arms_difference(setting, primary),
        cumulative=cumulative,
        novelty=novelty,
        robustness=robustness_rows(setting, primary, comparisons, attrition),
    )
