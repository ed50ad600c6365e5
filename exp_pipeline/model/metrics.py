"""Measures and metrics as people write them in `data/catalog/metrics`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, model_validator

from exp_pipeline.model.base import Noun
from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.names import Identifier

MetricType = Literal[
    "mean",
    "proportion",
    "ratio",
    "count_rate",
    "quantile",
    "retention",
    "funnel",
    "first_time_to",
    "gain",
    "composite",
    "cost_per_outcome",
]
Aggregate = Literal["count", "sum", "max", "min", "first", "last", "distinct", "values", "histogram"]
Estimand = Literal["mean", "proportion", "ratio", "quantile"]
Display = Literal["share", "number", "ms", "usd", "minutes", "hours", "days"]

MOST_BINS = 512


class Bins(Noun):
    """The bins of a histogram: log-spaced from `low` to `high`, or between explicit `edges`.

    A bin includes its lower edge. Values below the first edge and from the last edge on are counted apart, so
    none is lost. Log-spaced edges are rounded to six significant digits: what is written is what is compared.
    """

    low: float | None = Field(default=None, gt=0)
    high: float | None = Field(default=None, gt=0)
    per_decade: int = Field(default=40, ge=1, le=200)
    edges: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.edges:
            if self.low is not None or self.high is not None or "per_decade" in self.model_fields_set:
                raise ValueError("edges stand alone: leave out low, high and per_decade")
        elif self.low is None or self.high is None:
            raise ValueError("give low and high (both more than 0), or edges")
        found = self.boundaries()
        if not 2 <= len(found) <= MOST_BINS + 1:
            raise ValueError(f"edges must make 1 to {MOST_BINS} bins; these make {max(len(found) - 1, 0)}")
        if any(after <= before for before, after in pairwise(found)):
            raise ValueError("edges must rise, each above the one before, and low must lie below high")
        return self

    def boundaries(self) -> tuple[float, ...]:
        """Every edge, rising: one more than there are bins."""
        if self.edges or self.low is None or self.high is None:
            return self.edges
        steps = max(1, math.ceil(round(math.log10(self.high / self.low) * self.per_decade, 9)))
        ratio = math.log(self.high / self.low) / steps
        inner = (float(f"{self.low * math.exp(ratio * step):.6g}") for step in range(1, steps))
        return (self.low, *inner, self.high)

    def relative_error(self) -> float | None:
        """How far, as a share of itself, a quantile may lie from the true one; None with edges not above 0.

        The true quantile lies in the same bin, so no further away than the bin is wide.
        """
        found = self.boundaries()
        if found[0] <= 0:
            return None
        return max(after / before - 1.0 for before, after in pairwise(found))


class Measure(Noun):
    """An additive fact per unit and day, over filtered events or over the sessions that started that day.

    `where` and `of` are expressions over the columns of the table that `over` names. Aggregates:
    count: rows. sum, max, min: of a number. distinct: the different values of `of`. first, last: the time of
    the first or last row (an event's `occurred_at`, a session's `started_at`), so they take no `of`.
    values: every single value, sorted, for quantiles that must know which unit each value came from.
    histogram: how many values fall into each of the `bins`, for quantiles of what is too many to keep.
    All of them merge: a bout's into a day's, a day's into a unit's. A mean is a metric of type ratio over a
    sum and a count.
    `keep` says on which days it is summed up: always, or from when a brief first asks for it (by a metric or
    a covariate) on; the days before are then a backfill.
    """

    name: Identifier
    description: str
    over: Literal["events", "sessions"] = "events"
    events: tuple[str, ...] = ()
    where: str | None = None
    aggregate: Aggregate = "count"
    of: str | None = None
    bins: Bins | None = None
    keep: Literal["always", "asked"] = "always"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.aggregate == "count" and self.of is not None:
            raise ValueError("`of` has no meaning for aggregate count; leave it out, or use sum or distinct")
        if self.aggregate in ("first", "last") and self.of is not None:
            raise ValueError(
                f"`of` has no meaning for aggregate {self.aggregate}: it is the time of the row; leave it out"
            )
        if self.aggregate not in ("count", "first", "last") and self.of is None:
            raise ValueError(f"aggregate {self.aggregate} needs `of`: the column or expression it aggregates")
        if (self.aggregate == "histogram") != (self.bins is not None):
            raise ValueError("`bins` go with aggregate histogram, and only with it: {low: 10, high: 100000}")
        if self.over == "sessions" and self.events:
            raise ValueError("`events` has no meaning for a measure over sessions")
        return self

    def definition_digest(self) -> str:
        """Digest of what decides the measure's values; another description needs no backfill."""
        whole = self.model_dump(mode="json", exclude={"description", "keep"})
        return digest_of({name: value for name, value in whole.items() if value is not None})


def definitions(measures: Iterable[Measure]) -> dict[str, str]:
    """What a table that carries these measures was made with: measure -> digest of its definition."""
    return {one.name: one.definition_digest()[:12] for one in sorted(measures, key=lambda one: one.name)}


class Score(Noun):
    """A score made of measures: `points` out of `out_of` (a share), or `points` alone."""

    points: Identifier
    out_of: Identifier | None = None

    def measures(self) -> tuple[str, ...]:
        """The measures a score is made of, points first."""
        return (self.points,) if self.out_of is None else (self.points, self.out_of)


class Part(Noun):
    """One part of a composite: a metric's value per unit, put on a scale from `worst` (0) to `best` (1).

    `worst` may lie above `best`, for what is to decrease. Values beyond the scale count as its end.
    `if_missing`, in the metric's own unit, stands in where a unit has no value; without it such a unit has no
    composite. `because` says why the part has its weight and scale.
    """

    metric: Identifier
    weight: float = Field(gt=0, le=1)
    worst: float
    best: float
    if_missing: float | None = None
    because: str

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.worst == self.best:
            raise ValueError(f"worst and best must differ, both are {self.worst:g}")
        return self


# Which fields each type of metric needs, and which it may have; the rest have no meaning for it.
_NEEDED: dict[MetricType, tuple[str, ...]] = {
    "mean": ("numerator",),
    "proportion": ("numerator",),
    "ratio": ("numerator", "denominator"),
    "count_rate": ("numerator", "denominator"),
    "quantile": ("numerator", "quantile"),
    "retention": ("numerator", "from_day", "window_days"),
    "funnel": ("steps", "window_days"),
    "first_time_to": ("numerator", "window_days"),
    "gain": ("pre", "post"),
    "composite": ("parts",),
    "cost_per_outcome": ("numerator", "denominator"),
}
_ALLOWED: dict[MetricType, tuple[str, ...]] = {
    "mean": ("window_days", "per"),
    "proportion": ("window_days",),
    "ratio": ("window_days", "per"),
    "count_rate": ("window_days", "per"),
    "quantile": ("window_days",),
    "retention": (),
    "funnel": (),
    "first_time_to": ("time_unit",),
    "gain": ("window_days", "pre_taken", "pre_days", "highest"),
    "composite": (),
    "cost_per_outcome": ("window_days", "per"),
}
_SHAPING = tuple(
    sorted({name for table in (_NEEDED, _ALLOWED) for names in table.values() for name in names})
)
_MEANING = {
    "denominator": "a denominator measure",
    "quantile": "`quantile`, for example 0.95",
    "from_day": "`from_day`: the first day since assignment that counts",
    "window_days": "`window_days`: how many days since assignment count",
    "steps": "`steps`: at least two measures with aggregate first, in order",
    "pre": "`pre`: the score before, such as {points: pretest_points, out_of: pretest_possible}",
    "post": "`post`: the score after",
    "parts": "`parts`: metrics with weight, worst, best and because",
    "numerator": "a numerator measure",
}
_ESTIMANDS: dict[MetricType, Estimand] = {
    "mean": "mean",
    "proportion": "proportion",
    "ratio": "ratio",
    "count_rate": "ratio",
    "quantile": "quantile",
    "retention": "proportion",
    "funnel": "proportion",
    "first_time_to": "mean",
    "gain": "mean",
    "composite": "mean",
    "cost_per_outcome": "ratio",
}


class Metric(Noun):
    """A KPI spec: turns measures into one number per unit, and says how to read it.

    Windows count UTC days since assignment, the assignment day being day 0; a metric with `window_days`
    counts only mature units, those that have had all of them. Types, each over all mature units of an arm:

    mean: `numerator` per unit. proportion: units whose numerator is above zero. ratio, count_rate: sum of
    numerators over sum of denominators, times `per`. quantile: of all values of a `values` or `histogram`
    measure. retention: units whose numerator is above zero on any day from `from_day` to the window's end.
    funnel: units that took all `steps` in order within the window; a step counts from its first time on a
    day that is not before the step taken last. first_time_to: time from assignment to the first row of the
    numerator, in `time_unit`; units that never get there count the whole window, `window_days` x 24 hours,
    and a session that was running at the assignment counts as 0.
    gain: (post - pre) / (highest - pre), of units that have both scores; `pre_taken` says whether the first
    score is from the `pre_days` before assignment or, like the second, from after it. composite: the weighted
    mean of other metrics' values per unit. cost_per_outcome: sum of costs over sum of outcomes.

    `include` and `exclude` are conditions on the context frozen at assignment (platform, locale, ...); units
    whose context is unknown are not included, and are not excluded. `drives` names the metric that this one
    is believed to move: its parent in the KPI tree. `counter_metric` is what gets worse when this one is
    gamed.
    """

    name: Identifier
    title: str
    owner: str
    definition: str
    type: MetricType
    unit: Literal["learner"] = "learner"
    numerator: Identifier | None = None
    denominator: Identifier | None = None
    per: float = Field(default=1.0, gt=0)
    quantile: float | None = Field(default=None, gt=0, lt=1)
    window_days: int | None = Field(default=None, ge=1, le=366)
    from_day: int | None = Field(default=None, ge=1, le=365)
    steps: tuple[Identifier, ...] = ()
    time_unit: Literal["hours", "days"] = "hours"
    pre: Score | None = None
    post: Score | None = None
    pre_taken: Literal["before", "after"] = "before"
    pre_days: int = Field(default=28, ge=1, le=180)
    highest: float = 1.0
    parts: tuple[Part, ...] = ()
    include: str | None = None
    exclude: str | None = None
    direction: Literal["increase", "decrease"]
    kind: Literal["north-star", "input", "output", "guardrail"]
    proximity: Literal["proximal", "distal"] = "proximal"
    heart: Literal["happiness", "engagement", "adoption", "retention", "task success"] | None = None
    display: Display = "number"
    failure_modes: tuple[str, ...] = ()
    refresh: Literal["daily", "weekly", "monthly"] = "daily"
    counter_metric: Identifier | None = None
    drives: Identifier | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        needed = _NEEDED[self.type]
        for field in needed:
            if getattr(self, field) in (None, ()):
                raise ValueError(f"type {self.type} needs {_MEANING[field]}")
        for field in _SHAPING:
            given = field in self.model_fields_set and getattr(self, field) not in (None, ())
            if given and field not in (*needed, *_ALLOWED[self.type]):
                if field == "denominator":
                    raise ValueError(f"type {self.type} has no denominator; use ratio or count_rate")
                raise ValueError(f"`{field}` has no meaning for type {self.type}; leave it out")
        if self.from_day is not None and self.window_days is not None and self.from_day >= self.window_days:
            raise ValueError(
                f"from_day must lie before the window's end: {self.from_day} of {self.window_days} days"
            )
        if self.steps and (len(self.steps) < 2 or len(set(self.steps)) < len(self.steps)):
            raise ValueError("steps must be at least two different measures")
        if self.parts:
            self._parts_fit()
        return self

    def _parts_fit(self) -> None:
        names = [part.metric for part in self.parts]
        if len(set(names)) < len(names):
            raise ValueError("parts must name different metrics")
        total = sum(part.weight for part in self.parts)
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"parts must have weights that add up to 1, they add up to {total:g}")

    @property
    def estimand(self) -> Estimand:
        """What the arms are compared in: means, shares of units, ratios of sums, or quantiles."""
        return _ESTIMANDS[self.type]

    @property
    def adds_up(self) -> bool:
        """Whether what a day adds to a unit's numerator and denominator can be told from that day alone."""
        return self.type in (
            "mean", "proportion", "ratio", "count_rate", "retention", "cost_per_outcome"
        )  # fmt: skip

    @property
    def days_needed(self) -> int | None:
        """Whole days since (and with) the assignment day that must have passed before a unit counts.

        Time to something is measured from the moment of assignment, so its last hours lie in one day more.
        """
        if self.window_days is None:
            return None
        return self.window_days + (1 if self.type == "first_time_to" else 0)

    def measures(self) -> tuple[str, ...]:
        """The measures this metric itself is made of, numerator first; a composite's parts have their own."""
        named = [self.numerator, self.denominator, *self.steps]
        for score in (self.pre, self.post):
            named += score.measures() if score is not None else ()
        return tuple(dict.fromkeys(name for name in named if name is not None))

    def pre_measures(self) -> tuple[str, ...]:
        """The measures that must be known for the days before assignment."""
        return self.pre.measures() if self.pre is not None and self.pre_taken == "before" else ()


def numerator_column(metric: str) -> str:
    """Column of the minimal analytic dataset that holds a metric's numerator (or value) per unit."""
    return f"{metric}__num"


def denominator_column(metric: str) -> str:
    """Column that holds a ratio's denominator per unit."""
    return f"{metric}__den"


def values_column(metric: str) -> str:
    """Column of a quantile metric per unit: the list of single values, or of bins (low, high, n)."""
    return f"{metric}__values"


def mature_column(metric: str) -> str:
    """Column that says whether a unit has had the whole window of the metric."""
    return f"{metric}__mature"


def included_column(metric: str) -> str:
    """Column that says whether `include` and `exclude` let a unit count; there only where one is given."""
    return f"{metric}__included"


def step_column(metric: str, step: int) -> str:
    """Column that says whether a unit took the first `step` steps of a funnel in order (from 1)."""
    return f"{metric}__step{step}"


def score_column(metric: str, which: Literal["pre", "post"]) -> str:
    """Column of a gain's score before or after; null where the unit has none."""
    return f"{metric}__{which}"


def pre_column(measure: str) -> str:
    """Column that holds a measure over the days before assignment as a number (a covariate)."""
    return f"pre__{measure}"
