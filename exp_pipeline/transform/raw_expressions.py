"""The expressions that people write in a source's mapping, in the form in which they run."""

from __future__ import annotations

from collections.abc import Mapping

import sqlglot
from sqlglot import exp

from exp_pipeline.model.sources import Source
from exp_pipeline.transform.door import duck

# Our own function in expressions, beside DuckDB's.
ATTRIBUTE = "attribute"
# Functions that, like epoch_ms, make a time without a zone out of a number.
_EPOCHS = ("make_timestamp_ms", "make_timestamp_ns", "make_timestamp_us")


def expression(text: str, source: Source) -> exp.Expr:
    """A mapping's expression as it runs: where it fails on a row it gives null, never a stopped day.

    A moment made from a number of seconds, milliseconds, ... is marked as UTC, so that the source's time zone
    does not move it. `attribute(list, 'key')` becomes a look-up in a list of OpenTelemetry attributes.
    """
    parsed = sqlglot.parse_one(text, dialect="duckdb")
    if isinstance(parsed, (exp.Column, exp.Literal)):
        return parsed
    return exp.Try(this=_rewritten(parsed, source))


def _rewritten(node: exp.Expr, source: Source) -> exp.Expr:
    """The tree with each node in its running form, from the leaves up."""
    for child in list(node.iter_expressions()):
        new = _rewritten(child, source)
        if new is not child:
            child.replace(new)
    if type(node) is exp.Cast:
        return exp.TryCast(this=node.this, to=node.args["to"])
    if isinstance(node, exp.StrToTime):
        return exp.func("try_strptime", node.this, node.args["format"], dialect="duckdb")
    called = node.name.lower() if isinstance(node, exp.Anonymous) else ""
    if called == ATTRIBUTE:
        return _attribute(*node.expressions)
    # to_timestamp, which has no scale, gives a time with a zone already.
    zoneless = called in _EPOCHS or (isinstance(node, exp.UnixToTime) and node.args.get("scale") is not None)
    if zoneless and not _of_a_time(node, source):
        return exp.func("timezone", exp.Literal.string("UTC"), node.copy(), dialect="duckdb")
    return node


def _of_a_time(call: exp.Expr, source: Source) -> bool:
    """Whether a call's arguments are times: `epoch_ms` of a time is a number, and has no zone to mark."""
    for node in call.walk():
        if isinstance(node, exp.Cast) and node.to.this in exp.DataType.TEMPORAL_TYPES:
            return True
        if isinstance(node, exp.Anonymous) and node.name.lower() in ("try_strptime", "timezone"):
            return True
        if isinstance(node, exp.Column):
            declared = source.columns.get(node.parts[0].name, "varchar").upper()
            if declared.startswith(("TIMESTAMP", "DATE")):
                return True
    return False


def _attribute(attributes: exp.Expr, key: exp.Expr) -> exp.Expr:
    """The value of one attribute as text, out of a JSON list of {key, value: {stringValue: …}}.

    Of a list of values the first; null where the key is not there.
    """
    found = duck(
        "list_extract(json_extract(a, '$[*].value'), list_position(json_extract_string(a, '$[*].key'), k))"
    )
    value = duck(
        "case when json_exists(v, '$.arrayValue') "
        "then list_extract(json_extract_string(v, '$.arrayValue.values[0].*'), 1) "
        "else list_extract(json_extract_string(v, '$.*'), 1) end"
    )
    as_json = exp.cast(attributes.copy(), "json")
    return exp.paren(_filled(value, {"v": _filled(found, {"a": as_json, "k": key})}), copy=False)


def _filled(template: exp.Expr, parts: Mapping[str, exp.Expr]) -> exp.Expr:
    def fill(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and node.name in parts:
            return parts[node.name].copy()
        return node

    return template.transform(fill)
