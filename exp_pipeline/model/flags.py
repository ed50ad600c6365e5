"""A flag: what a product asks to learn which arm a unit gets, and whether it is in the experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import AwareDatetime, Field, JsonValue

from exp_pipeline.model.base import Noun

# Names of variants that no arm can have: arms are slugs and hold no underscore.
NOT_ENROLLED, SHIPPED = "not_enrolled", "shipped_arm"
# What of a brief decides who gets which arm: taken as locked, whatever stands in the file by now.
ASSIGNMENT_FIELDS = (
    "version", "hash_scheme", "assignment", "randomisation_unit", "arms", "control", "layer", "holdout",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Draw:
    """One draw of units into 10,000 buckets, of which those from `first` to before `end` are meant.

    scheme: the hash. seed: the text that stands before a unit's id. name: what a product that hashes itself
    calls this bucket.
    """

    name: str
    scheme: str
    seed: str
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class FlagSpec:
    """Everything that a flag says, before it is written in the words of a flag service.

    inside: draws that a unit must all be in to be enrolled. shipped: the arm that is shipped, to units that
    are in all of `shipped_to` and, where `shipped_where` names columns, have a value of one of them.
    on: False serves nobody but control's experience. sequence: of the last transition that it follows.
    """

    key: str
    experiment: str
    version: int
    unit: str
    scheme: str
    shares: Mapping[str, float]
    control: str
    on: bool
    status: str
    phase: str
    stage: int
    traffic: float
    sequence: int = 0
    inside: tuple[Draw, ...] = ()
    shipped: str | None = None
    shipped_to: tuple[Draw, ...] = ()
    shipped_where: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Publication(Noun):
    """One version of the published flags: whole documents, so that any process writes the same bytes.

    `content_digest` is of what they say, without version and time; `changes` are the ramp transitions since
    the version before.
    """

    version: int = Field(ge=1)
    published_at: AwareDatetime
    content_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    changes: tuple[dict[str, JsonValue], ...] = ()
    flagd: dict[str, JsonValue]
    growthbook: dict[str, JsonValue]
