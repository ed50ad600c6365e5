"""What does a memo say? A readout turned into the one document that every form prints."""

from __future__ import annotations

from collections.abc import Sequence

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.ramps import RampEntry
from exp_pipeline.model.readout import Impact, Readout, SegmentDifference
from exp_pipeline.report import effecttables, numbers
from exp_pipeline.report.appendix import appendix_tables, titles_of
from exp_pipeline.report.cells import NONE
from exp_pipeline.report.document import (
    ArmVerdict,
    BlindingView,
    Cell,
    DecisionView,
    Effect,
    GuardrailView,
    ImpactView,
    MemoDocument,
    Tone,
)
from exp_pipeline.report.effects import effect_decimals, effect_view, guardrail_view
from exp_pipeline.report.figures import memo_figures
from exp_pipeline.report.glance import glance_of
from exp_pipeline.report.numbers import Display
from exp_pipeline.report.ramps import ramp_table
from exp_pipeline.report.screening import Screen, screen, without_hidden_effects
from exp_pipeline.report.wording import OUTCOMES, listed, outcome_sentence, quoted
from exp_pipeline.report.wordscreen import safe_words

# Below this p-value a segment's values are said to differ.
_DIFFERS = 0.05


def memo_document(readout: Readout, transitions: Sequence[RampEntry] = ()) -> MemoDocument:
    """Every fact of the memo, formatted once; what is blinded or too small to show is not in it.

    `transitions` are the experiment's own entries of the ramp log, where there are any.
    """
    shield = screen(readout)
    readout = safe_words(readout, shield)
    shown = without_hidden_effects(readout)
    brief = readout.brief
    primary_rows = [e for e in shown.estimates if e.role == "primary" and e.segment is None]
    display = primary_display(shown)
    decimals = max((effect_decimals(e) for e in primary_rows), default=numbers.decimals_for(display, None))
    primary = tuple(effect_view(e, shield, decimals) for e in primary_rows)
    secondary = tuple(
        effect_view(e, shield) for e in shown.estimates if e.role == "secondary" and e.segment is None
    )
    segments = tuple(
        effect_view(e, shield, decimals if e.role == "primary" else None) for e in shown.segments
    )
    views = [guardrail_view(g, readout, shield) for g in readout.guardrails]
    guardrails = tuple(sorted(views, key=lambda view: ("bad", "warn", "calm", "good").index(view.tone)))
    control = next((e.mean_control for e in primary_rows if e.mean_control is not None), None)
    up = next((e.direction == "increase" for e in primary_rows), True)
    first_page = {
        "secondary": effecttables.secondary_table(secondary),
        "segments": effecttables.segments_table(
            segments, _floors(brief, display, control, up), shown.shrunken, display, decimals, shield
        ),
        "ramp": ramp_table(brief, transitions),
    }
    appendix = appendix_tables(shown, shield, display, decimals)
    by_key = {table.key: table for table in appendix}
    summary, tone = _integrity_summary(readout)
    return MemoDocument(
        experiment=readout.experiment,
        title=brief.title,
        as_of=readout.as_of,
        start=brief.start,
        end=brief.end,
        horizon_reached=readout.horizon_reached,
        owner=brief.owner,
        on_call=brief.on_call,
        risk_class=brief.risk_class,
        minimum_cell=brief.minimum_cell,
        hypothesis=brief.hypothesis.sentence(),
        headline=_headline(primary, shield),
        decision=_decision(readout),
        blinding=_blinding(readout, shield),
        method=readout.method,
        method_line=_method_line(brief),
        glance=glance_of(shown, shield, primary, guardrails, first_page["segments"], (summary, tone)),
        primary=primary,
        secondary=secondary,
        segments=segments,
        segment_notes=tuple(_segment_note(one) for one in shown.segment_differences),
        guardrails=guardrails,
        impact=tuple(_impact(row) for row in shown.impact),
        limits=readout.limits,
        next_steps=readout.next_steps,
        monitoring=_monitoring(brief, titles_of(readout)),
        rollback_triggers=_rollback_triggers(guardrails),
        integrity_summary=summary,
        integrity_tone=tone,
        first_page=first_page,
        appendix=appendix,
        figures=memo_figures(readout, primary, guardrails, by_key, first_page, shield),
        snapshot=readout.provenance.snapshot,
        run_id=readout.provenance.run_id,
    )


def threshold_value(readout: Readout) -> float | None:
    """The practical threshold on the absolute scale, in the direction that counts as better."""
    rows = [e for e in readout.estimates if e.role == "primary" and e.segment is None]
    effect = readout.brief.practical_threshold
    if effect is None or not rows:
        return None
    control = next((e.mean_control for e in rows if e.mean_control is not None), None)
    size = effect.absolute if effect.absolute is not None else _times(effect.relative, control)
    if size is None:
        return None
    return abs(size) if rows[0].direction == "increase" else -abs(size)


def _headline(primary: tuple[Effect, ...], shield: Screen) -> str:
    if shield.hidden_because:
        return "Effects are hidden."
    if not primary:
        return "There is no estimate of the primary metric."
    if len(primary) == 1:
        return f"{primary[0].sentence}."
    return " ".join(f"{effect.arm}: {effect.sentence}." for effect in primary)


def _decision(readout: Readout) -> DecisionView:
    decision, brief = readout.decision, readout.brief
    label, tone, _ = OUTCOMES[decision.outcome]
    arms = [quoted(arm.name) for arm in brief.treatments()]
    return DecisionView(
        outcome=decision.outcome,
        label=label,
        tone=tone,
        arm=decision.arm,
        sentence=decision.summary or outcome_sentence(decision.outcome, decision.arm, brief),
        asked=brief.decision_asked or f"Shall {listed(arms)} replace {quoted(brief.control)}?",
        owner=brief.owner,
        arms=tuple(
            ArmVerdict(
                arm=arm.arm,
                outcome=arm.outcome,
                label=OUTCOMES[arm.outcome][0],
                tone=OUTCOMES[arm.outcome][1],
                because=arm.because or outcome_sentence(arm.outcome, arm.arm, brief),
                decided_by=arm.decided_by,
            )
            for arm in decision.arms
        ),
        choice=decision.choice,
    )


def _method_line(brief: Brief) -> str:
    """How was it found, in a sentence that anybody can read?"""
    who = {"learner": "Learners", "class": "Whole classes"}[brief.randomisation_unit]
    arms = listed([f"{quoted(arm.name)} ({numbers.round_percent(arm.share)})" for arm in brief.arms])
    sure = numbers.decimal(100 * (1 - brief.alpha), 0)
    return (
        f"{who} were put into {arms} by lot, and everyone counts in the arm drawn first, whether or not they "
        f"used it; intervals hold in {sure} of 100 such experiments."
    )


def _monitoring(brief: Brief, titles: dict[str, str]) -> tuple[str, ...]:
    """What is watched while more and more get it?"""
    watched = [titles.get(guardrail.metric, guardrail.metric) for guardrail in brief.guardrails]
    counters = [titles.get(metric, metric) for metric in brief.counter_metrics]
    found = []
    if watched:
        found.append(f"Every day, against its margin: {listed(watched)}.")
    if counters:
        found.append(f"For signs that the primary is being gamed: {listed(counters)}.")
    found.append("The split of units, the logged arms and the arrival of events, every day.")
    return tuple(found)


def _segment_note(one: SegmentDifference) -> str:
    """Whether an arm's effect differs over a segment, in a sentence."""
    who = f"{one.segment.replace('_', ' ').capitalize()}, {one.arm}"
    if one.p_value is None:
        return f"{who}: whether the effect differs cannot be told: {one.reason}."
    p = f"p {numbers.p_value(one.p_value)}"
    if one.p_value >= _DIFFERS:
        return f"{who}: no sign that the effect differs between the values ({p} for all together)."
    both_ways = one.opposite_p_value is not None and one.opposite_p_value < _DIFFERS
    end = "; it helps some and harms others" if both_ways else ""
    return f"{who}: the effect differs between the values ({p} for all together){end}."


def _blinding(readout: Readout, shield: Screen) -> BlindingView:
    brief = readout.brief
    to_come = sorted(day for day in (*brief.looks, brief.end) if day > readout.as_of)
    look = to_come[0] if to_come else None
    sentence = ""
    if shield.hidden_because:
        if look is None:
            sentence = "No planned look is left: effects are shown once the failed checks are mended."
        elif look == brief.end:
            sentence = f"The next look is at the planned end, {look.isoformat()}."
        else:
            number = sorted(brief.looks).index(look) + 1
            sentence = (
                f"The next look is planned for {look.isoformat()} (look {number} of {len(brief.looks)})."
            )
    return BlindingView(
        hidden=bool(shield.hidden_because),
        reason=shield.hidden_because,
        next_look=look if shield.hidden_because else None,
        next_look_sentence=sentence,
        unblinded_because=_unblinded(readout),
    )


def _unblinded(readout: Readout) -> str:
    """Every record of a look before its time: when, which team, why."""
    if not readout.unblindings:
        return readout.unblinded_because
    told = (
        f"{one.at:%Y-%m-%d}, {one.by or 'team not recorded'}: {one.reason}" for one in readout.unblindings
    )
    return " · ".join(told)


def _impact(row: Impact) -> ImpactView:
    value = NONE
    sentence = f"{row.arm}: not estimable"
    if row.value is not None:
        text = numbers.money(row.value, row.currency, signed=True)
        value = Cell(text=text, value=row.value, lower=row.value_lower, upper=row.value_upper)
        sentence = f"{row.arm}: {text}"
        if row.value_lower is not None and row.value_upper is not None:
            low, high = (
                numbers.money(row.value_lower, row.currency),
                numbers.money(row.value_upper, row.currency),
            )
            sentence += f" (interval {low} to {high})"
    return ImpactView(
        arm=row.arm,
        sentence=sentence,
        value=value,
        assumptions=row.assumptions,
        details=_impact_details(row),
    )


def _impact_details(row: Impact) -> tuple[str, ...]:
    found = []
    if row.probability_positive is not None:
        found.append(f"Chance that shipping pays: {numbers.chance(row.probability_positive)}.")
    if row.cost_per_outcome is not None and (row.outcomes is None or row.outcomes > 0):
        verb = "costs" if row.cost_per_outcome >= 0 else "saves"
        sum_of = numbers.money(abs(row.cost_per_outcome), row.currency)
        found.append(f"One more outcome {verb} about {sum_of}.")
    return tuple(found)


def _floors(brief: Brief, display: Display, control: float | None, up: bool) -> dict[str, Cell]:
    """The floor of each segment column on the scale of the effect, whichever way the metric counts."""
    floors = {}
    way = 1.0 if up else -1.0
    for segment in brief.segments:
        if segment.floor is None:
            continue
        if segment.floor.absolute is not None:
            value = way * segment.floor.absolute
            text = numbers.change(value, display, numbers.exact_decimals(display, value))
            floors[segment.column] = Cell(text=text, value=value)
        elif segment.floor.relative is not None:
            value = way * segment.floor.relative
            text = f"{numbers.relative(value, numbers.exact_decimals('share', value))} of control"
            floors[segment.column] = Cell(text=text, value=_times(value, control))
    return floors


def _rollback_triggers(guardrails: tuple[GuardrailView, ...]) -> tuple[str, ...]:
    seen: dict[str, str] = {}
    for view in guardrails:
        if view.kill != "none":
            action = view.kill.removesuffix(" (triggered)")
            seen[view.metric] = f"{view.title} worse by more than {view.margin.text}: {action}."
    return tuple(seen.values())


def _integrity_summary(readout: Readout) -> tuple[str, Tone]:
    checks = readout.integrity
    if not checks:
        return "No integrity check was run.", "warn"
    if all(check.verdict == "pass" for check in checks):
        return f"All {len(checks)} integrity checks passed.", "good"
    parts = []
    for verdict, said in (
        ("fail", "failed"),
        ("warn", "warned"),
        ("cannot_tell", "cannot tell"),
        ("pass", "passed"),
    ):
        named = [check.title for check in checks if check.verdict == verdict]
        if named:
            names = f" ({', '.join(named)})" if verdict in ("fail", "warn") else ""
            parts.append(f"{len(named)} {said}{names}")
    verdicts = {check.verdict for check in checks}
    tone: Tone = "bad" if "fail" in verdicts else "warn" if "warn" in verdicts else "good"
    return f"Integrity checks: {', '.join(parts)}.", tone


def primary_display(readout: Readout) -> Display:
    """In which unit is the primary metric written?"""
    brief = readout.brief
    known = next((e.display for e in readout.estimates if e.role == "primary"), None)
    if known is not None:
        return known
    mapped = brief.table.metrics.get(brief.primary) if brief.table else None
    return mapped.display if mapped else "number"


def _times(share: float | None, control: float | None) -> float | None:
    return None if share is None or control is None else share * abs(control)
