"""How many different units have come by each day, and how many more will."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
_WEEK = 7


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """On which days of history was each unit seen?

    unit: (n,) numbers from 0, day: (n,) days since the first of `days` days, each unit and day once. weight:
    (units,) how many units of analysis enter with each (a class brings its learners). first: date of day 0.
    """

    unit: NDArray[np.int64]
    day: NDArray[np.int64]
    weight: FloatArray
    first: date
    days: int

    @classmethod
    def of(
        cls, unit: ArrayLike, day: ArrayLike, *, first: date, days: int, weight: ArrayLike | None = None
    ) -> Visits:
        """From one row a unit and day, units by any label; labels in order give the order of `weight`."""
        labels, codes = np.unique(np.asarray(unit), return_inverse=True)
        when = np.asarray(day, dtype=np.int64)
        if codes.shape != when.shape or when.ndim != 1:
            raise ValueError(f"unit and day must be one-dimensional and of one length, got {when.shape}")
        if days < 1 or (when.size and (when.min() < 0 or when.max() >= days)):
            raise ValueError(f"day must lie between 0 and {days} (excluded), and days be at least 1")
        pairs = np.unique(codes.astype(np.int64) * days + when)
        own = np.ones(labels.size) if weight is None else np.asarray(weight, dtype=np.float64)
        if own.shape != labels.shape:
            raise ValueError(f"weight must have one number for each of {labels.size} units, got {own.shape}")
        return cls(pairs // days, pairs % days, own, first, days)


@dataclass(frozen=True, slots=True)
class EnrolmentCurve:
    """How many units have come by the end of each day since the start?

    cumulative: (days,) expected distinct units, first as history counts them, then extrapolated.
    observed_days: how many of them are history's own. most: units that will ever come, as far as history
    tells; a lower bound. aligned: whether history starts on the weekday of the start.
    """

    cumulative: tuple[float, ...]
    observed_days: int
    most: float
    aligned: bool

    def units(self, days: int) -> float:
        """How many units have come once so many days are over?"""
        if days <= 0:
            return 0.0
        return self.cumulative[min(days, len(self.cumulative)) - 1]


def enrolment_curve(visits: Visits, *, start: date, days: int, closed: Sequence[date] = ()) -> EnrolmentCurve:
    """How many different units would enter an experiment that starts on `start`, by each of `days` days?

    A unit enters on the first open day on which it comes; who comes on a `closed` day enters on the next day
    that it comes. The days of history stand for those of the experiment, from the first that has the
    weekday of `start`. Past history's end, units not seen yet are added as the species-accumulation curve
    of Chao and others (2014, equation 18, incidence data) says: their number is Chao's estimate from how many
    came on one and on two days only, and they come the faster the busier the weekday. Units that will be new
    to the product are in it only as far as newcomers were in history.
    """
    if days < 1:
        raise ValueError(f"days must be at least 1, got {days}")
    shift = (start.weekday() - visits.first.weekday()) % _WEEK
    aligned = visits.days - shift >= _WEEK
    shift = shift if aligned else 0
    length = visits.days - shift
    shut = {(day - start).days for day in closed}
    kept = visits.day >= shift
    unit, day = visits.unit[kept], visits.day[kept] - shift
    is_open = np.array([offset not in shut for offset in range(max(length, days))])
    entry = np.full(visits.weight.size, length, dtype=np.int64)
    counted = is_open[day]
    np.minimum.at(entry, unit[counted], day[counted])
    came = np.bincount(entry, weights=visits.weight, minlength=length + 1)[:length]
    observed = np.cumsum(came)[: min(length, days)]
    unseen, rate = _unseen(unit, visits.weight, length)
    # Who came in history but on closed days only comes later, like the unseen.
    waiting = float(visits.weight[np.unique(unit)].sum()) - float(came.sum())
    left = unseen + waiting
    total = np.empty(days)
    total[: observed.size] = observed
    if days > length:
        busy = _weekday_share(unit, day, visits.weight, length, start)
        effort = np.array(
            [busy[(start + timedelta(days=at)).weekday()] * is_open[at] for at in range(length, days)]
        )
        total[length:] = came.sum() + left * -np.expm1(np.log1p(-rate) * np.cumsum(effort))
    return EnrolmentCurve(
        cumulative=tuple(float(value) for value in total),
        observed_days=min(length, days),
        most=float(came.sum() + left),
        aligned=aligned,
    )


def _unseen(unit: NDArray[np.int64], weight: FloatArray, days: int) -> tuple[float, float]:
    """How many units (weighted) have not come yet, and which share of them comes on one more day."""
    if not unit.size:
        return 0.0, 0.0
    times = np.bincount(unit, minlength=weight.size)
    once, twice = float(np.sum(times == 1)), float(np.sum(times == 2))
    scale = float(weight[times > 0].mean())
    if days < 2 or once == 0.0:
        return 0.0, 0.5
    part = (days - 1.0) / days
    # Chao (1987), the bias-corrected form where nobody came exactly twice.
    number = part * once**2 / (2.0 * twice) if twice else part * once * (once - 1.0) / 2.0
    if number <= 0.0:
        return 0.0, 0.5
    return number * scale, once / (days * number + once)


def _weekday_share(
    unit: NDArray[np.int64], day: NDArray[np.int64], weight: FloatArray, days: int, start: date
) -> FloatArray:
    """How busy each weekday is against the mean day; a weekday that history lacks counts as a mean day."""
    by_day = np.bincount(day, weights=weight[unit], minlength=days)[:days]
    weekdays = np.array([(start + timedelta(days=offset)).weekday() for offset in range(days)])
    share = np.ones(_WEEK)
    mean = float(by_day.mean())
    for weekday in range(_WEEK):
        own = by_day[weekdays == weekday]
        if own.size and mean > 0.0:
            share[weekday] = float(own.mean()) / mean
    return share
