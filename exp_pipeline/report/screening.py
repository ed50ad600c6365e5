"""What may be shown? Blinding and small cells, decided before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from exp_pipeline.model.readout import Estimate, Readout, SampleRatioGroup, SinceLast
from exp_pipeline.report import numbers
from exp_pipeline.report.document import Cell

WITHHELD = "withheld"
# What of a readout tells of the primary or of a secondary metric, beside `estimates` and `unadjusted`.
_EFFECTS = (
    "segments", "segment_differences", "shrunken", "compliance", "arms_compared", "families", "cumulative",
    "novelty", "novelty_days", "novelty_contrasts", "novelty_splits", "novelty_trend", "robustness", "impact",
)  # fmt: skip


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

    @property
    def few_units(self) -> str:
        """Why are numbers missing here?"""
        return f"fewer than {self.minimum} units in a cell"

    def beside(self, n: int, few: bool) -> Cell:
        """A number of units; held back where the arm beside it is small (`few`)."""
        return Cell(text=WITHHELD) if few and n >= self.minimum else self.units(n)

    def days_shown(self, counts: Sequence[Sequence[int]]) -> list[bool]:
        """Which of these cumulative counts may stand beside each other?

        counts: one row a day, one column an arm. The last day stands; an earlier one only where nobody, or no
        fewer than the minimum, came between it and the next one that stands, in every arm.
        """
        shown = [False] * len(counts)
        after: Sequence[int] | None = None
        for place in range(len(counts) - 1, -1, -1):
            if after is None or not self.small(*(b - a for a, b in zip(counts[place], after, strict=True))):
                shown[place], after = True, counts[place]
        return shown

    def hides(self, segment: str, value: str) -> bool:
        """Is this segment value withheld, for its own cell or for one that would follow from it?"""
        return (segment, value) in self.hidden_values

    def withholds(self, estimate: Estimate) -> bool:
        """Must this estimate's numbers stay out because of its own or its neighbours' small cells?"""
        if estimate.suppressed or self.small(estimate.n_control, estimate.n_treatment):
            return True
        return (estimate.segment or "", estimate.segment_value or "") in self.hidden_values


def screen(readout: Readout) -> Screen:
    """What of this readout may be printed?"""
    minimum = readout.brief.minimum_cell
    return Screen(
        minimum=minimum,
        hidden_because=hidden_because(readout),
        hidden_values=_hidden_values(readout.segments, readout.sample_ratio_groups, minimum),
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
            **dict.fromkeys(_EFFECTS, ()),
            "arms_difference": None,
            "since_last": without_hidden_movements(readout.since_last),
        }
    )


def without_hidden_movements(since: SinceLast | None) -> SinceLast | None:
    """What changed since the last readout as far as it may be told: of effects, guardrails only."""
    if since is None:
        return None
    guardrails = tuple(one for one in since.movements if one.role == "guardrail")
    return since.model_copy(update={"movements": guardrails})


def _hidden_values(
    segments: Iterable[Estimate], groups: Iterable[SampleRatioGroup], minimum: int
) -> frozenset[tuple[str, str]]:
    """Small segment values and, so that none follows from the total, enough of the next smallest ones.

    What the analysis withheld stays withheld. It looks over all columns at once; what is done here is for
    readouts that came with every cell.
    """
    by_column: dict[str, dict[str, dict[tuple[str, str], int]]] = {}
    hidden: set[tuple[str, str]] = set()
    for row in segments:
        if row.segment is None or row.segment_value is None:
            continue
        if row.suppressed:
            hidden.add((row.segment, row.segment_value))
            continue
        cells = by_column.setdefault(row.segment, {}).setdefault(row.segment_value, {})
        for arm, n in ((row.control, row.n_control), (row.arm, row.n_treatment)):
            cells[(row.metric, arm)] = n
    for group in groups:
        if group.suppressed:
            hidden.add((group.column, group.value))
            continue
        cells = by_column.setdefault(group.column, {}).setdefault(group.value, {})
        for arm, n in group.counts.items():
            cells[("assigned", arm)] = n
    for column, values in by_column.items():
        small = {value for value, cells in values.items() if any(0 < n < minimum for n in cells.values())}
        waiting = sorted(
            (value for value in values if value not in small and any(values[value].values())),
            key=lambda value: (min(n for n in values[value].values() if n), value),
        )
        while small and waiting and not _covered(small, values, minimum):
            small.add(waiting.pop(0))
        hidden.update((column, value) for value in small)
    return frozenset(hidden)


def _covered(hidden: set[str], values: dict[str, dict[tuple[str, str], int]], minimum: int) -> bool:
    """Whether no small cell follows from its total: at least two values and enough units hide each one."""
    cells = {cell for value in hidden for cell in values[value]}
    for cell in cells:
        counts = [n for value in hidden if (n := values[value].get(cell, 0))]
        if any(n < minimum for n in counts) and (len(counts) < 2 or sum(counts) < minimum):
            return False
    return True
