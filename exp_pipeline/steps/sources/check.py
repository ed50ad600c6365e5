"""Whether the mappings of sources can run: their expressions, bound to the types of the columns."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

from sqlglot import exp

from exp_pipeline.catalog import Catalog, EventFields, check_mappings, mapping_problems
from exp_pipeline.catalog.documents import Document, read_document
from exp_pipeline.catalog.references import source_references
from exp_pipeline.catalog.wording import parse_noun
from exp_pipeline.contracts.events import event_majors, event_names, event_spec
from exp_pipeline.contracts.fields import FIELDS, raw_text, reduced_texts, sql_types
from exp_pipeline.model.errors import Problem, SpecError
from exp_pipeline.model.policies import Policies
from exp_pipeline.model.sources import ROW_NUMBER, Source
from exp_pipeline.store.engine import quote
from exp_pipeline.transform.queries import query_text
from exp_pipeline.transform.raw_expressions import expression

_Place = tuple[str | int, ...]
_WANTED_TIME = "text or a time; of a number make one: epoch_ms(ms), to_timestamp(seconds)"


@cache
def event_fields() -> EventFields:
    """What a mapping may and must fill, told by the contracts."""
    types = sql_types()
    required = {}
    for name in event_names():
        each = [set(event_spec(name, major).required) for major in event_majors(name)]
        always = set.intersection(*each)
        required[name] = tuple(one for one in types if one in always and one != "event_name")
    return EventFields(
        types={**types, **dict.fromkeys(raw_text(), "VARCHAR")},
        required=required,
        allowed={name: spec.allowed for name, spec in FIELDS.items() if spec.allowed},
        reduced={text.name: (text.hmac, text.chars, text.language) for text in reduced_texts()},
    )


def source_problems(catalog: Catalog) -> tuple[Problem, ...]:
    """What is wrong with the mappings of a catalog: names, values, missing fields, and types."""
    found = list(check_mappings(catalog, event_fields()))
    for source in catalog.sources:
        document = catalog.origins["source", source.name].document
        if not any(problem.file == document.file for problem in found):
            found += _type_problems(source, document)
    return tuple(found)


def problems_of_source(source: Source, document: Document) -> tuple[Problem, ...]:
    """What is wrong with the mapping of one source that stands in no catalog."""
    found = tuple(mapping_problems(source, document, event_fields()))
    return found or tuple(_type_problems(source, document))


def _type_problems(source: Source, document: Document) -> Iterator[Problem]:
    for place, message, allowed in _type_faults(source.canonical_json()):
        yield document.problem(place, message, allowed=allowed)


@cache
def _type_faults(source_json: str) -> tuple[tuple[_Place, str, str], ...]:
    """Faults of a source's expressions that only the engine can see (given as JSON, to be found once)."""
    source = Source.model_validate_json(source_json)
    if source.identity:
        return ()
    return tuple([*_unbound(source), *_broken_rules(source)])


def _unbound(source: Source) -> Iterator[tuple[_Place, str, str]]:
    import duckdb

    columns = {**source.columns, ROW_NUMBER: source.columns.get(ROW_NUMBER, "BIGINT")}
    nothing = exp.select(*(_null(kind).as_(name, quoted=True) for name, kind in columns.items()))
    times = [name for name, kind in event_fields().types.items() if kind == "TIMESTAMP"]
    texts = dict(source.expressions())
    with duckdb.connect(":memory:") as connection:
        raw = f"with raw as ({query_text(nothing)})"
        for place, text in texts.items():
            shown = exp.select(expression(text, source).as_("x"), copy=False).from_("raw", copy=False)
            try:
                kind = str(connection.execute(f"describe {raw} {query_text(shown)}").fetchall()[0][1])
            except duckdb.Error as trouble:
                # "Binder Error: …" and the candidates that follow say nothing to an author.
                said = str(trouble).splitlines()[0].partition(": ")[2].partition(". ")[0]
                yield place, f"does not fit the columns: {said}", "an expression over the columns' types"
                continue
            if place[-1] == "when" and kind not in ("BOOLEAN", '"NULL"', "NULL"):
                yield place, f"is {kind}, not a condition", "true or false, such as kind = 'answer'"
            elif place == ("unnest",) and not kind.endswith("[]") and kind not in ("JSON", "VARCHAR"):
                yield place, f"is {kind}, not a list", "a list, or JSON that holds one"
            elif place[-2:-1] == ("fields",) and place[-1] in times and _no_time(kind):
                yield place, f"is {kind}, and {place[-1]} is a time", _WANTED_TIME


def _null(kind: str) -> exp.Expr:
    return exp.cast(exp.null(), exp.DataType.build(kind, dialect="duckdb"))


def _no_time(kind: str) -> bool:
    return not kind.startswith(("TIMESTAMP", "DATE", "VARCHAR", "JSON", '"NULL"'))


def _broken_rules(source: Source) -> Iterator[tuple[_Place, str, str]]:
    """Rules of a contract that no row of an event can keep: nothing fills the columns they ask for."""
    import duckdb

    fields = event_fields()
    made: list[tuple[_Place, str, frozenset[str]]] = [
        (("events", position, "event_name"), rule.event_name, source.filled(rule))
        for position, rule in enumerate(source.events)
    ]
    made += [(("event_names", raw), name, source.filled()) for raw, name in source.event_names.items()]
    types = sql_types(derived=True)
    with duckdb.connect(":memory:") as connection:
        for place, name, filled in made:
            known = filled.union(*(fields.reduced[text] for text in fields.reduced if text in filled))
            for rule in event_spec(name, event_majors(name)[-1]).rules:
                words = _words(rule.expression)
                asked = [one for one in types if one in words]
                if not asked or any(one in known or one == "occurred_at" for one in asked):
                    continue
                nothing = ", ".join(f"null::{types[one]} as {quote(one)}" for one in asked)
                row = connection.execute(f"select {rule.expression} from (select {nothing})").fetchone()
                if row is not None and row[0] is False:
                    yield (
                        place,
                        f"every {name} would be quarantined: {rule.meaning}",
                        f"a line for {' or '.join(asked)} in `fields` or `constants`",
                    )


@lru_cache(maxsize=1024)
def _words(text: str) -> frozenset[str]:
    import sqlglot

    return frozenset(column.name for column in sqlglot.parse_one(text, dialect="duckdb").find_all(exp.Column))


def read_source(path: Path) -> Source:
    """The source in one YAML file, wherever it lies. Raises SpecError with all its problems."""
    document = read_document(path, file=str(path))
    if isinstance(document, Problem):
        raise SpecError([document])
    source, problems = parse_noun(Source, document)
    problems += source_references(document)
    if source is not None:
        problems += problems_of_source(source, document)
    if source is None or problems:
        raise SpecError(sorted(problems, key=lambda problem: problem.line or 0))
    return source


def no_catalog() -> Catalog:
    """A catalog in which nothing is written: the default policies, and nothing else."""
    return Catalog(
        root=Path(),
        briefs={},
        metrics={},
        measures={},
        sources=(),
        policies=Policies(),
        problems=(),
        files={},
    )
