"""The line that says the whole in a few words: effect, guardrails, equity, value, integrity."""

from __future__ import annotations

from exp_pipeline.model.readout import Readout
from exp_pipeline.report import numbers
from exp_pipeline.report.document import Effect, Glance, GuardrailView, Table, Tone
from exp_pipeline.report.screening import Screen


def glance_of(
    shown: Readout,
    shield: Screen,
    primary: tuple[Effect, ...],
    guardrails: tuple[GuardrailView, ...],
    segments: Table,
    integrity: tuple[str, Tone],
) -> tuple[Glance, ...]:
    """What does somebody see who reads one line? `integrity` is the checks' summary and its tone."""
    found = [_primary(shown, shield, primary), _guardrails(guardrails)]
    found += _equity(shown, segments)
    found += _value(shown)
    found.append(_integrity(shown, integrity[1]))
    return tuple(found)


def _primary(shown: Readout, shield: Screen, primary: tuple[Effect, ...]) -> Glance:
    if shield.hidden_because:
        return Glance(key="primary", title="Primary effect", text="Hidden", tone="calm")
    named = [effect for effect in primary if effect.arm == shown.decision.arm and effect.shown]
    effect = next(iter(named or [one for one in primary if one.shown]), None)
    if effect is None:
        return Glance(key="primary", title="Primary effect", text="No estimate", tone="calm")
    tones: dict[bool | None, Tone] = {True: "good", False: "bad", None: "calm"}
    several = f"{effect.arm}: " if len(primary) > 1 else ""
    return Glance(
        key="primary",
        title=effect.title,
        text=effect.absolute.text,
        detail=f"{several}{effect.interval.text}",
        tone=tones[effect.favourable],
    )


def _guardrails(views: tuple[GuardrailView, ...]) -> Glance:
    if not views:
        return Glance(key="guardrails", title="Guardrails", text="None", tone="calm")
    held = sum(view.status == "pass" for view in views)
    breached = [view for view in views if view.status == "fail"]
    open_ones = len(views) - held - len(breached)
    parts = [f"{len(breached)} breached"] if breached else []
    parts += [f"{open_ones} not shown to hold"] if open_ones else []
    return Glance(
        key="guardrails",
        title="Guardrails",
        text=f"{held} of {len(views)} hold",
        detail=", ".join(parts),
        tone="bad" if breached else "warn" if open_ones else "good",
    )


def _equity(shown: Readout, segments: Table) -> list[Glance]:
    floors = [row for row in segments.rows if "floor" in row and row["floor"].value is not None]
    if not floors:
        return []
    up = next((e.direction == "increase" for e in shown.estimates if e.role == "primary"), True)
    # The column is left out where no segment has an estimate.
    told = [row for row in floors if "absolute" in row and row["absolute"].value is not None]
    below = sum(
        (float(row["absolute"].value or 0) < float(row["floor"].value or 0)) == up
        and row["absolute"].value != row["floor"].value
        for row in told
    )
    unknown = len(floors) - len(told)
    parts = [f"{below} below"] if below else []
    parts += [f"{unknown} not shown"] if unknown else []
    return [
        Glance(
            key="equity",
            title="Segments at or above their floor",
            text=f"{len(told) - below} of {len(floors)}",
            detail=", ".join(parts),
            tone="bad" if below else "warn" if unknown else "good",
        )
    ]


def _value(shown: Readout) -> list[Glance]:
    rows = [row for row in shown.impact if row.value is not None]
    row = next((row for row in rows if row.arm == shown.decision.arm), rows[0] if rows else None)
    if row is None or row.value is None:
        return []
    sure = row.probability_positive
    detail = f"{numbers.chance(sure)} sure that it pays" if sure is not None else ""
    if not detail and row.value_lower is not None and row.value_upper is not None:
        low, high = (numbers.money(end, row.currency) for end in (row.value_lower, row.value_upper))
        detail = f"{low} to {high}"
    surely = row.value_lower is not None and row.value_lower > 0
    return [
        Glance(
            key="value",
            title="Value at full rollout",
            text=numbers.money(row.value, row.currency, signed=True),
            detail=detail,
            tone="good" if surely else "bad" if row.value < 0 else "calm",
        )
    ]


def _integrity(shown: Readout, tone: Tone) -> Glance:
    checks = shown.integrity
    if not checks:
        return Glance(key="integrity", title="Integrity", text="Not checked", tone="warn")
    passed = sum(check.verdict == "pass" for check in checks)
    others = {"fail": "fail", "warn": "warn", "cannot_tell": "cannot tell"}
    parts = []
    for verdict, said in others.items():
        n = sum(check.verdict == verdict for check in checks)
        parts += [f"{n} {said}{'s' if n == 1 and verdict != 'cannot_tell' else ''}"] if n else []
    return Glance(
        key="integrity",
        title="Integrity checks",
        text=f"{passed} of {len(checks)} pass",
        detail=", ".join(parts),
        tone=tone,
    )
