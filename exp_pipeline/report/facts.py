"""What does a memo say? A readout turned into the one document that every form prints."""

from __future__ import annotations

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import Estimate, Impact, Readout, SegmentDifference
from exp_pipeline.report import effecttables, numbers, tables
from exp_pipeline.report.cells import NONE
from exp_pipeline.report.changes import since_last_table
from exp_pipeline.report.document import (
    ArmVerdict,
    BlindingView,
    Cell,
    DecisionView,
    Effect,
    Figure,
    GuardrailView,
    ImpactView,
    MemoDocument,
    Table,
    Tone,
)
from exp_pipeline.report.effects import effect_decimals, effect_view, guardrail_view
from exp_pipeline.report.numbers import Display
from exp_pipeline.report.screening import Screen, screen, without_hidden_effects
from exp_pipeline.report.wording import OUTCOMES, listed, outcome_sentence, quoted

# Below this p-value a segment's values are said to differ.
_DIFFERS = 0.05


def memo_document(readout: Readout) -> MemoDocument:
    """Every fact of the memo, formatted once; what is blinded or too small to show is not in it."""
    shield = screen(readout)
    shown = without_hidden_effects(readout)
    brief = readout.brief
    primary_rows = [e for e in shown.estimates if e.role == "primary" and e.segment is None]
    display = _primary_display(shown, brief)
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
    first_page = {
        "secondary": effecttables.secondary_table(secondary),
        "segments": effecttables.segments_table(segments, _floors(brief, display, control)),
        "ramp": tables.ramp_table(brief),
    }
    appendix = _appendix(shown, shield, display, decimals)
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
        primary=primary,
        secondary=secondary,
        segments=segments,
        segment_notes=tuple(_segment_note(one) for one in shown.segment_differences),
        guardrails=guardrails,
        impact=tuple(_impact(row) for row in shown.impact),
        limits=readout.limits,
        next_steps=readout.next_steps,
        rollback_triggers=_rollback_triggers(guardrails),
        integrity_summary=summary,
        integrity_tone=tone,
        first_page=first_page,
        appendix=appendix,
        figures=_figures(readout, primary, guardrails, by_key, first_page, shield),
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


def _appendix(shown: Readout, shield: Screen, display: Display, decimals: int) -> tuple[Table, ...]:
    main = tuple(effect_view(e, shield, decimals if e.role == "primary" else None) for e in shown.estimates)
    raw = tuple(effect_view(e, shield, decimals if e.role == "primary" else None) for e in shown.unadjusted)
    guardrails = [guardrail_view(g, shown, shield) for g in shown.guardrails]
    arms = [arm.name for arm in shown.brief.arms]
    out = [
        tables.rules_table(shown.decision.arms),
        tables.integrity_table(shown.integrity),
        tables.arms_table(shown.counts, shield),
        tables.sample_ratio_table(shown.sample_ratio, arms, shield),
    ]
    if not shield.hidden_because:
        out.append(effecttables.cumulative_table(shown.cumulative, display, decimals, shield))
    if shown.novelty:
        out.append(effecttables.novelty_table(shown.novelty, display, decimals, shield))
        out.append(effecttables.novelty_contrast_table(shown.novelty_contrasts, display, decimals, shield))
    out.append(effecttables.effects_table("estimates", "All estimates", main))
    if raw:
        out.append(effecttables.effects_table("unadjusted", "Estimates without covariates", raw))
    out.append(effecttables.guardrails_table(guardrails))
    if not shield.hidden_because:
        out.append(effecttables.robustness_table(shown.robustness, display, decimals, shield))
    if shown.since_last is not None:
        out.append(since_last_table(shown.since_last, shield))
    out += [
        tables.power_table(shown.power, display, shield),
        tables.exclusions_table(shown.exclusions),
        tables.lock_table(shown.lock),
        tables.provenance_table(shown.provenance, shown.lock),
    ]
    return tuple(out)


def _figures(
    readout: Readout,
    primary: tuple[Effect, ...],
    guardrails: tuple[GuardrailView, ...],
    by_key: dict[str, Table],
    first_page: dict[str, Table],
    shield: Screen,
) -> dict[str, Figure]:
    figures = {}
    if primary:
        said = "; ".join(f"{e.arm}: {e.sentence}" for e in primary)
        figures["forest"] = Figure(
            key="forest",
            title=f"{primary[0].title}: effect against control",
            description=f"Point and interval for each arm. {said}.",
            table=effecttables.primary_table(primary),
        )
        if first_page["segments"].rows:
            figures["segments"] = Figure(
                key="segments",
                title=f"{primary[0].title}: effect by segment",
                description="Point and interval for each declared segment value, beside its floor.",
                table=first_page["segments"],
            )
    if guardrails:
        said = "; ".join(f"{g.title}, {g.arm}: {g.sentence}, {g.label.lower()}" for g in guardrails)
        figures["guardrails"] = Figure(
            key="guardrails",
            title="Guardrails: harm as a part of its margin",
            description=f"The dot is the harm, the line runs to its one-sided bound. {said}.",
            table=by_key["guardrails"],
        )
    if readout.sample_ratio:
        last = readout.sample_ratio[-1]
        few = shield.small(*last.counts.values())
        p = "not shown, a cell is small" if few else numbers.p_value(last.p_value)
        alpha = numbers.plain(readout.brief.srm_alpha)
        figures["sample_ratio"] = Figure(
            key="sample_ratio",
            title="Split of units by day, and the p-value of a sample-ratio mismatch",
            description=f"At the end of {last.day.isoformat()} p is {p}; "
            f"below {alpha} the split does not fit the plan.",
            table=by_key["sample_ratio"],
        )
    if "cumulative" in by_key and by_key["cumulative"].rows:
        banded = any(point.always_valid_lower is not None for point in readout.cumulative)
        figures["cumulative"] = Figure(
            key="cumulative",
            title="Primary effect on all data up to each day",
            description="The line is the effect, the shaded band its interval"
            + (", the dashed lines the band that stays valid however often one looks." if banded else "."),
            table=by_key["cumulative"],
        )
    if "novelty" in by_key and any(
        "absolute" in row and row["absolute"].value is not None for row in by_key["novelty"].rows
    ):
        figures["novelty"] = Figure(
            key="novelty",
            title="Primary effect by week since assignment",
            description="Point and interval for each week; week 0 is the first. An effect that wears off "
            "draws nearer to zero.",
            table=by_key["novelty"],
        )
    return figures


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
            )
            for arm in decision.arms
        ),
    )


def _segment_note(one: SegmentDifference) -> str:
    """Whether an arm's effect differs over a segment, in a sentence."""
    who = f"{one.segment}, {one.arm}"
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
    return ImpactView(arm=row.arm, sentence=sentence, value=value, assumptions=row.assumptions)


def _floors(brief: Brief, display: Display, control: float | None) -> dict[str, Cell]:
    floors = {}
    for segment in brief.segments:
        if segment.floor is None:
            continue
        if segment.floor.absolute is not None:
            value = segment.floor.absolute
            text = numbers.change(value, display, numbers.exact_decimals(display, value))
            floors[segment.column] = Cell(text=text, value=value)
        elif segment.floor.relative is not None:
            value = segment.floor.relative
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


def _primary_display(readout: Readout, brief: Brief) -> Display:
    rows: list[Estimate] = [e for e in readout.estimates if e.role == "primary"]
    if rows:
        return rows[0].display
    mapped = brief.table.metrics.get(brief.primary) if brief.table else None
    return mapped.display if mapped else "number"


def _times(share: float | None, control: float | None) -> float | None:
    return None if share is None or control is None else share * abs(control)
