"""What a mapping leaves aside: columns that nothing reads, names of events that it does not list."""

from __future__ import annotations

from sqlglot import exp

from exp_pipeline.model.sources import Source
from exp_pipeline.transform.door import duck
from exp_pipeline.transform.mapping import columns_read, ignored_reason, rows_of
from exp_pipeline.transform.raw_expressions import expression


def unread_columns(source: Source) -> tuple[str, ...]:
    """The declared columns of the file that no expression of the source reads, in order."""
    read = columns_read(source)
    if source.unnest is not None:
        read |= {column.parts[0].name for column in duck(source.unnest).find_all(exp.Column)}
    return tuple(name for name in source.file_columns() if name not in read)


def unlisted_names(source: Source) -> exp.Select:
    """Rows of `raw` (or of `raw_items`) whose event name `event_names` does not list: name, and how many.

    Raises ValueError for a source without `event_name`.
    """
    if source.event_name is None:
        raise ValueError(f"source {source.name} has no `event_name`")
    name = exp.cast(expression(source.event_name, source), "varchar")
    listed = exp.In(this=name.copy(), expressions=[exp.Literal.string(one) for one in source.event_names])
    counted = (
        exp.select(name.as_("name"), duck("count(*)").as_("raw_rows"))
        .from_(rows_of(source), copy=False)
        .where(exp.and_(duck("reason is null"), exp.not_(exp.paren(name.copy()).is_(exp.null()))))
        .where(exp.not_(listed))
        .group_by(name.copy())
    )
    if (ignored := ignored_reason(source)) is not None:
        counted = counted.where(exp.paren(ignored).is_(exp.null()))
    return counted
