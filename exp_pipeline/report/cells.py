"""Single cells and columns, the parts that every table is made of."""

from __future__ import annotations

from exp_pipeline.report import numbers
from exp_pipeline.report.document import Cell, Column, Table
from exp_pipeline.report.numbers import Display

NONE = Cell(text="\N{EN DASH}")


def words(text: str) -> Cell:
    """A cell of words; a dash where there are none."""
    return Cell(text=text) if text else NONE


def columns_of(*keys: str) -> tuple[Column, ...]:
    """Columns of words whose headings are their keys."""
    return tuple(Column(key=key, title=key.capitalize()) for key in keys)


def between(lower: float | None, upper: float | None, display: Display, decimals: int) -> Cell:
    """An interval as a cell, or a dash."""
    if lower is None or upper is None:
        return NONE
    return Cell(text=numbers.interval(lower, upper, display, decimals), lower=lower, upper=upper)


def change(value: float | None, display: Display, decimals: int) -> Cell:
    """A signed difference as a cell, or a dash."""
    return NONE if value is None else Cell(text=numbers.change(value, display, decimals), value=value)


def p_cell(value: float | None) -> Cell:
    """A p-value as a cell, or a dash."""
    return NONE if value is None else Cell(text=numbers.p_value(value), value=value)


def without_empty_columns(table: Table) -> Table:
    """The same table without the columns in which no row has anything to say."""
    kept = tuple(c for c in table.columns if any(row[c.key].text != NONE.text for row in table.rows))
    if not table.rows or len(kept) == len(table.columns):
        return table
    keys = {c.key for c in kept}
    rows = tuple({key: cell for key, cell in row.items() if key in keys} for row in table.rows)
    return table.model_copy(update={"columns": kept, "rows": rows})
