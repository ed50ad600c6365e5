"""Where to look when an integrity check fails: which platform, version, day or stratum carries the fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from exp_pipeline.analysis.units import SEGMENT
from exp_pipeline.analysis.wording import listed, p_in_words, share_in_words
from exp_pipeline.model.readout import Cause
from exp_pipeline.stats.gates.locating import Column, Condition, Counts, Fit, GapFit, Place, RateFit, RatioFit
from exp_pipeline.stats.gates.locating import locate as places_of

UNKNOWN = "(unknown)"
# What is looked through, in the order in which places that hold the same rows are named.
_FIRST = ("platform", "app_version", "source", "stratum", "locale")
_DAYS = ("assigned_date", "event_date")
_NAMES = {"assigned_date": "day", "event_date": "day", "app_version": "app version"}
_ACTIONS = {
    "app_version": "compare what that version of the client logs in each arm",
    "platform": "compare what that platform logs in each arm",
    "source": "compare how that source of assignments is read with the others",
    "stratum": "look how units of that stratum were drawn and enrolled",
    "locale": "look whether a language filter acts on one arm only",
    "assigned_date": "look what was released or changed on that day",
    "event_date": "look what was released or changed on that day",
}
_OTHER_ACTION = "look how units there were enrolled and whether one arm reaches them"


def context_of(frame: pl.DataFrame, more: Sequence[str] = ()) -> tuple[Column, ...]:
    """The columns by which rows can be told apart: frozen context, stratum, source, day of assignment."""
    found = {name.removeprefix(SEGMENT): name for name in sorted(frame.columns) if name.startswith(SEGMENT)}
    plain = ("platform", "app_version", "locale", "stratum", "source", *_DAYS, *more)
    found |= {name: name for name in plain if name in frame.columns}
    order = [*(name for name in _FIRST if name in found), *(name for name in found if name not in _FIRST)]
    columns = []
    for name in order:
        values = frame[found[name]].cast(pl.String).fill_null(UNKNOWN)
        labels = values.unique().sort()
        if len(labels) > 1:
            codes = values.replace_strict(labels, pl.Series(range(len(labels))), return_dtype=pl.Int64)
            columns.append(Column(name, codes.to_numpy(), tuple(labels.to_list()), ordered=name in _DAYS))
    return tuple(columns)


def ratio_causes(frame: pl.DataFrame, shares: dict[str, float], limit: float, what: str) -> tuple[Cause, ...]:
    """Which place carries a sample ratio mismatch of these rows (column `arm`)? `what` was logged."""
    arms = list(shares)
    counts = np.column_stack([(frame["arm"] == arm).to_numpy().astype(np.float64) for arm in arms])
    planned = [shares[arm] for arm in arms]

    def said(place: Place) -> str:
        n = sum(place.counts)
        gaps = [
            (count - n * share, arm) for count, share, arm in zip(place.counts, planned, arms, strict=True)
        ]
        lacks, gains = min(gaps), max(gaps)
        odd = lacks if abs(lacks[0]) >= abs(gains[0]) else gains
        at = arms.index(odd[1])
        fewer = "misses units" if odd[0] < 0 else "has too many units"
        return (
            f"{odd[1]} {fewer}: {place.counts[at]:,} where {n * planned[at]:,.1f} were planned of {n:,}, "
            f"{p_in_words(place.p_adjusted)} after Holm"
        )

    everywhere = (
        "No platform, version, day, stratum or place differs from the others: look at the planned shares and "
        f"at how {what} are logged in each arm, everywhere."
    )
    return _causes(counts, frame, RatioFit(tuple(planned)), said, everywhere, limit)


def gap_causes(
    frame: pl.DataFrame, counts: Counts, arms: Sequence[str], limit: float, what: str, *, silent: bool = False
) -> tuple[Cause, ...]:
    """Which place carries a difference between arms in a share?

    counts: for each arm (control first) two columns, rows with and without. `what` completes "... {what}".
    silent: the shares themselves are left out, for they tell of an outcome.
    """

    def said(place: Place) -> str:
        shares = [
            (place.counts[2 * at], place.counts[2 * at] + place.counts[2 * at + 1]) for at in range(len(arms))
        ]
        if silent:
            return f"the arms differ in units that {what}, {p_in_words(place.p_adjusted)} after Holm"
        told = listed(f"{share_in_words(*pair)} in {arm}" for arm, pair in zip(arms, shares, strict=True))
        return f"{told} {what}, {p_in_words(place.p_adjusted)} after Holm"

    everywhere = (
        "No platform, version, day, stratum or place differs from the others: look at what the arms do "
        "differently everywhere."
    )
    return _causes(counts, frame, GapFit(len(arms)), said, everywhere, limit)


def rate_causes(
    frame: pl.DataFrame, flag: pl.Series, what: str, more: Sequence[str] = ()
) -> tuple[Cause, ...]:
    """Where do rows with a fault gather? `what` completes "120 of 400 units there {what}"."""
    marked = flag.to_numpy()
    return rate_causes_of(frame, np.column_stack([marked, ~marked]).astype(np.float64), what, more=more)


def rate_causes_of(
    frame: pl.DataFrame, counts: Counts, what: str, unit: str = "units", more: Sequence[str] = ()
) -> tuple[Cause, ...]:
    """The same of rows that stand for many: counts with and without the fault."""

    def said(place: Place) -> str:
        there, others = share_in_words(place.counts[0], sum(place.counts)), sum(place.others)
        elsewhere = share_in_words(place.others[0], others) if others else "none"
        return f"{there} {unit} there {what}, elsewhere {elsewhere}"

    everywhere = "No platform, version, day, stratum or place has more of them than the others."
    return _causes(counts, frame, RateFit(), said, everywhere, 1.0, more)


def _causes(
    counts: Counts,
    frame: pl.DataFrame,
    fit: Fit,
    said: Callable[[Place], str],
    everywhere: str,
    limit: float,
    more: Sequence[str] = (),
) -> tuple[Cause, ...]:
    if not counts.sum():
        return ()
    found = places_of(counts, context_of(frame, more), fit, fits_above=limit)
    if not found:
        return (Cause(rank=1, where="everywhere alike", evidence=everywhere, share=None),)
    causes = []
    for rank, place in enumerate(found, start=1):
        evidence = said(place)
        if place.others_p_value is not None:
            fits = place.others_p_value >= limit
            evidence += (
                "; all others fit" if fits else f"; the others do not ({p_in_words(place.others_p_value)})"
            )
        if place.same_as:
            evidence += f"; the same units are those of {listed(map(in_words, place.same_as))}"
        causes.append(
            Cause(
                rank=rank,
                where=", ".join(map(in_words, _in_order(place.conditions))),
                evidence=f"{evidence}. First: {_action(place.conditions)}.",
                share=round(place.share, 4),
            )
        )
    return tuple(causes)


def in_words(condition: Condition) -> str:
    """How is a place said? "platform android", "since 2026-03-12"."""
    column, value = condition.column, condition.value
    if column in _DAYS:
        return {"is": f"on {value}", "since": f"since {value}", "until": f"up to {value}"}[condition.kind]
    return f"{_NAMES.get(column, column.removesuffix('_id').replace('_', ' '))} {value}"


def _in_order(conditions: Sequence[Condition]) -> list[Condition]:
    """Who first, then since when."""
    order = {name: place for place, name in enumerate(_ACTIONS)}
    names = {"platform": -1}
    return sorted(
        conditions, key=lambda one: (one.column in _DAYS, names.get(one.column, order.get(one.column, 9)))
    )


def _action(conditions: Sequence[Condition]) -> str:
    known = [one.column for one in conditions if one.column in _ACTIONS]
    if not known:
        return _OTHER_ACTION
    order = list(_ACTIONS)
    chosen = sorted(known, key=lambda name: (name in _DAYS, order.index(name)))
    said = _ACTIONS[chosen[0]]
    days = [one for one in conditions if one.column in _DAYS]
    if days and chosen[0] not in _DAYS:
        said += f", {in_words(days[0])}"
    return said
