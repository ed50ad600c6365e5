"""Layers: which experiments must never meet in one unit, and which units no experiment may touch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal, Self

from pydantic import Field, model_validator

from exp_pipeline.model.base import Noun
from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.names import Identifier, Slug

LAYER_BUCKETS = 10_000
_MEASURED_BY = {"metrics", "since", "until"}


class LayerPlace(Noun):
    """One experiment's part of a layer: `buckets` from the first number to before the second."""

    experiment: Slug
    buckets: tuple[int, int]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        first, end = self.buckets
        if not 0 <= first < end <= LAYER_BUCKETS:
            raise ValueError(
                f"buckets must be [first, end) with 0 <= first < end <= {LAYER_BUCKETS}: {first}, {end}"
            )
        return self

    @property
    def share(self) -> float:
        """Which share of all units the experiment may have (0 to 1)."""
        return (self.buckets[1] - self.buckets[0]) / LAYER_BUCKETS


class Layer(Noun):
    """A draw of all units into 10,000 buckets, of its own salt.

    `exclusive`: each experiment of the layer has a range of buckets; ranges of experiments that run at the
    same time are disjoint, so a unit is in at most one of them. `holdout`: the first `share` of the buckets
    belongs to no experiment at all. Changing the salt draws everybody anew. `hash_scheme` is the hash that
    the product draws the layer with.

    How a holdout is measured: `metrics` by name (none named: the north star), from the day `since` on (None:
    from its first day of data) until before the day `until` (None: for as long as data come).
    """

    name: Slug
    title: str = ""
    owner: str = ""
    kind: Literal["exclusive", "holdout"] = "exclusive"
    unit: Literal["learner", "class"] = "learner"
    salt: str = Field(default="", max_length=200, pattern=r"^[^|]*$")
    hash_scheme: Literal["sha256-v1", "flagd", "flagd-v2", "flagd-v1", "growthbook"] = "sha256-v1"
    share: float | None = Field(default=None, gt=0, lt=1)
    experiments: tuple[LayerPlace, ...] = ()
    metrics: tuple[Identifier, ...] = ()
    since: date | None = None
    until: date | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind == "holdout":
            if self.share is None:
                raise ValueError("share is required where kind is holdout: the share of units held out")
            if abs(self.share * LAYER_BUCKETS - round(self.share * LAYER_BUCKETS)) > 1e-6:
                raise ValueError(f"share must be a whole number of ten-thousandths: {self.share:g}")
            if self.experiments:
                raise ValueError("experiments must be empty where kind is holdout: no experiment is in it")
        elif self.share is not None:
            raise ValueError("share belongs to kind: holdout; an exclusive layer has buckets instead")
        elif self.metrics or self.since is not None or self.until is not None:
            raise ValueError("metrics, since and until belong to kind: holdout; no other layer is measured")
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"metrics must be named once each: {', '.join(self.metrics)}")
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise ValueError(f"until must come after since: {self.since} to {self.until}")
        names = [place.experiment for place in self.experiments]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"experiments must be named once each: {', '.join(twice)}")
        return self

    def place_of(self, experiment: str) -> LayerPlace | None:
        """The experiment's part of the layer; None where it has none."""
        return next((place for place in self.experiments if place.experiment == experiment), None)

    def held_out(self) -> int:
        """How many of the first buckets are held out; 0 for an exclusive layer."""
        return round((self.share or 0.0) * LAYER_BUCKETS) if self.kind == "holdout" else 0

    def digest(self) -> str:
        """SHA-256 of what decides where units belong; how a holdout is measured changes no experiment."""
        return digest_of(self.model_dump(mode="json", exclude=_MEASURED_BY))

    def draw(self) -> str:
        """What the layer's draw depends on, as one text: its hash and its salt."""
        return f"{self.hash_scheme}:{self.salt or self.name}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds one experiment's units: the layer that it is in, and the holdout that it keeps to."""

    layer: Layer | None = None
    holdout: Layer | None = None

    def share(self, experiment: str) -> float:
        """Which share of all units the experiment may have, before its traffic share."""
        place = None if self.layer is None else self.layer.place_of(experiment)
        whole = 0.0 if self.layer is not None and place is None else 1.0
        inside = whole if place is None else place.share
        return inside * (1.0 - self.held_out() / LAYER_BUCKETS)

    def layer_range(self, experiment: str) -> tuple[int, int] | None:
        """The experiment's buckets in its layer, first and end; (0, 0) where the layer gives it none."""
        if self.layer is None:
            return None
        place = self.layer.place_of(experiment)
        return (0, 0) if place is None else place.buckets

    def held_out(self) -> int:
        """How many of the holdout's first buckets are held out."""
        return 0 if self.holdout is None else self.holdout.held_out()

    def draws(self) -> str | None:
        """What the buckets in layer and holdout depend on, as `hash:salt|hash:salt`; None without either."""
        if self.layer is None and self.holdout is None:
            return None
        return "|".join("" if one is None else one.draw() for one in (self.layer, self.holdout))
