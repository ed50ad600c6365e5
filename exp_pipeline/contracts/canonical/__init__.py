"""The canonical row as plain data: every column any event may carry, with its type, meaning, unit and range.

Nothing here loads pandera; `contracts.models.row` makes the models of the events from it, `contracts.fields`
tells it to everybody else.
"""

from __future__ import annotations

from exp_pipeline.contracts.canonical.columns import CanonicalColumn
from exp_pipeline.contracts.canonical.envelope import ENVELOPE
from exp_pipeline.contracts.canonical.statement import STATEMENT

CANONICAL: tuple[CanonicalColumn, ...] = (*ENVELOPE, *STATEMENT)
"""Every canonical column, in the one order in which they are written everywhere."""
