"""Sources: how somebody else's files become canonical events."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from exp_pipeline.model.base import Noun
from exp_pipeline.model.names import Identifier, Slug

# Columns that no file holds: the row's place in its file, and the element that `unnest` took from a list.
ROW_NUMBER, ITEM = "row_number", "item"
_RESERVED = ("byte_offset", "reason", "extra")


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
    the day on which the file landed.

    Two columns are ours to fill, and expressions may use them once `columns` declares them: `row_number`, the
    row's place in its file (from 1), and, with `unnest`, `item`. `unnest` is an expression that gives a list;
    each of its elements becomes a row of its own, with all columns of the raw row and the element in `item`,
    read as the type that `columns` gives to `item`. A raw row whose list is empty or missing makes no event.
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
        if self.identity and self.unnest is not None:
            raise ValueError("a source with identity: true maps nothing; leave out `unnest`")
        if self.unnest is not None and ITEM not in self.columns:
            raise ValueError("`unnest` needs the type of one element: declare `item` in `columns`")
        taken = [name for name in self.columns if name.lower() in _RESERVED]
        if taken:
            raise ValueError(
                f"`columns` cannot declare {', '.join(taken)}: these names are in use here; "
                "leave it out, and the column is kept in `extra`"
            )
        return self

    def file_columns(self) -> dict[str, str]:
        """The declared columns that a file must hold, with their types."""
        ours = {ROW_NUMBER} if self.unnest is None else {ROW_NUMBER, ITEM}
        return {name: kind for name, kind in self.columns.items() if name not in ours}
