"""Did the arms get the same model, prompt and policies, and if not: which, where, since when?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from exp_pipeline.analysis.integrity.causes import context_of, in_words
from exp_pipeline.analysis.wording import listed, share_in_words
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import Cause, IntegrityCheck, Verdict
from exp_pipeline.stats.gates.locating import RateFit, locate

# A value that answers fewer than this share of an arm's responses is a straggler (a retry, a fallback).
STRAGGLERS = 0.01
# Two arms may divide a version that both have this much differently before it is a difference between arms.
SHARE_GAP = 0.05

Arms = dict[str, dict[str, int]]


def receipt_check(receipts: pl.DataFrame | None, brief: Brief) -> IntegrityCheck:
    """Did the arms get the same model, prompt and policies but for what the brief lets differ?

    receipts: arm, field, value, responses, and where known event_date and platform. A value that one arm has
    and another lacks fails (stragglers below one per cent of an arm's responses are a warning); so does a
    version that both have in shares more than five points apart. More than one version in an arm is a
    warning: something was swapped meanwhile. Causes name field, value, arm, and since when and where.
    """
    name, title = "receipt", "Pinned versions"
    if receipts is None or not receipts.height:
        return IntegrityCheck(
            name=name,
            title=title,
            verdict="cannot_tell",
            evidence="No response with a model receipt was logged.",
        )
    known = receipts.filter(pl.col("arm").is_in(list(brief.shares()))).with_columns(
        pl.col("value").cast(pl.String).fill_null("(none)"), pl.col("responses").cast(pl.Int64)
    )
    totals = known.group_by("arm", "field", "value").agg(pl.col("responses").sum())
    by_field: dict[str, Arms] = {}
    for arm, field, value, responses in totals.sort("field", "arm", "value").iter_rows():
        by_field.setdefault(field, {}).setdefault(arm, {})[value] = responses
    faults, oddities, differing = [], [], []
    apart: list[tuple[str, str, list[str]]] = []
    swaps: list[tuple[str, str, list[str]]] = []
    for field, arms in by_field.items():
        allowed = field in brief.receipt.may_differ
        swapped = [arm for arm in arms if _main_values(arms[arm]) > 1]
        if swapped:
            oddities.append(f"{field} has more than one version within {listed(swapped)}")
        gap, value = _widest_gap(arms, _first_days(known, field))
        if allowed:
            if gap > SHARE_GAP:
                differing.append(field)
        elif gap > SHARE_GAP or (gap >= STRAGGLERS and _one_sided(arms, value)):
            shown = listed(f"{100 * _share(arms[arm], value):.1f} % of {arm}" for arm in arms)
            faults.append(f"{field} differs between arms though it must not: {value!r} answered {shown}")
            apart.append((field, value, _holders(arms, value)))
            continue
        elif _one_sided(arms, value):
            oddities.append(f"a few responses of one arm only had {field} {value!r}")
        if swapped:
            swaps.append((field, _newest(arms, swapped, _first_days(known, field)), swapped))
    if brief.receipt.may_differ and not differing:
        oddities.append(
            f"{listed(brief.receipt.may_differ)} may differ and does not: were the arms served the same?"
        )
    verdict: Verdict = "fail" if faults else "warn" if oddities else "pass"
    good = f"{len(by_field)} fields compared"
    good += (
        f"; {listed(differing)} differs between arms, as the brief says." if differing else "; none differs."
    )
    evidence = "; ".join([*faults, *oddities]).capitalize() + "." if faults or oddities else good
    numbers: dict[str, float | int | str] = {
        "fields": len(by_field),
        "responses": int(known["responses"].sum()),
    }
    causes = tuple(_cause(rank, known, *found) for rank, found in enumerate([*apart, *swaps], start=1))
    return IntegrityCheck(
        name=name, title=title, verdict=verdict, evidence=evidence, numbers=numbers, causes=causes
    )


def _cause(rank: int, known: pl.DataFrame, field: str, value: str, arms: Sequence[str]) -> Cause:
    """Where and since when these arms had this value: days and platforms that hold more of it than others."""
    rows = known.filter((pl.col("field") == field) & pl.col("arm").is_in(list(arms)))
    mine = rows.with_columns(pl.when(pl.col("value") == value).then("responses").otherwise(0).alias("had"))
    places = [name for name in ("event_date", "platform") if name in rows.columns]
    cells = mine.group_by(places).agg(pl.col("had").sum(), pl.col("responses").sum()).sort(places)
    had, whole = cells["had"].to_numpy(), cells["responses"].to_numpy()
    columns = context_of(cells, ("platform",))
    found = locate(np.column_stack([had, whole - had]).astype(np.float64), columns, RateFit(), most=1)
    where, there, share = f"{field} {value} in {listed(arms)}", "of its responses", 1.0
    if found:
        place = found[0]
        where += ", " + ", ".join(in_words(one) for one in place.conditions)
        answered = share_in_words(place.counts[0], sum(place.counts))
        elsewhere = share_in_words(place.others[0], sum(place.others)) if sum(place.others) else "none"
        there = f"{answered} responses there and {elsewhere} elsewhere had it"
        share = place.share
    else:
        there = f"{share_in_words(int(had.sum()), int(whole.sum()))} responses had it, on all days alike"
    action = f"look what was deployed to {listed(arms)} there, and pin {field} again"
    return Cause(rank=rank, where=where, evidence=f"{there}. First: {action}.", share=round(share, 4))


def _first_days(known: pl.DataFrame, field: str) -> dict[str, str]:
    """The first day of each value of a field; the same for all where days are not known."""
    if "event_date" not in known.columns:
        return {}
    rows = known.filter(pl.col("field") == field)
    days = rows.group_by("value").agg(pl.col("event_date").cast(pl.String).min())
    return {value: day or "" for value, day in days.iter_rows()}


def _newest(arms: Arms, swapped: Sequence[str], first: dict[str, str]) -> str:
    """Which of the main versions came last? The rarer one, where they came together."""
    main = sorted({value for arm in swapped for value in arms[arm] if _share(arms[arm], value) >= STRAGGLERS})
    rarity = {value: sum(arms[arm].get(value, 0) for arm in swapped) for value in main}
    return max(main, key=lambda value: (first.get(value, ""), -rarity[value], value))


def _holders(arms: Arms, value: str) -> list[str]:
    """The arms that have more of a value than the middle between the arm with most and that with least."""
    shares = {arm: _share(found, value) for arm, found in arms.items()}
    middle = (max(shares.values()) + min(shares.values())) / 2
    return [arm for arm, share in shares.items() if share > middle]


def _share(values: dict[str, int], value: str) -> float:
    total = sum(values.values())
    return values.get(value, 0) / total if total else 0.0


def _main_values(values: dict[str, int]) -> int:
    return sum(_share(values, value) >= STRAGGLERS for value in values)


def _widest_gap(arms: Arms, first: dict[str, str]) -> tuple[float, str]:
    """The value whose shares differ most between arms; of several, the one that came last, or the rarer."""
    values = sorted({value for found in arms.values() for value in found})
    gaps = []
    for value in values:
        shares = [_share(found, value) for found in arms.values()]
        gaps.append((max(shares) - min(shares), value))
    if not gaps:
        return 0.0, ""
    widest = max(gap for gap, _ in gaps)
    near = [pair for pair in gaps if pair[0] >= widest - 1e-9]
    rarity = {value: sum(found.get(value, 0) for found in arms.values()) for value in values}
    return max(near, key=lambda pair: (first.get(pair[1], ""), -rarity[pair[1]], pair[1]))


def _one_sided(arms: Arms, value: str) -> bool:
    return any(value in found for found in arms.values()) and any(
        value not in found for found in arms.values()
    )
