"""What may be shown? Blinding and small cells, decided before anything is written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from exp_pipeline.model.readout import Estimate, Readout, SinceLast
from exp_pipeline.report import numbers
from exp_pipeline.report.document import Cell

WITHHELD = "withheld"


@dataclass(frozen=True)
class Screen:
    """Which numbers of a readout may be printed.

    `hidden_because` is empty when effects may be shown. `hidden_values` are the segment values (column,
    value) that are withheld because a cell of theirs is small, or because a small one would follow from them.
    """

    minimum: int
    hidden_because: str
    hidden_values: frozenset[tuple[str, str]]

    def small(self, *units: int) -> bool:
        """Is one of these a count of somebodies, but of fewer than the minimum? (Zero tells of nobody.)"""
        return any(0 < n < self.minimum for n in units)

    def units(self, n: int) -> Cell:
        """How is a number of units printed, or said to be too small to print?"""
        if self.small(n):
            return Cell(text=f"< {self.minimum}")
        return Cell(text=numbers.count(n), value=n)

    def withholds(self, estimate: Estimate) -> bool:
        """Must this estimate's numbers stay out because of its own or its neighbours' small cells?"""
        if self.small(estimate.n_control, estimate.n_treatment):
            return True
        return (estimate.segment or "", estimate.segment_value or "") in self.hidden_values


def screen(readout: Readout) -> Screen:
    """What of this readout may be printed?"""
    minimum = readout.brief.minimum_cell
    return Screen(
        minimum=minimum,
        hidden_because=hidden_because(readout),
        hidden_values=_hidden_values(readout.segments, minimum),
    )


def hidden_because(readout: Readout) -> str:
    """Why are primary and secondary effects hidden? Empty when they may be shown.

    They are hidden while the readout is blinded, and while an integrity check fails, unless somebody
    recorded a reason to look.
    """
    if readout.blinded:
        return readout.blinding_reason or "The planned horizon is not reached."
    failed = [check.title for check in readout.integrity if check.verdict == "fail"]
    if failed and not readout.unblinded_because:
        return f"An integrity check failed ({', '.join(failed)}), so no effect can be believed yet."
    return ""


def without_hidden_effects(readout: Readout) -> Readout:
    """The readout as far as it may be shown: of hidden effects, only guardrails and integrity remain."""
    if not hidden_because(readout):
        return readout
    return readout.model_copy(
        update={
            "estimates": tuple(e for e in readout.estimates if e.role == "guardrail"),
            "unadjusted": tuple(e for e in readout.unadjusted if e.role == "guardrail"),
            "segments": (),
            "segment_differences": (),
            "cumulative": (),
            "novelty": (),
            "novelty_contrasts": (),
            "robustness": (),
            "impact": (),
            "since_last": without_hidden_movements(readout.since_last),
        }
    )


def without_hidden_movements(since: SinceLast | None) -> SinceLast | None:
    """What changed since the last readout as far as it may be told: of effects, guardrails only."""
    if since is None:
        return None
    guardrails = tuple(one for one in since.movements if one.role == "guardrail")
    return since.model_copy(update={"movements": guardrails})


def _hidden_values(segments: Iterable[Estimate], minimum: int) -> frozenset[tuple[str, str]]:
    """Small segment values and, so that none follows from the total, enough of the next smallest ones."""
    by_column: dict[str, dict[str, dict[tuple[str, str], int]]] = {}
    for row in segments:
        if row.segment is None or row.segment_value is None:
            continue
        cells = by_column.setdefault(row.segment, {}).setdefault(row.segment_value, {})
        for arm, n in ((row.control, row.n_control), (row.arm, row.n_treatment)):
            cells[(row.metric, arm)] = n
    hidden: set[tuple[str, str]] = set()
    for column, values in by_column.items():
        small = {value for value, cells in values.items() if any(0 < n < minimum for n in cells.values())}
        waiting = sorted(
            (value for value in values if value not in small and any(values[value].values())),
            key=lambda value: (min(n for n in values[value].values()), value),
        )
        while small and waiting and not _covered(small, values, minimum):
            small.add(waiting.pop(0))
        hidden.update((column, value) for value in small)
    return frozenset(hidden)


def _covered(hidden: set[str], values: dict[str, dict[tuple[str, str], int]], minimum: int) -> bool:
    if len(hidden) < 2:
        return False
    cells = {cell for value in hidden for cell in values[value]}
    return all(
        sum(values[value].get(cell, 0) for value in hidden) >= minimum
        for cell in cells
        if any(0 < values[value].get(cell, 0) < minimum for value in hidden)
    )
