"""How sure would the comparisons be, told without the arms? For power while effects are hidden."""

from __future__ import annotations

import math
from dataclasses import replace

import polars as pl

from exp_pipeline.analysis.effects.estimates import Setting
from exp_pipeline.analysis.effects.methods import compare
from exp_pipeline.analysis.planning.power_achieved import Precision
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.stats.results import Effect

_COPY = "copy of all"


def blinded_precisions(setting: Setting, units: MetricUnits) -> tuple[Precision, ...]:
    """How sure is each arm's comparison, if every arm's units vary as all units together do?

    The standard error of a share, and to a degree of any number, tells of an arm's level; and one arm's level
    beside that of all units, which rows without arms tell, is the effect. So all units together are compared
    with a copy of themselves by the headline's estimator, and standard error and degrees of freedom are
    brought to the arms' own numbers of units: nothing here depends on which unit is in which arm. Empty where
    units have no spread.
    """
    control = setting.brief.control
    everyone = units.frame.with_columns(pl.lit(control).alias("arm"))
    copied = everyone.with_columns(
        pl.lit(_COPY).alias("arm"),
        pl.concat_str(pl.lit("copy "), "unit_id").alias("unit_id"),
        pl.concat_str(pl.lit("copy "), "cluster").alias("cluster"),
    )
    both = replace(units, frame=pl.concat([everyone, copied.select(everyone.columns)]))
    answer = compare(
        both, _COPY, control, clustered=setting.clustered, adjusted=True, level=setting.level
    ).effect
    if not isinstance(answer, Effect):
        return ()
    n, counts = everyone.height, dict(units.frame.group_by("arm").len().iter_rows())
    in_control = int(counts.get(control, 0))
    return tuple(
        Precision(
            arm.name,
            in_control,
            treated,
            answer.mean_control,
            answer.se * math.sqrt((n / in_control + n / treated) / 2.0),
            max(1.0, answer.df * (in_control + treated) / (2.0 * n)),
            answer.variance_reduction,
        )
        for arm in setting.brief.treatments()
        if in_control and (treated := int(counts.get(arm.name, 0)))
    )
