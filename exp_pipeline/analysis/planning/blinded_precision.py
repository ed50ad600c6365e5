"""How sure would the comparisons be, told from the control arm alone? For power while effects are hidden."""

from __future__ import annotations

import math
from dataclasses import replace

import polars as pl

from exp_pipeline.analysis.effects.estimates import Setting
from exp_pipeline.analysis.effects.methods import compare
from exp_pipeline.analysis.planning.power_achieved import Precision
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.stats.results import Effect

_COPY = "copy of control"


def blinded_precisions(setting: Setting, units: MetricUnits) -> tuple[Precision, ...]:
    """How sure is each arm's comparison, if treatment units vary as control's do?

    The standard error of a share, and to a degree of any number, tells of the treatment arm's level, and with
    control's of the effect. So control is compared with a copy of itself by the headline's estimator, and the
    standard error is brought to each arm's own number of units. Empty where control has no spread.
    """
    control = units.frame.filter(pl.col("arm") == setting.brief.control)
    copied = control.with_columns(
        pl.lit(_COPY).alias("arm"),
        pl.concat_str(pl.lit("copy "), "unit_id").alias("unit_id"),
        pl.concat_str(pl.lit("copy "), "cluster").alias("cluster"),
    )
    both = replace(units, frame=pl.concat([control, copied.select(control.columns)]))
    answer = compare(
        both,
        _COPY,
        setting.brief.control,
        clustered=setting.clustered,
        adjusted=True,
        level=setting.level,
    ).effect
    if not isinstance(answer, Effect):
        return ()
    counts = dict(units.frame.group_by("arm").len().iter_rows())
    return tuple(
        Precision(
            arm.name,
            control.height,
            n,
            answer.mean_control,
            answer.se * math.sqrt((1.0 + control.height / n) / 2.0),
            answer.df,
            answer.variance_reduction,
        )
        for arm in setting.brief.treatments()
        if (n := int(counts.get(arm.name, 0)))
    )
