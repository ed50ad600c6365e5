"""The equity rule: no declared segment below its floor, and which segments may be shipped to alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exp_pipeline.analysis.deciding.blinding import Blinding
from exp_pipeline.analysis.deciding.primary import threshold_of
from exp_pipeline.analysis.deciding.rules import Question, Step, gain_of
from exp_pipeline.analysis.wording import difference_in_words, interval_in_words, listed
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.brief import Effect as Size
from exp_pipeline.model.readout import Estimate, SegmentValue
from exp_pipeline.stats.reference import two_sided_critical


@dataclass(frozen=True, slots=True)
class _Judged:
    """Segment values by how they stand against the floor of their column.

    open: at or above it by estimate, but not by the whole interval where the brief asks that.
    """

    below: tuple[Estimate, ...]
    open: tuple[Estimate, ...]
    unknown: tuple[str, ...]
    fine: tuple[Estimate, ...]


def equity_step(brief: Brief, segments: Sequence[Estimate], blinding: Blinding) -> Step:
    """Is every declared segment at or above its floor? segments: the primary's rows of one arm.

    Where one is not, the brief may let the others be shipped to alone. Which those are is then seen in the
    data, and paid for: each needs a gain by its interval corrected (Holm) over all declared segments. Only
    where one column has all that is below, and effects were not looked at before.
    """
    rule = brief.decision.equity
    by = "its whole interval" if rule.by == "interval" else "its estimate"
    question = Question("Equity", f"Is every declared segment at or above its floor by {by}?")
    floors = {segment.column: segment.floor for segment in brief.segments if segment.floor is not None}
    if not floors:
        return question.passes("the brief declares no floor")
    judged = _judged(brief, floors, segments, blinding)
    if judged.below:
        return _below(question, brief, judged, segments, blinding)
    seen = {row.segment for row in (*judged.open, *judged.fine)}
    unseen = [column for column in floors if column not in seen]
    if unseen:
        because = f"A floor is declared for {listed(unseen)}, and no segment of it could be estimated."
        return question.forces("extend", because, because, verdict="cannot_tell")
    if judged.open:
        names = listed(_named(row) for row in judged.open)
        because = f"Not every segment is shown to be at or above its floor: {names}."
        return question.forces("extend", f"not shown: {names}", because, verdict="cannot_tell")
    evidence = f"{len(judged.fine)} segments at or above their floor"
    if not judged.unknown:
        return question.passes(evidence)
    evidence += f"; too small to tell: {listed(judged.unknown)}"
    if rule.unknown == "extend":
        because = f"Some segments are too small to tell: {listed(judged.unknown)}."
        return question.forces("extend", evidence, because, verdict="cannot_tell")
    return question.passes(evidence, "warn")


def _judged(
    brief: Brief, floors: Mapping[str, Size | None], segments: Sequence[Estimate], blinding: Blinding
) -> _Judged:
    below: list[Estimate] = []
    open_ones: list[Estimate] = []
    unknown: list[str] = []
    fine: list[Estimate] = []
    for row in segments:
        floor = floors.get(row.segment or "")
        if floor is None:
            continue
        limit = floor.absolute if floor.absolute is not None else floor.relative
        gain = gain_of(row, row.absolute if floor.absolute is not None else row.relative)
        if gain is None or limit is None:
            unknown.append(_named(row))
        elif gain < limit:
            below.append(row)
        elif brief.decision.equity.by == "point":
            fine.append(row)
        else:
            least = _least(row, floor, blinding)
            (fine if least is not None and least >= limit else open_ones).append(row)
    return _Judged(tuple(below), tuple(open_ones), tuple(unknown), tuple(fine))


def _least(row: Estimate, floor: Size, blinding: Blinding) -> float | None:
    """The lower end of a segment's gain, by an interval that holds at this look."""
    bounds = (row.ci_lower, row.ci_upper)
    if floor.absolute is None:
        bounds = (None, None) if blinding.many_looks else (row.relative_ci_lower, row.relative_ci_upper)
    elif blinding.many_looks:
        bounds = (row.always_valid_lower, row.always_valid_upper)
    gains = [gain for bound in bounds if (gain := gain_of(row, bound)) is not None]
    return min(gains) if len(gains) == 2 else None


def _below(
    question: Question, brief: Brief, judged: _Judged, segments: Sequence[Estimate], blinding: Blinding
) -> Step:
    names = listed(f"{_named(row)} ({_size_in_words(row)})" for row in judged.below)
    evidence = f"below the floor: {names}"
    columns = sorted({row.segment or "" for row in judged.below})
    if not brief.decision.equity.scoped_shipping:
        return question.forces("iterate", evidence, f"The gain is not shared: {evidence}.")
    if blinding.many_looks:
        why = "segments are not chosen where effects may have been seen before"
    elif len(columns) > 1:
        why = f"segments of more than one column are below ({listed(columns)}), and they overlap"
    elif any(row.segment != columns[0] for row in judged.open):
        why = "segments of another column are not shown to be at their floor"
    else:
        chosen = [row for row in judged.fine if row.segment == columns[0] and _pays(brief, row)]
        if chosen:
            shown = listed(_corrected_in_words(brief, row) for row in chosen)
            because = (
                f"Ship to {listed(_named(row) for row in chosen)} only: {shown}. {evidence.capitalize()}."
            )
            places = tuple(
                SegmentValue(column=row.segment or "", value=row.segment_value or "") for row in chosen
            )
            return question.forces("ship_scoped", f"{evidence}; gains: {shown}", because, segments=places)
        why = f"no other segment shows a gain once corrected for {len(segments)} that were declared"
    return question.forces("iterate", evidence, f"The gain is not shared: {evidence}; {why}.")


def _pays(brief: Brief, row: Estimate) -> bool:
    """Does a segment show the gain that the primary was asked for, corrected for having been chosen?"""
    ends = _corrected(brief, row)
    gain = gain_of(row, row.absolute)
    if ends is None or gain is None or row.p_adjusted is None:
        return False
    least = min(end for bound in ends if (end := gain_of(row, bound)) is not None)
    if row.p_adjusted >= brief.alpha or least <= 0.0:
        return False
    rule = brief.decision.primary
    if rule.must_beat == "zero":
        return True
    threshold = threshold_of(brief, row)
    return threshold is not None and (gain if rule.by == "point" else least) >= threshold


def _corrected(brief: Brief, row: Estimate) -> tuple[float, float] | None:
    """A segment's interval at the level that Holm's correction left to it: alpha over p adjusted / p.

    The interval's own arms are stretched by the ratio of critical values, so that one that is lopsided stays
    so.
    """
    if (
        row.absolute is None or row.ci_lower is None or row.ci_upper is None
        or row.p_value is None or row.p_adjusted is None or row.df is None
    ):  # fmt: skip
        return None
    # A p-value of 0 has lost its digits; then its adjusted one says nothing of the correction.
    shared = row.p_adjusted / row.p_value if row.p_value > 0.0 else 1.0
    level = 1.0 - brief.alpha / max(shared, 1.0)
    stretch = two_sided_critical(level, row.df) / two_sided_critical(row.level, row.df)
    return (
        row.absolute - stretch * (row.absolute - row.ci_lower),
        row.absolute + stretch * (row.ci_upper - row.absolute),
    )


def _corrected_in_words(brief: Brief, row: Estimate) -> str:
    if row.suppressed:
        return f"{_named(row)} (how much is withheld)"
    lower, upper = _corrected(brief, row) or (None, None)
    gain = difference_in_words(row.absolute, row.display)
    return f"{_named(row)} {gain}, corrected interval {interval_in_words(lower, upper, row.display)}"


def _size_in_words(row: Estimate) -> str:
    """A value that gives a small neighbour away is judged, but its numbers are not told."""
    return "by how much is withheld" if row.suppressed else difference_in_words(row.absolute, row.display)


def _named(row: Estimate) -> str:
    return f"{row.segment} {row.segment_value}"
