"""What two readouts differ in, as tables: causes first, then numbers, then what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from exp_pipeline.model.differences import FieldChange, ReadoutDifference, ReadoutIdentity, VerdictChange
from exp_pipeline.model.readout import Outcome, SinceLast
from exp_pipeline.report.cells import NONE, words
from exp_pipeline.report.changes import since_last_table
from exp_pipeline.report.document import Cell, Column, Table
from exp_pipeline.report.markdown import escaped, inline
from exp_pipeline.report.screening import Screen
from exp_pipeline.report.wording import GUARDRAILS, OUTCOMES, VERDICTS

_VERDICTS: Mapping[str, str] = {key: label for key, (label, _) in VERDICTS.items()}
_STATUSES: Mapping[str, str] = {key: label for key, (label, _) in GUARDRAILS.items()}


def difference_headline(found: ReadoutDifference) -> str:
    """In one sentence: which readouts are compared, and whether anything differs."""
    pair = f"{found.experiment}: snapshot {found.before.snapshot} against {found.now.snapshot}"
    if found.nothing:
        return f"{pair}: nothing differs."
    changed = [one for one in found.outcomes if one.arm is None]
    if changed:
        return f"{pair}: the decision went from {_outcome(changed[0].before)} to {_outcome(changed[0].now)}."
    return f"{pair}: the decision is the same."


def difference_tables(found: ReadoutDifference) -> tuple[Table, ...]:
    """Every table of a comparison that has rows, in the order in which they are read."""
    screen = Screen(
        minimum=found.minimum_cell,
        hidden_because=found.effects_hidden_because,
        hidden_values=frozenset(),
    )
    since = SinceLast(
        snapshot=found.before.snapshot,
        as_of=found.before.as_of,
        inputs=found.inputs,
        movements=found.movements,
    )
    moved = since_last_table(since, screen).model_copy(
        update={"key": "causes", "title": "What changed and what moved"}
    )
    presence = [("only in the newer", name) for name in found.appeared]
    presence += [("only in the older", name) for name in found.vanished]
    tables = (
        _identities(found.before, found.now),
        moved,
        _fields("brief", "Fields of the brief", found.brief),
        _fields("metrics", "Definitions of metrics and measures", found.metrics),
        _fields("standing", "Lock, horizon and unblinding", found.standing),
        _units(found, screen),
        Table(
            key="presence",
            title="Estimates that one of them lacks",
            columns=(Column(key="where", title="Where"), Column(key="what", title="What")),
            rows=tuple({"where": words(where), "what": words(name)} for where, name in presence),
        ),
        _verdicts("integrity", "Integrity", found.integrity, _VERDICTS),
        _verdicts("guardrails", "Guardrails", found.guardrails, _STATUSES),
        _verdicts("rules", "Decision rules", found.rules, _VERDICTS),
        Table(
            key="outcomes",
            title="Decision",
            columns=(
                Column(key="arm", title="Arm"),
                Column(key="before", title="Before"),
                Column(key="now", title="Now"),
            ),
            rows=tuple(
                {
                    "arm": words(one.arm or "The experiment"),
                    "before": words(_outcome(one.before)),
                    "now": words(_outcome(one.now)),
                }
                for one in found.outcomes
            ),
        ),
    )
    return tuple(table for table in tables if table.rows)


def difference_markdown(found: ReadoutDifference) -> str:
    """A comparison for a pull request or a chat."""
    parts = [f"# {escaped(difference_headline(found))}"]
    if found.effects_hidden_because:
        parts.append(f"**Effects are hidden.** {escaped(found.effects_hidden_because)}")
    for table in difference_tables(found):
        parts += [f"## {escaped(table.title)}", _markdown(table)]
    return "\n\n".join(parts) + "\n"


def _markdown(table: Table) -> str:
    lines = [
        "| " + " | ".join(inline(column.title) for column in table.columns) + " |",
        "|" + "|".join(" ---: " if column.numeric else " --- " for column in table.columns) + "|",
    ]
    for row in table.rows:
        lines.append("| " + " | ".join(inline(row[column.key].text) for column in table.columns) + " |")
    return "\n".join([*lines, "", escaped(table.note)] if table.note else lines)


def _identities(before: ReadoutIdentity, now: ReadoutIdentity) -> Table:
    rows = (
        ("Snapshot", before.snapshot, now.snapshot),
        ("Data to the end of", f"{before.as_of}", f"{now.as_of}"),
        ("Brief", before.brief_digest[:16], now.brief_digest[:16]),
        ("Metrics", before.metrics_digest[:16], now.metrics_digest[:16]),
        ("Code", before.code_version, now.code_version),
        ("Run", before.run_id, now.run_id),
    )
    return _before_and_now(
        "readouts", "The two readouts", [(what, words(a), words(b)) for what, a, b in rows]
    )


def _fields(key: str, title: str, changes: Sequence[FieldChange]) -> Table:
    return _before_and_now(
        key,
        title,
        [
            (
                one.field,
                words("" if one.before is None else one.before),
                words("" if one.now is None else one.now),
            )
            for one in changes
        ],
    )


def _units(found: ReadoutDifference, screen: Screen) -> Table:
    rows = []
    for one in found.counts:
        rows.append(
            (f"{one.arm}, assigned", screen.units(one.assigned_before), screen.units(one.assigned_now))
        )
        rows.append(
            (f"{one.arm}, analysed", screen.units(one.analysed_before), screen.units(one.analysed_now))
        )
    return _before_and_now("units", "Units by arm", rows, numeric=True)


def _before_and_now(
    key: str, title: str, rows: Sequence[tuple[str, Cell, Cell]], *, numeric: bool = False
) -> Table:
    return Table(
        key=key,
        title=title,
        columns=(
            Column(key="what", title="What"),
            Column(key="before", title="Before", numeric=numeric),
            Column(key="now", title="Now", numeric=numeric),
        ),
        rows=tuple({"what": words(what), "before": before, "now": now} for what, before, now in rows),
    )


def _verdicts(key: str, title: str, changes: Sequence[VerdictChange], labels: Mapping[str, str]) -> Table:
    return Table(
        key=key,
        title=title,
        columns=(
            Column(key="what", title="What"),
            Column(key="before", title="Before"),
            Column(key="now", title="Now"),
            Column(key="evidence", title="Evidence now"),
        ),
        rows=tuple(
            {
                "what": words(f"{one.title}, {one.arm}" if one.arm else one.title),
                "before": _verdict(one.before, labels),
                "now": _verdict(one.now, labels),
                "evidence": words(one.evidence),
            }
            for one in changes
        ),
    )


def _verdict(value: str | None, labels: Mapping[str, str]) -> Cell:
    return NONE if value is None else words(labels.get(value, value))
    known = {
        **{key: label for key, (label, _) in VERDICTS.items()},
        **{k: v[0] for k, v in GUARDRAILS.items()},
    }
    return words(known.get(value, value))


def _outcome(value: Outcome | None) -> str:
    return "nothing" if value is None else OUTCOMES[value][0].lower()
