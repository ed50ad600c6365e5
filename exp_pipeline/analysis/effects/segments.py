"""The primary effect in every declared segment: by itself, beside the others, and shrunken towards them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from exp_pipeline.analysis.effects.estimates import Setting, estimate_row
from exp_pipeline.analysis.effects.heterogeneity import SegmentHeterogeneity, segment_heterogeneity
from exp_pipeline.analysis.effects.methods import Answer, compare
from exp_pipeline.analysis.effects.suppression import withheld_values
from exp_pipeline.analysis.unit_sums import UNKNOWN
from exp_pipeline.analysis.units import SEGMENT, MetricUnits
from exp_pipeline.model.readout import Estimate, SegmentDifference, ShrunkenEffect
from exp_pipeline.stats.groups.heterogeneity import Heterogeneity
from exp_pipeline.stats.multiplicity import holm
from exp_pipeline.stats.results import NotEstimable

FAMILY = "segments"
# What of an estimate tells nothing of a withheld cell.
_IDENTITY = (
    "experiment", "snapshot", "metric", "title", "role", "display", "direction", "arm", "control", "segment",
    "segment_value", "window_days", "method", "why", "level", "confirmatory", "family",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Segments:
    """What do the declared segments say?

    facts: every value with its estimate, for decisions only, `suppressed` where it may not be told. shown:
    the same with numbers and counts taken out there. differences and shrunken rest on shown values alone.
    """

    facts: tuple[Estimate, ...] = ()
    shown: tuple[Estimate, ...] = ()
    differences: tuple[SegmentDifference, ...] = ()
    shrunken: tuple[ShrunkenEffect, ...] = ()


def segments_of(setting: Setting, units: MetricUnits) -> Segments:
    """What is the primary effect in each declared segment, and do they differ?

    Only columns frozen at assignment are segments; values in order, units without one are "unknown". Cells
    below the brief's minimum are not estimated. p-values are corrected (Holm) over all segments and arms,
    withheld ones counting as if nothing was found in them.
    """
    brief = setting.brief
    columns = {
        segment.column: f"{SEGMENT}{segment.column}"
        for segment in brief.segments
        if f"{SEGMENT}{segment.column}" in units.frame.columns
    }
    if not columns or not units.frame.height:
        return Segments()
    hidden = withheld_values(units.frame, columns, list(brief.shares()), brief.minimum_cell)
    rows: list[Estimate] = []
    told: dict[tuple[str, str, str], Answer] = {}
    for name, column in columns.items():
        for value in units.frame[column].cast(pl.String).fill_null(UNKNOWN).unique().sort().to_list():
            for arm in brief.treatments():
                row, answer = _estimate(setting, units, name, value, arm.name)
                rows.append(row.model_copy(update={"suppressed": (name, value) in hidden}))
                if (name, value) not in hidden:
                    told[name, value, arm.name] = answer
    facts = _corrected(rows)
    found = segment_heterogeneity(setting, units, told)
    return Segments(
        facts,
        tuple(_withheld(row, brief.minimum_cell) if row.suppressed else row for row in facts),
        tuple(_difference(one, withheld=any(cell[0] == one.segment for cell in hidden)) for one in found),
        tuple(
            shrunken
            for one in found
            for shrunken in _shrunken(one, [row for row in facts if _belongs(row, one)], brief.minimum_cell)
        ),
    )


def _corrected(rows: Sequence[Estimate]) -> tuple[Estimate, ...]:
    """p-values as one family; withheld ones weigh as if they were 1, so that no other tells of them."""
    known = {
        str(place): 1.0 if row.suppressed else row.p_value
        for place, row in enumerate(rows)
        if row.p_value is not None
    }
    adjusted = holm(known)
    return tuple(
        row.model_copy(update={"p_adjusted": adjusted.get(str(place)), "family": FAMILY})
        for place, row in enumerate(rows)
    )


def _belongs(row: Estimate, one: SegmentHeterogeneity) -> bool:
    return row.segment == one.segment and row.arm == one.arm


def _estimate(
    setting: Setting, units: MetricUnits, name: str, value: str, arm: str
) -> tuple[Estimate, Answer]:
    brief = setting.brief
    comparison = compare(
        units,
        arm,
        brief.control,
        clustered=setting.clustered,
        adjusted=True,
        level=setting.level,
        segment=(f"{SEGMENT}{name}", value),
    )
    row = estimate_row(setting, units, "primary", arm, comparison, segment=name, segment_value=value)
    if min(row.n_control, row.n_treatment) >= brief.minimum_cell:
        return row, comparison.effect
    reason = f"fewer than {brief.minimum_cell} units in an arm: not estimated"
    bare = Estimate(
        **{field: getattr(row, field) for field in _IDENTITY},
        n_control=row.n_control,
        n_treatment=row.n_treatment,
        estimable=False,
        reason=reason,
    )
    return bare, NotEstimable("segment", reason, row.n_control, row.n_treatment)


def _reason(minimum: int) -> str:
    return f"withheld: fewer than {minimum} units in an arm, or it would give such a cell away"


def _withheld(row: Estimate, minimum: int) -> Estimate:
    return Estimate(
        **{field: getattr(row, field) for field in _IDENTITY},
        n_control=0,
        n_treatment=0,
        estimable=False,
        suppressed=True,
        reason=_reason(minimum),
    )


def _difference(one: SegmentHeterogeneity, *, withheld: bool) -> SegmentDifference:
    answer = one.answer
    flags = (*one.flags, *(("of the values that are shown only",) if withheld else ()))
    if isinstance(answer, NotEstimable):
        return SegmentDifference(segment=one.segment, arm=one.arm, reason=answer.reason, flags=flags)
    return SegmentDifference(
        segment=one.segment,
        arm=one.arm,
        p_value=answer.interaction.p_value,
        opposite_p_value=answer.qualitative.p_value,
        spread=math.sqrt(answer.between.tau2),
        flags=(*flags, *answer.flags),
    )


def _shrunken(
    one: SegmentHeterogeneity, rows: Sequence[Estimate], minimum: int
) -> tuple[ShrunkenEffect, ...]:
    found = []
    answer = one.answer
    groups = {group.name: group for group in answer.groups} if isinstance(answer, Heterogeneity) else {}
    for row in rows:
        value = row.segment_value or ""
        base = ShrunkenEffect(segment=one.segment, value=value, arm=one.arm)
        group = groups.get(value)
        if row.suppressed:
            update: Mapping[str, object] = {
                "suppressed": True, "estimable": False, "reason": _reason(minimum),
            }  # fmt: skip
        elif group is None:
            counts = {"n_control": row.n_control, "n_treatment": row.n_treatment, "estimable": False}
            why = answer.reason if isinstance(answer, NotEstimable) and row.estimable else row.reason
            raw = {"raw": row.absolute, "raw_lower": row.ci_lower, "raw_upper": row.ci_upper}
            update = {**counts, **raw, "reason": why or _left_out(answer, value)}
        else:
            update = {
                "n_control": group.n_control,
                "n_treatment": group.n_treatment,
                "raw": group.absolute,
                "raw_lower": group.ci_lower,
                "raw_upper": group.ci_upper,
                "best_rank": group.rank_best,
                "worst_rank": group.rank_worst,
            }
            if group.shrunken is not None:
                update = {
                    **update,
                    "shrunken": group.shrunken.absolute,
                    "shrunken_lower": group.shrunken.ci_lower,
                    "shrunken_upper": group.shrunken.ci_upper,
                    "own_weight": group.shrunken.own_weight,
                }
            else:
                update = {**update, "estimable": False, "reason": _too_few(answer)}
        found.append(base.model_copy(update=update))
    return tuple(found)


def _left_out(answer: Heterogeneity | NotEstimable, value: str) -> str:
    return dict(answer.left_out).get(value, "") if isinstance(answer, Heterogeneity) else answer.reason


def _too_few(answer: Heterogeneity | NotEstimable) -> str:
    flags = answer.flags if isinstance(answer, Heterogeneity) else ()
    told = [flag.removeprefix("no shrunken effects: ") for flag in flags if flag.startswith("no shrunken")]
    return told[0] if told else "nothing is learnt from the others"
