"""What the chain is measured against: plain scans of DuckDB that read the same columns and write nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlglot import exp

from exp_pipeline.contracts.predicates import rejection_expression
from exp_pipeline.model.metrics import Measure
from exp_pipeline.store.engine import quote, text_literal
from exp_pipeline.transform.measures import event_codes, over_rows
from exp_pipeline.transform.queries import with_codes


def scan_of(paths: Sequence[Path]) -> str:
    """Files of one layout as a table function."""
    files = ", ".join(text_literal(str(path)) for path in paths)
    return f"read_parquet([{files}], hive_partitioning = false)"


def limit_query(measures: Sequence[Measure], paths: Sequence[Path]) -> str:
    """LIMIT: one scan with a hash group to learner and 22 plain aggregates, consumed by an outer sum.

    The columns read are those of the pinned measures, with learner, time and event name. Nothing is cut,
    deduplicated, sorted or written: no chain over these columns can be faster than this.
    """
    codes = event_codes(measures)
    columns = []
    for measure in measures:
        plain = measure
        if measure.aggregate == "values":
            plain = Measure.model_validate({**measure.model_dump(), "aggregate": "max"})
        if measure.aggregate == "distinct":
            text = f"length({measure.of})"
            plain = Measure.model_validate({**measure.model_dump(), "aggregate": "max", "of": text})
        columns.append(over_rows(plain, codes).sql(dialect="duckdb"))
    columns += ["count(*) as n_events", "min(occurred_at) as first_at", "max(occurred_at) as last_at"]
    if len(columns) != 22:
        raise ValueError(f"LIMIT has 22 aggregates, the pinned measures give {len(columns)}")
    code = with_codes(exp.Anonymous(this="event_code"), codes).sql(dialect="duckdb")
    names = [*(measure.name for measure in measures), "n_events", "epoch_us(first_at)", "epoch_us(last_at)"]
    consumed = " + ".join(f"coalesce(sum(cast({name} as double)), 0)" for name in names)
    return (
        f"select {consumed}, count(*) from (select learner_key, {', '.join(columns)} "
        f"from (select *, {code} as event_code from {scan_of(paths)}) group by learner_key)"
    )


def verdict_columns() -> tuple[str, ...]:
    """The columns that the contracts read, in order of name."""
    return tuple(sorted({column.name for column in rejection_expression().find_all(exp.Column)}))


def verdict_query(paths: Sequence[Path]) -> str:
    """The contract's verdict on every row, counted by reason."""
    refusal = rejection_expression().sql(dialect="duckdb")
    return (
        f"select reason, count(*) from (select {refusal} as reason from {scan_of(paths)}) "
        "group by reason order by reason"
    )


def decoding_query(paths: Sequence[Path], columns: Sequence[str]) -> str:
    """A scan that looks at every value of some columns: one hash over each row, folded into a number."""
    return f"select bit_xor(hash({', '.join(map(quote, columns))})), count(*) from {scan_of(paths)}"
