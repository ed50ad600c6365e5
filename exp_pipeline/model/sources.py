"""Sources: how somebody else's files become canonical events."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from exp_pipeline.model.base import Noun
from exp_pipeline.model.names import Identifier

# Columns that no file holds: the row's place in its file, and the element that `unnest` took from a list.
ROW_NUMBER, ITEM = "row_number", "item"
# A row that its source leaves out on purpose: this prefix, and the rule's own reason.
IGNORED = "ignored_by_source"
_RESERVED = ("byte_offset", "reason", "extra")

SourceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Constant = str | int | float | bool
OneCharacter = Annotated[str, StringConstraints(min_length=1, max_length=1)]
OneCharacterOrNone = Annotated[str, StringConstraints(max_length=1)]


class Filling(Noun):
    """What fills the fields of events.

    `fields` are SQL expressions over the raw columns: a column name, a call of an allowed function, ...;
    `constants` are values as they stand. A field is in one of them at most.
    """

    constants: dict[Identifier, Constant] = Field(default_factory=dict)
    fields: dict[Identifier, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _once(self) -> Self:
        if both := sorted(set(self.constants) & set(self.fields)):
            raise ValueError(f"constants and fields both fill: {', '.join(both)}")
        return self


class EventRule(Filling):
    """One event made from a raw row, where `when` holds (always, if left out).

    Its own `fields` and `constants` come before those of the source.
    """

    event_name: str
    when: str | None = None


class IgnoreRule(Noun):
    """Rows that the source leaves out on purpose: excluded as `ignored_by_source:<reason>`, and counted."""

    reason: Identifier
    when: str


class CsvFormat(Noun):
    """How a CSV file is written. What is left out has the default, and is not guessed.

    `quote` and `escape` may be empty: then no character quotes.
    `header`: whether the first line read names the columns, or the names themselves for a file without such a
    line. `null_text`: texts that mean "no value" (a field with nothing in it always does). `skip_rows`: lines
    before the header.
    """

    delimiter: OneCharacter = ","
    quote: OneCharacterOrNone = '"'
    escape: OneCharacterOrNone = '"'
    header: bool | tuple[str, ...] = True
    null_text: tuple[str, ...] = ()
    encoding: Literal["utf-8", "latin-1", "utf-16"] = "utf-8"
    skip_rows: int = Field(default=0, ge=0, le=1_000)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.header is False:
            raise ValueError("header: false leaves the columns without names; list the names instead")
        return self


class SourceSessions(Noun):
    """Where sessions of this source's events differ from the session policy."""

    cut_on_objective: bool = True


class Source(Filling):
    """A glob of files in the landing folder and the mapping of their rows to canonical events.

    `columns` names the raw columns that are read, with their types; a column that is not named is kept in
    `extra`. A CSV or Parquet file must have them all, but for those in `optional`. With `identity: true` the
    file already holds canonical events and nothing is mapped. With `history: true` the files bring an older
    log: lateness is judged by each row's own `received_at`, not by the day on which the file landed. With
    `correction: true` they bring events again, corrected: the newest one takes the place of every other copy.

    Two columns are ours to fill, and expressions may use them once `columns` declares them: `row_number`, the
    row's place in its file (from 1), and, with `unnest`, `item`. `unnest` is an expression that gives a list;
    each of its elements becomes a row of its own, with all columns of the raw row and the element in `item`,
    read as the type that `columns` gives to `item`. A raw row whose list is empty or missing makes no event.

    A row makes the event that `event_names` gives for its value of the expression `event_name`, and one for
    each rule of `events` whose `when` holds. A row that makes none is quarantined as `no_event_rule`, unless
    a rule of `ignore` leaves it out on purpose. `constants` and `fields` fill the fields of every event;
    `values` then replaces what a field holds by our word for it: the one listed for it, or the one for `*`
    (any other value), or else it stays. Times without a zone are read in `time_zone`, or in the zone that
    `time_zones` gives for that field.

    `session` says where sessions of these events follow another rule than the policy's.

    Of what is kept in `extra`, only plain numbers and flags stay readable; every text there becomes an HMAC,
    unless `extra_keep` names its key as one that never holds a text of or about a person.
    """

    name: SourceName
    description: str = ""
    owner: str = ""
    files: str
    format: Literal["ndjson", "csv", "parquet"]
    csv: CsvFormat | None = None
    identity: bool = False
    history: bool = False
    correction: bool = False
    unnest: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    optional: tuple[str, ...] = ()
    time_zone: str = "UTC"
    time_zones: dict[Identifier, str] = Field(default_factory=dict)
    ignore: tuple[IgnoreRule, ...] = ()
    event_name: str | None = None
    event_names: dict[str, str] = Field(default_factory=dict)
    values: dict[Identifier, dict[str, Constant]] = Field(default_factory=dict)
    events: tuple[EventRule, ...] = ()
    session: SourceSessions = SourceSessions()
    extra_keep: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.identity and (self.fields or self.events):
            raise ValueError("a source with identity: true maps nothing; leave out `fields` and `events`")
        mapping = (
            "constants",
            "values",
            "event_name",
            "event_names",
            "ignore",
            "unnest",
            "time_zones",
            "columns",
        )
        if self.identity and (written := [name for name in mapping if getattr(self, name)]):
            raise ValueError(
                f"a source with identity: true maps nothing; leave out {', '.join(f'`{n}`' for n in written)}"
            )
        if not self.identity and not self.events and not self.event_names:
            raise ValueError("a source that maps needs at least one entry in `events` or in `event_names`")
        if bool(self.event_names) != (self.event_name is not None):
            raise ValueError(
                "event_name and event_names belong together: the expression that gives the producer's name, "
                "and our event for each of its values"
            )
        if self.csv is not None and self.format != "csv":
            raise ValueError(f"csv is for format: csv, and this source has format {self.format}")
        if self.unnest is not None and ITEM not in self.columns:
            raise ValueError("`unnest` needs the type of one element: declare `item` in `columns`")
        if stray := [name for name in self.optional if name not in self.file_columns()]:
            raise ValueError(f"optional names what `columns` does not declare: {', '.join(stray)}")
        taken = [name for name in self.columns if name.lower() in _RESERVED]
        if taken:
            raise ValueError(
                f"`columns` cannot declare {', '.join(taken)}: these names are in use here; "
                "leave it out, and the column is kept in `extra`"
            )
        return self

    def claims(self, relative: str) -> bool:
        """Whether `files` matches the path of a file below the landing folder."""
        return fnmatchcase(relative, self.files)

    def spelled(self) -> int:
        """How many characters of a path `files` spells out: the source that says most reads a file."""
        return sum(character not in "*?[]" for character in self.files)

    def file_columns(self) -> dict[str, str]:
        """The declared columns that a file must hold, with their types."""
        ours = {ROW_NUMBER} if self.unnest is None else {ROW_NUMBER, ITEM}
        return {name: kind for name, kind in self.columns.items() if name not in ours}

    def missing_from(self, present: Collection[str]) -> tuple[str, ...]:
        """The declared columns that a table has to have and lacks, in order."""
        return tuple(
            name for name in self.file_columns() if name not in present and name not in self.optional
        )

    def zone_of(self, field: str) -> str:
        """The time zone of a canonical time field whose value names none."""
        return self.time_zones.get(field, self.time_zone)

    def makers(self) -> int:
        """How many events one raw row (or element of its list) may become at most."""
        return len(self.events) + bool(self.event_names)

    def expressions(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Every expression of the mapping with its place in the document, such as ("events", 0, "when")."""
        if self.unnest is not None:
            yield ("unnest",), self.unnest
        for position, ignored in enumerate(self.ignore):
            yield ("ignore", position, "when"), ignored.when
        if self.event_name is not None:
            yield ("event_name",), self.event_name
        for name, text in self.fields.items():
            yield ("fields", name), text
        for position, rule in enumerate(self.events):
            if rule.when is not None:
                yield ("events", position, "when"), rule.when
            for name, text in rule.fields.items():
                yield ("events", position, "fields", name), text

    def filled(self, rule: EventRule | None = None) -> frozenset[str]:
        """The canonical fields that an event of this rule has a value for, `event_name` among them."""
        own = {*rule.fields, *rule.constants} if rule is not None else set()
        return frozenset({"event_name", *self.fields, *self.constants, *own})
