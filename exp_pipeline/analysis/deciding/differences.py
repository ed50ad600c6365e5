"""What two readouts of one experiment differ in: facts, numbers, verdicts, and what follows from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from exp_pipeline.analysis.deciding.movement import movements
from exp_pipeline.model.base import Noun
from exp_pipeline.model.differences import (
    CountChange,
    FieldChange,
    OutcomeChange,
    ReadoutDifference,
    ReadoutIdentity,
    VerdictChange,
)
from exp_pipeline.model.readout import Estimate, InputChange, Outcome, Readout

# What names an entry of a list, in this order; an entry is known by those that it has.
_NAMES = (
    "name", "experiment", "metric", "role", "arm", "control", "segment", "segment_value", "window_days",
    "variant", "rule", "field", "kind", "reason", "family", "day", "week", "early_week", "rank", "at",
)  # fmt: skip


def difference_of(
    before: Readout,
    now: Readout,
    *,
    inputs: Sequence[InputChange],
    metrics: Sequence[FieldChange] = (),
) -> ReadoutDifference:
    """What do two readouts of one experiment differ in, and why?

    inputs, metrics: causes that the snapshots' records tell. Where either readout hides effects, nothing is
    said of primary and secondary ones, nor of rules, whose verdicts rest on them. Raises ValueError for
    readouts of different experiments.
    """
    if before.experiment != now.experiment:
        raise ValueError(
            f"two readouts of one experiment are compared; got {before.experiment!r} and {now.experiment!r}"
        )
    hidden = " ".join(
        f"Snapshot {one.provenance.snapshot}: {one.blinding_reason}" for one in (before, now) if one.blinded
    )
    appeared, vanished = _present(before, now, guardrails_only=bool(hidden))
    return ReadoutDifference(
        experiment=now.experiment,
        before=_identity(before),
        now=_identity(now),
        effects_hidden_because=hidden,
        inputs=tuple(inputs),
        brief=field_changes(_plain(before.brief), _plain(now.brief)),
        metrics=tuple(metrics),
        standing=_standing(before, now),
        counts=_counts(before, now),
        movements=movements(before, now, every_role=True),
        appeared=appeared,
        vanished=vanished,
        integrity=_integrity(before, now),
        guardrails=_guardrails(before, now),
        rules=() if hidden else _rules(before, now),
        outcomes=_outcomes(before, now),
        minimum_cell=max(before.brief.minimum_cell, now.brief.minimum_cell),
    )


def field_changes(before: JsonValue, now: JsonValue) -> tuple[FieldChange, ...]:
    """In which fields do two JSON values differ, and by which values? By path, in the order of the first.

    Entries of lists are known by what names them (metric, arm, day …) where that tells them apart, else by
    their place.
    """
    old, new = _leaves(before), _leaves(now)
    names = [*old, *(name for name in new if name not in old)]
    return tuple(
        FieldChange(field=name, before=old.get(name), now=new.get(name))
        for name in names
        if old.get(name) != new.get(name)
    )


def _leaves(value: JsonValue, path: str = "") -> dict[str, str]:
    if isinstance(value, dict) and value:
        found: dict[str, str] = {}
        for key, entry in value.items():
            found |= _leaves(entry, f"{path}.{key}" if path else key)
        return found
    if isinstance(value, list) and value:
        found = {}
        for label, entry in zip(_labels(value), value, strict=True):
            found |= _leaves(entry, f"{path}[{label}]")
        return found
    return {path: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}


def _labels(entries: Sequence[JsonValue]) -> list[str]:
    """What each entry of a list is called: by its names, or by its place where those are not its own."""
    places = [str(place) for place in range(len(entries))]
    if not all(isinstance(entry, dict) for entry in entries):
        return places
    named = [
        " ".join(
            str(entry[name]) for name in _NAMES if isinstance(entry, dict) and entry.get(name) is not None
        )
        for entry in entries
    ]
    return named if all(named) and len(set(named)) == len(named) else places


def _plain(noun: Noun) -> JsonValue:
    plain: JsonValue = noun.model_dump(mode="json")
    return plain


def _identity(readout: Readout) -> ReadoutIdentity:
    of = readout.provenance
    return ReadoutIdentity(
        snapshot=of.snapshot,
        as_of=readout.as_of,
        brief_digest=of.brief_digest,
        metrics_digest=of.metrics_digest,
        code_version=of.code_version,
        run_id=of.run_id,
        blinded=readout.blinded,
    )


def _standing(before: Readout, now: Readout) -> tuple[FieldChange, ...]:
    def told(one: Readout) -> dict[str, JsonValue]:
        return {
            "locked": one.lock.locked_digest is not None,
            "fields changed since the lock": ", ".join(change.field for change in one.lock.changes) or "none",
            "horizon reached": one.horizon_reached,
            "effects hidden": one.blinded,
            "unblinded because": one.unblinded_because or "no reason was recorded",
        }

    return field_changes(told(before), told(now))


def _counts(before: Readout, now: Readout) -> tuple[CountChange, ...]:
    old = {count.arm: count for count in before.counts}
    found = []
    for count in now.counts:
        was = old.get(count.arm)
        a = (was.assigned, was.analysed) if was is not None else (0, 0)
        if a != (count.assigned, count.analysed):
            found.append(
                CountChange(
                    arm=count.arm,
                    assigned_before=a[0],
                    assigned_now=count.assigned,
                    analysed_before=a[1],
                    analysed_now=count.analysed,
                )
            )
    return tuple(found)


def _present(
    before: Readout, now: Readout, *, guardrails_only: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    def names(readout: Readout) -> dict[tuple[str, str, str], str]:
        return {
            (one.metric, one.arm, one.role): f"{one.title}, {one.arm} ({one.role})"
            for one in _whole(readout.estimates)
            if one.role == "guardrail" or not guardrails_only
        }

    old, new = names(before), names(now)
    return (
        tuple(name for key, name in new.items() if key not in old),
        tuple(name for key, name in old.items() if key not in new),
    )


def _whole(estimates: Sequence[Estimate]) -> list[Estimate]:
    return [one for one in estimates if one.segment is None]


def _integrity(before: Readout, now: Readout) -> tuple[VerdictChange, ...]:
    old = {check.name: (check.title, None, check.verdict, "") for check in before.integrity}
    new = {check.name: (check.title, None, check.verdict, check.evidence) for check in now.integrity}
    return _verdicts(old, new)


def _guardrails(before: Readout, now: Readout) -> tuple[VerdictChange, ...]:
    old = {f"{one.metric}/{one.arm}": (one.title, one.arm, one.status, "") for one in before.guardrails}
    new = {f"{one.metric}/{one.arm}": (one.title, one.arm, one.status, one.reason) for one in now.guardrails}
    return _verdicts(old, new)


def _rules(before: Readout, now: Readout) -> tuple[VerdictChange, ...]:
    def verdicts(readout: Readout) -> dict[str, tuple[str, str | None, str, str]]:
        return {
            f"{rule.rule}/{arm.arm}": (rule.rule, arm.arm, rule.verdict, rule.evidence)
            for arm in readout.decision.arms
            for rule in arm.rules
        }

    return _verdicts(verdicts(before), verdicts(now))


def _verdicts(
    old: Mapping[str, tuple[str, str | None, str, str]], new: Mapping[str, tuple[str, str | None, str, str]]
) -> tuple[VerdictChange, ...]:
    found = []
    for key in [*new, *(key for key in old if key not in new)]:
        was, is_now = old.get(key), new.get(key)
        if (was and was[2]) == (is_now and is_now[2]):
            continue
        title, arm, _, evidence = is_now or was or ("", None, "", "")
        found.append(
            VerdictChange(
                name=key,
                title=title,
                arm=arm,
                before=was[2] if was else None,
                now=is_now[2] if is_now else None,
                evidence=evidence if is_now else "",
            )
        )
    return tuple(found)


def _by_arm(readout: Readout) -> dict[str | None, Outcome]:
    found: dict[str | None, Outcome] = {None: readout.decision.outcome}
    for arm in readout.decision.arms:
        found[arm.arm] = arm.outcome
    return found


def _outcomes(before: Readout, now: Readout) -> tuple[OutcomeChange, ...]:
    old, new = _by_arm(before), _by_arm(now)
    return tuple(
        OutcomeChange(arm=arm, before=old.get(arm), now=new.get(arm))
        for arm in [*new, *(arm for arm in old if arm not in new)]
        if old.get(arm) != new.get(arm)
    )
