"""Results as small tables in the Dagster UI, which shows tables in their place."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
import polars as pl

from exp_pipeline.defs.specs import plain_schema
from exp_pipeline.model.readout import Decision, IntegrityCheck, Readout
from exp_pipeline.steps.experiments.dictionary import ColumnNote

_ROWS_SHOWN = 50
_ROW_COLUMNS = (
    "metric",
    "segment",
    "segment_value",
    "week",
    "name",
    "title",
    "variant",
    "arm",
    "n_control",
    "n_treatment",
    "absolute",
    "ci_lower",
    "ci_upper",
    "p_value",
    "reason",
)


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


def verdicts_table(checks: Sequence[IntegrityCheck]) -> dg.TableMetadataValue:
    """What each integrity check found."""
    columns = ("check", "verdict", "evidence")
    rows = [
        dg.TableRecord(dict(zip(columns, (check.title, check.verdict, check.evidence[:300]), strict=True)))
        for check in checks
    ]
    return dg.MetadataValue.table(rows, schema=plain_schema(columns))


def rows_table(frame: pl.DataFrame) -> dg.TableMetadataValue:
    """The first rows of a table of results, numbers to six digits."""
    columns = [name for name in _ROW_COLUMNS if name in frame.columns]
    rows = [
        dg.TableRecord({name: _cell(value) for name, value in row.items()})
        for row in frame.select(columns).head(_ROWS_SHOWN).iter_rows(named=True)
    ]
    return dg.MetadataValue.table(rows, schema=plain_schema(columns))


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def effects_table(readout: Readout) -> dg.TableMetadataValue:
    """Every effect that the readout shows."""
    rows = [
        dg.TableRecord(
            {
                "metric": row.title,
                "role": row.role,
                "arm": row.arm,
                "effect": "" if row.absolute is None else f"{row.absolute:+.4g}",
                "interval": ""
                if row.ci_lower is None or row.ci_upper is None
                else f"{row.ci_lower:.4g} to {row.ci_upper:.4g}",
                "p": "" if row.p_value is None else f"{row.p_value:.3g}",
                "method": row.reason or row.method,
            }
        )
        for row in readout.estimates
    ]
    columns = ("metric", "role", "arm", "effect", "interval", "p", "method")
    return dg.MetadataValue.table(rows, schema=plain_schema(columns))


def rules_table(decision: Decision) -> dg.TableMetadataValue:
    """What each rule of the brief said of each arm."""
    columns = ("arm", "rule", "verdict", "evidence")
    rows = [
        dg.TableRecord(
            {"arm": arm.arm, "rule": rule.rule, "verdict": rule.verdict, "evidence": rule.evidence[:300]}
        )
        for arm in decision.arms
        for rule in arm.rules
    ]
    return dg.MetadataValue.table(rows, schema=plain_schema(columns))
