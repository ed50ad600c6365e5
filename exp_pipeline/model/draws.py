"""A draw: which units got which arm, once, by which design and seed, and how well the arms are balanced."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Self

from pydantic import Field, model_validator

from exp_pipeline.model.base import Noun
from exp_pipeline.model.names import Slug

Method = Literal["simple", "stratified", "blocked", "matched"]


class DrawDesign(Noun):
    """How arms are drawn for a list of units.

    `simple`: each unit for itself. `stratified`: a random order within each stratum, with the arms' planned
    numbers to less than one unit, in each stratum and over all. `blocked`: permuted blocks of `block` units
    within each stratum, in the order of the list. `matched`: units alike in `match` are put together, as many
    as there are arms, and each of them gets another arm. `strata`, `match` and `clusters` name columns of the
    list; with `clusters` the clusters are drawn, not the rows.
    """

    method: Method = "stratified"
    strata: tuple[str, ...] = ()
    match: tuple[str, ...] = ()
    clusters: str | None = None
    block: int | None = Field(default=None, ge=2, le=1000)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.method == "blocked") != (self.block is not None):
            raise ValueError("block belongs to the method blocked, and blocked needs it")
        if (self.method == "matched") != bool(self.match):
            raise ValueError("match belongs to the method matched, and matched needs it")
        if self.method == "simple" and self.strata:
            raise ValueError("strata have no part in the method simple")
        return self


class ArmCount(Noun):
    """Units of one arm in one stratum (or in all, where `stratum` is null) against the planned number."""

    stratum: str | None
    arm: str
    units: int = Field(ge=0)
    planned: float = Field(ge=0)


class ColumnBalance(Noun):
    """Mean of one numeric column of the list in one arm, and its distance from control.

    `standardised_difference` is over the standard deviation of all units; null where that is 0.
    """

    column: str
    arm: str
    mean: float
    standardised_difference: float | None = None


class Draw(Noun):
    """The record of a draw; it is made once for each version of an experiment and never again.

    `inputs_digest` is of the list, the shares and the design; `table_digest` of the table's rows (by
    pseudonym). `members`
    are rows of the list where clusters were drawn. `left_out` counts units that layer or holdout exclude.
    """

    experiment: Slug
    version: int = Field(ge=1)
    unit_type: str
    design: DrawDesign
    seed: int = Field(ge=0)
    shares: dict[str, float]
    inputs_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    table_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    code_version: str
    drawn_at: datetime
    units: int = Field(ge=1)
    members: int | None = None
    left_out: dict[str, int] = Field(default_factory=dict)
    counts: tuple[ArmCount, ...] = ()
    balance: tuple[ColumnBalance, ...] = ()
