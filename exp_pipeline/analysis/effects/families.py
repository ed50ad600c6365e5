"""Which p-values are judged together, which families wait for others, and which rows may be believed?"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from exp_pipeline.analysis.effects.estimates import with_family
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import Estimate, FamilyResult
from exp_pipeline.stats.multiplicity import benjamini_hochberg, holm

PRIMARY, SECONDARY = "primary", "secondary"
_CORRECTIONS = {"holm": "Holm", "benjamini-hochberg": "Benjamini-Hochberg"}


@dataclass(frozen=True, slots=True)
class _Gated:
    """One family as it is tested: after which other one (None for none), and by which correction."""

    name: str
    metrics: tuple[str, ...]
    after: str | None
    correction: str


@dataclass(frozen=True, slots=True)
class Judged:
    """The rows of a readout with their adjusted p-values, and what became of each family in each arm."""

    rows: tuple[Estimate, ...]
    families: tuple[FamilyResult, ...]


def judged(rows: Sequence[Estimate], brief: Brief) -> Judged:
    """What are the adjusted p-values, and which rows may be believed as confirmatory?

    Families are those of the brief; metrics of which it says nothing are the family "primary", or "secondary"
    after it. One that names no `after` and does not hold the primary waits for the primary's. In each family
    p-values of all its metrics and arms are corrected together (Holm where the primary is in it or other
    families wait for it, else the brief's correction). In an arm a family's gate is open once every metric of
    the family before it has passed there, and that one's gate was open: serial gatekeeping (Maurer, Hothorn
    and Lehmacher 1995). Behind a closed gate rows are exploratory. Guardrails are judged one by one, since
    every one of them must hold. Counter-metrics are never confirmatory: they say where to look.
    """
    found: dict[tuple[str, str], Estimate] = {}
    results: dict[tuple[str, str], FamilyResult] = {}
    for family in _families(brief):
        own = [row for row in rows if row.role in (PRIMARY, SECONDARY) and row.metric in family.metrics]
        adjust = holm if family.correction == "holm" else benjamini_hochberg
        corrected = with_family(own, family.name, adjust)
        for arm in (one.name for one in brief.treatments()):
            mine = [row for row in corrected if row.arm == arm]
            before = results.get((family.after, arm)) if family.after is not None else None
            result = _result(family, arm, mine, before, brief.alpha)
            results[family.name, arm] = result
            for row in mine:
                found[row.metric, arm] = row if result.gate_open else _exploratory(row, result)
    ordered = [found[row.metric, row.arm] for row in rows if (row.metric, row.arm) in found]
    return Judged(
        (
            *(row for row in ordered if row.role == PRIMARY),
            *(row for row in ordered if row.role == SECONDARY),
            *(row for row in rows if row.role == "guardrail"),
            *(_watched(row) for row in rows if row.role == "counter"),
        ),
        tuple(results.values()),
    )


def _families(brief: Brief) -> tuple[_Gated, ...]:
    """Every family in an order in which each comes after the one it waits for."""
    declared = {family.name: family for family in brief.families}
    named = {metric for family in declared.values() for metric in family.metrics}
    leading = next((family.name for family in declared.values() if brief.primary in family.metrics), None)
    first = leading if leading is not None else _free(PRIMARY, declared)
    ahead: list[str] = []
    while leading is not None and declared[leading].after is not None:
        leading = declared[leading].after
        ahead.append(leading or "")
    waited_for = {family.after for family in declared.values()}
    found = [] if first in declared else [_Gated(first, (brief.primary,), None, "holm")]
    for family in declared.values():
        waits = family.after is None and family.name != first and family.name not in ahead
        strict = family.name == first or family.name in waited_for
        found.append(
            _Gated(
                family.name,
                family.metrics,
                first if waits else family.after,
                "holm" if strict else brief.multiplicity,
            )
        )
    rest = tuple(metric for metric in brief.secondary if metric not in named)
    if rest:
        found.append(_Gated(_free(SECONDARY, declared), rest, first, brief.multiplicity))
    return _in_order(found)


def _free(name: str, taken: Container[str]) -> str:
    return name if name not in taken else f"the {name}"


def _in_order(families: Sequence[_Gated]) -> tuple[_Gated, ...]:
    placed: dict[str | None, _Gated] = {}
    while len(placed) < len(families):
        ready = next(
            family
            for family in families
            if family.name not in placed and (family.after is None or family.after in placed)
        )
        placed[ready.name] = ready
    return tuple(placed.values())


def _result(
    family: _Gated, arm: str, rows: Sequence[Estimate], before: FamilyResult | None, alpha: float
) -> FamilyResult:
    known = [row.p_adjusted for row in rows if row.p_adjusted is not None]
    open_gate = family.after is None or (before is not None and before.succeeded)
    passed = bool(rows) and len(known) == len(rows) and all(p < alpha for p in known)
    if not open_gate:
        because = f"{family.after} did not succeed: shown as exploratory"
    elif passed:
        because = "every metric passes"
    else:
        failing = [row.title for row in rows if row.p_adjusted is None or row.p_adjusted >= alpha]
        because = f"not shown: {', '.join(failing)}" if failing else "no metric could be tested"
    return FamilyResult(
        name=family.name,
        arm=arm,
        metrics=family.metrics,
        after=family.after,
        gate_open=open_gate,
        succeeded=open_gate and passed,
        needs="all",
        correction=_CORRECTIONS[family.correction],
        alpha=alpha,
        smallest_p_adjusted=min(known, default=None),
        because=because,
    )


def _exploratory(row: Estimate, result: FamilyResult) -> Estimate:
    what = "the primary metric did not pass" if result.after == PRIMARY else f"{result.after} did not succeed"
    return row.model_copy(update={"confirmatory": False, "flags": (*row.flags, f"exploratory: {what}")})


def _watched(row: Estimate) -> Estimate:
    return row.model_copy(
        update={"confirmatory": False, "flags": (*row.flags, "watched against gaming: decides nothing")}
    )
