"""A measured holdout in words: what everything that was shipped did together, for page, terminal and run."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from exp_pipeline.model.after import HoldoutMeasurement, HoldoutReading
from exp_pipeline.model.base import Noun
from exp_pipeline.report import numbers
from exp_pipeline.report.document import Text, Tone
from exp_pipeline.report.wording import listed

_DAY = timedelta(days=1)
_ALARM: tuple[str, Tone] = ("worse", "bad")
_SAYS: dict[str, tuple[str, Tone]] = {
    "better": ("better", "good"),
    "worse": ("worse, may be chance", "warn"),
    "no_clear_difference": ("no clear difference", "calm"),
    "cannot_tell": ("cannot tell", "calm"),
}


class HoldoutLine(Noun):
    """One metric over one stretch as it is read; the effect is that of everything that was shipped."""

    title: Text
    days: Text
    held_out: Text
    served: Text
    effect: Text
    interval: Text
    relative: Text
    learners: Text
    label: Text
    tone: Tone
    reason: Text


def holdout_line(row: HoldoutReading) -> HoldoutLine:
    """How does the line of one metric and stretch read?"""
    told = row.effect is not None and row.ci_lower is not None and row.ci_upper is not None
    width = row.ci_upper - row.ci_lower if row.ci_lower is not None and row.ci_upper is not None else None
    decimals = numbers.decimals_for(row.display, width, row.held_out, row.served)
    label, tone = _ALARM if row.alarm else _SAYS[row.says]
    days = f"last {(row.end - row.first).days} days" if row.window == "four_weeks" else f"since {row.first}"
    learners = f"{numbers.count(row.n_held_out)} against {numbers.count(row.n_served)}"
    if row.clusters_held_out is not None and row.clusters_served is not None:
        learners += f", {row.clusters_held_out:,} and {row.clusters_served:,} classes"
    return HoldoutLine(
        title=row.title,
        days=days,
        held_out=numbers.level(row.held_out, row.display, decimals) if told else "",
        served=numbers.level(row.served, row.display, decimals) if told else "",
        effect=numbers.change(row.effect, row.display, decimals) if told else "",
        interval=numbers.interval(row.ci_lower, row.ci_upper, row.display, decimals) if told else "",
        relative=numbers.relative(row.relative) if told and row.relative is not None else "",
        learners=learners if told else "",
        label=label,
        tone=tone,
        reason=row.reason or row.note,
    )


def reading_told(row: HoldoutReading) -> str:
    """One reading in a sentence: what learners who were served did more or less than those held out."""
    line = holdout_line(row)
    days = f"{row.first} to {row.end - _DAY}"
    if not line.effect:
        return f"{days}: {row.title} cannot be told: {row.reason}"
    says = {"better": "to the better", "worse": "to the worse"}.get(row.says, "which may be chance")
    return f"{days}: {row.title} {line.effect} ({line.interval}) against learners held out, {says}"


def holdout_facts(one: HoldoutMeasurement) -> list[str]:
    """What must be known beside the numbers: who is held out, who met an experiment, what shipped."""
    if one.reason:
        return [f"Not measured: {one.reason}."]
    facts = []
    units = "classes" if one.unit == "class" else "learners"
    if one.share is not None:
        both = one.share.held_out + one.share.served
        said = f"{numbers.count(one.share.held_out)} of {numbers.count(both)} {units} are held out"
        said += f" ({numbers.percent(one.share.found, 2)}, declared {numbers.percent(one.share.declared, 2)})"
        wrong = "; that is not what was declared" if one.share.verdict == "fail" else ""
        facts.append(f"{said}{wrong}.")
        if one.share.unplaced:
            unplaced = numbers.count(one.share.unplaced)
            facts.append(
                f"{unplaced} {units} have no bucket and count on neither side: their files landed before the "
                "holdout was declared (exp catch-up lands them again)."
            )
    if one.without_class:
        facts.append(
            f"{numbers.count(one.without_class)} learners are in no class and count on neither side."
        )
    if one.contaminated:
        met = listed(
            [
                f"{row.experiment} {numbers.count(row.learners)}{' on purpose' if row.exempt else ''}"
                for row in one.met
            ]
        )
        facts.append(
            f"{numbers.count(one.contaminated)} learners who are held out met an experiment all the same "
            f"({met}); they count as held out, so the true effect is rather farther from 0."
        )
    else:
        facts.append("Nobody who is held out met an experiment.")
    facts.append(_shipped(one))
    if not one.since_declared:
        facts.append(
            f"The holdout's file does not say since when; {one.since} is its first day with buckets."
        )
    return facts


def _shipped(one: HoldoutMeasurement) -> str:
    if not one.shipped:
        return f"Nothing was decided to ship from {one.since} to {one.end - _DAY}."
    named = []
    for row in one.shipped:
        said = f"{row.experiment} ({row.at:%Y-%m-%d}"
        said += f", taken back {row.undone:%Y-%m-%d}" if row.undone is not None else ""
        named.append(f"{said}{', to held-out learners too' if row.exempt else ''})")
    return f"Decided to ship from {one.since} to {one.end - _DAY}: {listed(named)}."


def holdout_table(measured: Iterable[HoldoutMeasurement]) -> str:
    """Every measured holdout as Markdown: its facts, then a row a metric and stretch."""
    parts = []
    for one in measured:
        lines = [f"**{one.title}**, {one.week}", "", *(f"- {fact}" for fact in holdout_facts(one))]
        if one.readings:
            lines += ["", "| metric | days | effect | 95 % interval | learners | says |"]
            lines += ["|---|---|---:|---:|---|---|"]
        for row in map(holdout_line, one.readings):
            says = f"{row.label}: {row.reason}" if row.reason and not row.effect else row.label
            cells = (row.title, row.days, row.effect, row.interval, row.learners, says)
            lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
