"""Quantiles of a unit table's outcomes: by row, or by cluster where rows belong together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from exp_pipeline.analysis.tables.effect_rows import EffectRows, RowLabels
from exp_pipeline.analysis.tables.methods import table_method
from exp_pipeline.analysis.tables.rows import Mask, RowOutcome, RowTable, slots_of
from exp_pipeline.stats.effects.quantiles import difference_in_quantiles
from exp_pipeline.stats.many.effects import Answer
from exp_pipeline.stats.results import Effect, NotEstimable

_STRATA = "strata do not enter a quantile: it is biased where shares of treated units differ between them"


def quantile_effects(
    table: RowTable,
    outcomes: Sequence[RowOutcome],
    quantiles: Sequence[float],
    pairs: Sequence[tuple[str, str]],
    rows: EffectRows,
) -> None:
    """Write by how much each quantile of each outcome differs, overall and by segment.

    Rows without an outcome, an arm or a cluster do not count. Covariates and strata do not enter.
    """
    why = table_method("quantile", clustered=table.clustered, stratified=False, adjusted=False).why
    for outcome in outcomes:
        counts = np.isfinite(outcome.values) & (table.arm >= 0) & (table.cluster >= 0)
        for quantile in quantiles:
            for segment, value, control, arm, answer in _answers(
                table, outcome, counts, quantile, pairs, rows.level
            ):
                labels = RowLabels(
                    outcome=outcome.name,
                    arm=arm,
                    control=control,
                    estimand="quantile",
                    adjusted=False,
                    why=why,
                    segment=[segment],
                    segment_value=[value],
                    quantile=quantile,
                )
                rows.add([answer], labels)


def _answers(
    table: RowTable,
    outcome: RowOutcome,
    counts: Mask,
    quantile: float,
    pairs: Sequence[tuple[str, str]],
    level: float,
) -> Iterator[tuple[str | None, str | None, str, str, Answer]]:
    for segment, value, inside in slots_of(table):
        for control, arm in pairs:
            sides = [counts & inside & (table.arm == table.arms.index(name)) for name in (control, arm)]
            answer = difference_in_quantiles(
                outcome.values[sides[0]],
                table.cluster[sides[0]],
                outcome.values[sides[1]],
                table.cluster[sides[1]],
                quantile=quantile,
                level=level,
            )
            n_control, n_treatment = (int(side.sum()) for side in sides)
            yield segment, value, control, arm, _counted(table, answer, n_control, n_treatment)


def _counted(table: RowTable, answer: Answer, n_control: int, n_treatment: int) -> Answer:
    """n are rows; what the estimator calls units are clusters where rows belong together."""
    if isinstance(answer, NotEstimable):
        return replace(answer, n_control=n_control, n_treatment=n_treatment)
    found: Effect = answer
    if table.stratum is not None:
        found = replace(found, flags=(*found.flags, _STRATA))
    if not table.clustered:
        return found
    return replace(
        found,
        n_control=n_control,
        n_treatment=n_treatment,
        clusters_control=answer.n_control,
        clusters_treatment=answer.n_treatment,
    )
