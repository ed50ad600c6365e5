"""Plain lines straight to typed columns: each value in a short form that most values have, or as `fitted`.

Nothing is judged here. A value that does not fit is null, so that its line fills fewer fields than its weight
says and is read again with care.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from sqlglot import exp

from exp_pipeline.model.sources import Source
from exp_pipeline.transform.door import DoorShape, duck, fitted
from exp_pipeline.transform.mapping import source_columns

# Under these names stands the place of a plain line in table `parsed`: no column of a source may have them.
ROW, PLACE = "exp:row_number", "exp:place"
_PLACE = (
    exp.column(ROW, table="p", quoted=True).as_("row_number"),
    exp.column(PLACE, table="p", quoted=True).as_("byte_offset"),
)
_PARSED = exp.to_table("parsed").as_("p")
_CARRIED = (
    *("varchar", "text", "boolean", "tinyint", "smallint", "int", "bigint", "ubigint"),
    *("float", "double", "date", "timestamp", "timestampntz", "timestamptz"),
)
# Each form gives what `fitted` gives for every value that it takes; the others go on to `fitted`.
_SHORT = {
    "BIGINT": "when cast(try_cast(x as bigint) as varchar) = x then try_cast(x as bigint)",
    "DOUBLE": "when isfinite(try_cast(x as double)) and not contains(x, '_') then try_cast(x as double)",
    "BOOLEAN": "when x = 'true' then true when x = 'false' then false",
    "TIMESTAMP": "when ends_with(x, 'Z') and strlen(x) between 20 and 27 and x[11] = 'T' "
    "and try_cast(x as timestamp) between timestamp '1900-01-01' and timestamp '2200-01-01' "
    "then try_cast(x as timestamp)",
}


def plain_kinds(source: Source, shape: DoorShape) -> dict[str, str]:
    """Which columns plain lines of a source may fill, with the types that these columns get."""
    if not source.identity:
        return source_columns(source, shape)
    return {**shape.types, **{reduction.text: "VARCHAR" for reduction in shape.reductions}}


def all_carried(source: Source, shape: DoorShape) -> bool:
    """Whether every column of a source comes out of an Arrow table as it went in."""
    return all(map(_carried, plain_kinds(source, shape).values()))


@lru_cache(maxsize=1024)
def _carried(kind: str) -> bool:
    return exp.DataType.build(kind, dialect="duckdb").is_type(*_CARRIED)


def plain_values(source: Source, shape: DoorShape, present: Sequence[str]) -> list[exp.Expr]:
    """The columns `present`, read as text, in their types; null where a value does not fit.

    Texts stay as they are: an empty one, which is no value, is made null after (few columns hold any).
    """
    kinds = plain_kinds(source, shape)
    found = []
    for name in present:
        zone = source.zone_of(name) if source.identity else "UTC"
        value: exp.Expr = exp.column(name, quoted=True)
        if kinds[name] != "VARCHAR":
            value = short_or_fitted(name, kinds[name], zone)
        found.append(value.as_(name, quoted=True))
    return found


def short_or_fitted(name: str, kind: str, zone: str) -> exp.Expr:
    """A text column in its type: by the short form of that type, else as `fitted`."""
    own = exp.column(name, quoted=True)
    whole = fitted(own, "VARCHAR", kind, zone)
    if kind not in _SHORT:
        return whole
    form = duck(f"case when x is null then null {_SHORT[kind]} end").transform(
        lambda node: own.copy() if isinstance(node, exp.Column) and node.name == "x" else node
    )
    if not isinstance(form, exp.Case):
        raise TypeError(f"the short form of {kind} is no case")
    return form.else_(whole, copy=False)


def _columns(result: exp.Select, kinds: Mapping[str, str], present: Sequence[str]) -> exp.Select:
    for name, kind in kinds.items():
        value: exp.Expr = exp.cast(exp.null(), exp.DataType.build(kind, dialect="duckdb"))
        if name in present:
            value = exp.cast(exp.column(name, table="p", quoted=True), value.args["to"].copy())
        result.append("expressions", value.as_(name, quoted=True))
    return result


def raw_from_plain(source: Source, shape: DoorShape, present: Sequence[str]) -> exp.Select:
    """Plain lines of a mapped source (table `parsed`, with the place of each) to columns of `raw`."""
    result = exp.select(*_PLACE).select(exp.cast(exp.null(), "varchar").as_("extra"))
    result = _columns(result, source_columns(source, shape), present)
    return result.select(exp.cast(exp.null(), "varchar").as_("reason")).from_(_PARSED.copy(), copy=False)


def typed_from_plain(shape: DoorShape, present: Sequence[str]) -> exp.Select:
    """Plain lines of canonical events to columns of `typed`, those of a shape (see `door.narrowed`)."""
    texts = {reduction.text: "VARCHAR" for reduction in shape.reductions}
    result = exp.select(exp.Literal.number(1).as_("part"), *_PLACE).select(
        exp.cast(exp.null(), "varchar").as_("extra")
    )
    result = _columns(result, {**shape.types, **texts}, present)
    return result.select(exp.cast(exp.null(), "varchar").as_("reason")).from_(_PARSED.copy(), copy=False)
