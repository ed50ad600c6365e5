"""Sources: how somebody else's files become canonical events."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from exp_pipeline.model.base import Noun
from exp_pipeline.model.names import Identifier, Slug


class EventRule(Noun):
    """One event made from a raw row, where `when` holds (always, if left out).

    Values are SQL expressions over the raw columns: a column name, a 'constant' in quotes, or a call of an
    allowed function.
    """

    event_name: str
    when: str | None = None
    fields: dict[Identifier, str] = Field(default_factory=dict)


class Source(Noun):
    """A glob of files in the landing folder and the mapping of their rows to canonical events.

    `columns` names the raw columns that are read, with their types; a column that is not named is kept in
    `extra`. With `identity: true` the file already holds canonical events and nothing is mapped. With
    `history: true` the files bring an older log: lateness is judged by each row's own `received_at`, not by
    the day on which the file landed. Expressions may also use `row_number` (from 1).
    """

    name: Slug
    description: str = ""
    owner: str = ""
    files: str
    format: Literal["ndjson", "csv", "parquet"]
    identity: bool = False
    history: bool = False
    unnest: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    time_zone: str = "UTC"
    fields: dict[Identifier, str] = Field(default_factory=dict)
    events: tuple[EventRule, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.identity and (self.fields or self.events):
            raise ValueError("a source with identity: true maps nothing; leave out `fields` and `events`")
        if not self.identity and not self.events:
            raise ValueError("a source that maps needs at least one entry in `events`")
        return self
