"""Whole numbers of units for each stratum and arm, so that planned shares hold everywhere and on average."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

Node = tuple[str, int]


def rounded_counts(
    sizes: Sequence[int], weights: Sequence[int], chance: Callable[[int], int]
) -> list[list[int]]:
    """How many units of each stratum go to each arm: rows by stratum, columns by arm.

    sizes: units by stratum. weights: whole numbers by arm; an arm's planned part of a stratum is
    size * weight / sum of weights. Each count is the planned part rounded up or down, each row adds up to its
    size, each arm's total over all strata is its planned total rounded up or down, and an arm's expected
    count is its planned part exactly. `chance(n)` gives a random whole number from 0 to before n. Raises
    ValueError for weights that are not positive in sum.

    Largest remainders alone would give every stratum's odd unit to the same arm. Source: Gandhi, Khuller,
    Parthasarathy and Srinivasan, "Dependent rounding and its applications", J. ACM 53 (2006), section 2.
    """
    whole = sum(weights)
    if whole <= 0 or min(weights) < 0:
        raise ValueError(f"weights must be positive in sum and none negative, got {list(weights)}")
    counts = [[size * weight // whole for weight in weights] for size in sizes]
    open_parts = {
        (row, column): part
        for row, size in enumerate(sizes)
        for column, weight in enumerate(weights)
        if (part := size * weight % whole)
    }
    graph = _Graph(open_parts)
    while open_parts:
        edges = graph.alternating_edges()
        rise = min(whole - open_parts[edge] if up else open_parts[edge] for edge, up in edges)
        fall = min(open_parts[edge] if up else whole - open_parts[edge] for edge, up in edges)
        step = rise if chance(rise + fall) < fall else -fall
        for edge, up in edges:
            part = open_parts[edge] + (step if up else -step)
            if part in (0, whole):
                del open_parts[edge]
                graph.remove(edge)
                counts[edge[0]][edge[1]] += part // whole
            else:
                open_parts[edge] = part
    return counts


class _Graph:
    """Rows and columns joined where a part is still open; neighbours stay in the order they were added."""

    def __init__(self, parts: Mapping[tuple[int, int], int]) -> None:
        self._near: dict[Node, dict[Node, None]] = {}
        for row, column in parts:
            self._near.setdefault(("row", row), {})[("column", column)] = None
            self._near.setdefault(("column", column), {})[("row", row)] = None

    def remove(self, edge: tuple[int, int]) -> None:
        row, column = ("row", edge[0]), ("column", edge[1])
        for one, other in ((row, column), (column, row)):
            del self._near[one][other]
            if not self._near[one]:
                del self._near[one]

    def alternating_edges(self) -> list[tuple[tuple[int, int], bool]]:
        """The edges of a cycle, or of a path that cannot be made longer, each with its sign in turn."""
        path = [next(iter(self._near))]
        turned = False
        while True:
            before = path[-2] if len(path) > 1 else None
            onward = next((node for node in self._near[path[-1]] if node != before), None)
            if onward is None:
                if turned:
                    break
                turned = True
                path.reverse()
                continue
            if onward in path:
                path = [*path[path.index(onward) :], onward]
                break
            path.append(onward)
        edges = []
        for place, (one, other) in enumerate(pairwise(path)):
            row, column = (one, other) if one[0] == "row" else (other, one)
            edges.append(((row[1], column[1]), place % 2 == 0))
        return edges
