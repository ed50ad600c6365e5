"""Results as small tables in the Dagster UI, which shows tables in their place."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import dagster as dg
import polars as pl

from exp_pipeline.defs.specs import plain_schema
from exp_pipeline.model.metrics import Display
from exp_pipeline.model.readout import Cause, Decision, IntegrityCheck, Readout
from exp_pipeline.report import numbers
from exp_pipeline.report.document import Table
from exp_pipeline.steps.experiments.dictionary import ColumnNote

_ROWS_SHOWN = 50
_ROW_COLUMNS = (
    "segment",
    "segment_value",
    "week",
    "name",
    "title",
    "variant",
    "arm",
    "n_treatment",
    "n_control",
    "p_value",
    "reason",
)
# What a column of numbers is called where people read it.
_HEADS = {"n_treatment": "units in arm", "n_control": "units in control", "p_value": "p", "reason": "note"}
_LONGEST_EVIDENCE = 600


def dictionary_schema(notes: Sequence[ColumnNote]) -> dg.TableSchema:
    """The columns of a snapshot's file with their meaning, unit and what they are made from."""
    columns = []
    for note in notes:
        made_from = {name: value for name, value in note.provenance.items() if isinstance(value, str)}
        measures = note.provenance.get("measures")
        if isinstance(measures, dict):
            made_from["measures"] = ", ".join(f"{name} {digest}" for name, digest in measures.items())
        text = f"{note.definition} Unit: {note.unit}."
        columns.append(dg.TableColumn(note.name, type=note.type, description=text, tags=made_from))
    return dg.TableSchema(columns=columns)


def report_table(table: Table, without: Collection[str] = ()) -> dg.TableMetadataValue:
    """A table of the report's under its own headings.

    The UI gives columns little room: `without` names, by their keys, long ones that other metadata tells.
    """
    columns = [column for column in table.columns if column.key not in without]
    heads = [column.title.lower() for column in columns]
    rows = [
        dg.TableRecord(
            {head: shortened(row[column.key].text) for head, column in zip(heads, columns, strict=True)}
        )
        for row in table.rows
    ]
    return dg.MetadataValue.table(rows, schema=plain_schema(heads))


def verdicts_table(checks: Sequence[IntegrityCheck]) -> dg.TableMetadataValue:
    """What each integrity check found, in the panel's order."""
    columns = ("check", "verdict", "evidence")
    rows = [
        dg.TableRecord(
            dict(zip(columns, (check.title, spoken(check.verdict), shortened(check.evidence)), strict=True))
        )
        for check in checks
    ]
    return dg.MetadataValue.table(rows, schema=plain_schema(columns))


def causes_table(checks: Sequence[IntegrityCheck]) -> dg.TableMetadataValue | None:
    """Where to look first, with the checks that speak for it; None where no check has a cause to name."""
    columns = ("where", "share", "evidence", "behind", "rank")
    # Checks that fail come before those that warn; one cause of several checks is one row.
    behind: dict[Cause, list[str]] = {}
    for check in sorted(checks, key=lambda check: check.verdict != "fail"):
        for cause in check.causes:
            behind.setdefault(cause, []).append(check.title)
    rows = [
        dg.TableRecord(
            {
                "where": cause.where,
                "share": "" if cause.share is None else f"{100 * cause.share:.0f} %",
                "evidence": cause.evidence,
                "behind": ", ".join(titles),
                "rank": str(cause.rank),
            }
        )
        for cause, titles in behind.items()
    ]
    return dg.MetadataValue.table(rows, schema=plain_schema(columns)) if rows else None


def rows_table(frame: pl.DataFrame, display: Display) -> dg.TableMetadataValue:
    """The first rows of a table of effects on the primary, in its unit."""
    columns = [name for name in _ROW_COLUMNS if name in frame.columns]
    if "reason" in columns and not any(frame["reason"].fill_null("").to_list()):
        columns.remove("reason")
    heads = [_HEADS.get(name, name.replace("_", " ")) for name in columns]
    place = next((heads.index(name) for name in ("units in arm", "p") if name in heads), len(heads))
    rows = []
    for row in frame.head(_ROWS_SHOWN).iter_rows(named=True):
        # Counts of a withheld cell are 0 and mean nothing.
        known = {
            name: None if row.get("suppressed") and name.startswith("n_") else row[name] for name in columns
        }
        effect, interval = _effect(row.get("absolute"), row.get("ci_lower"), row.get("ci_upper"), display)
        cells = {head: _cell(known[name]) for name, head in zip(columns, heads, strict=True)}
        cells |= {"effect": effect, "interval": interval}
        rows.append(dg.TableRecord(cells))
    return dg.MetadataValue.table(
        rows, schema=plain_schema([*heads[:place], "effect", "interval", *heads[place:]])
    )


def _effect(
    value: float | None, lower: float | None, upper: float | None, display: Display
) -> tuple[str, str]:
    """Effect and interval as text with the unit, to the digits that the interval bears out."""
    spread = None if lower is None or upper is None else upper - lower
    decimals = numbers.decimals_for(display, spread, value)
    return (
        "" if value is None else numbers.change(value, display, decimals),
        "" if spread is None else numbers.interval(lower, upper, display, decimals),
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def spoken(verdict: str) -> str:
    """A verdict or outcome as words."""
    return verdict.replace("_", " ")


def shortened(text: str) -> str:
    """Evidence that fits a cell, cut between words."""
    if len(text) <= _LONGEST_EVIDENCE:
        return text
    return text[:_LONGEST_EVIDENCE].rsplit(" ", 1)[0] + " \N{HORIZONTAL ELLIPSIS}"


def effects_table(readout: Readout) -> dg.TableMetadataValue:
    """Every effect that the readout shows, each in its metric's unit; units are those of arm / control."""
    levels = {row.level for row in readout.estimates}
    head = f"{numbers.round_percent(levels.pop())} interval" if len(levels) == 1 else "interval"
    rows = []
    for row in readout.estimates:
        effect, interval = _effect(row.absolute, row.ci_lower, row.ci_upper, row.display)
        rows.append(
            dg.TableRecord(
                {
                    "metric": row.title,
                    "role": row.role,
                    "arm": row.arm,
                    "effect": effect,
                    head: interval,
                    "p": "" if row.p_value is None else f"{row.p_value:.3g}",
                    "units": "" if row.suppressed else f"{row.n_treatment} / {row.n_control}",
                    "method": row.reason or row.method,
                }
            )
        )
    columns = ("metric", "role", "arm", "effect", head, "p", "units", "method")
    return dg.MetadataValue.table(rows, schema=plain_schema(columns))


def rules_table(decision: Decision) -> dg.TableMetadataValue:
    """What each rule of the brief said of each arm, in the order in which they were asked."""
    columns = ("arm", "rule", "verdict", "evidence")
    rows = [
        dg.TableRecord(
            {
                "arm": arm.arm,
                "rule": rule.rule,
                "verdict": spoken(rule.verdict),
                "evidence": shortened(rule.evidence),
            }
        )
        for arm in decision.arms
        for rule in arm.rules
    ]
    return dg.MetadataValue.table(rows, schema=plain_schema(columns))
