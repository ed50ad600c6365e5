"""Errors that cross rooms, each one a sentence a user can act on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class ExpError(Exception):
    """Any trouble that exp_pipeline explains itself; the command line prints it without a traceback."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in something a person wrote: where it is, what stands there, what would be allowed."""

    file: str
    line: int | None
    field: str
    value: str
    message: str
    allowed: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        shown = f" (value: {self.value})" if self.value else ""
        allowed = f"; allowed: {self.allowed}" if self.allowed else ""
        return f"{place}: {self.field}: {self.message}{shown}{allowed}"


class SpecError(ExpError):
    """A brief, metric, source or policy that cannot be used; carries every problem found, not the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        count = len(self.problems)
        head = f"{count} problem{'s' if count != 1 else ''} in the catalog:"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))


class ContractError(ExpError):
    """A table that breaks its contract: names table, partition and the first bad rows."""

    def __init__(self, table: str, partition: str, failures: Sequence[str]) -> None:
        self.table, self.partition, self.failures = table, partition, tuple(failures)
        shown = "\n".join(f"  {failure}" for failure in self.failures[:5])
        more = f"\n  … and {len(self.failures) - 5} more" if len(self.failures) > 5 else ""
        super().__init__(f"table {table}, partition {partition}, breaks its contract:\n{shown}{more}")


class StoreError(ExpError):
    """Files or databases that are missing, damaged or not where they must be."""


class SourceError(ExpError):
    """A source mapping that does not fit the file it names (file, source and column are in the text)."""


class BriefLockedError(ExpError):
    """A brief whose analysis fields changed after the start, where the change is not allowed."""
