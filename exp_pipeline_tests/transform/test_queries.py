"""Every SQL file has one query with one stated grain, named columns, and a translation for Spark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files

import pytest
import sqlglot
from sqlglot import exp
from sqlglot.errors import UnsupportedError

from exp_pipeline.contracts.predicates import rejection_expression
from exp_pipeline.model.metrics import Measure
from exp_pipeline.transform import measures, queries

CODED = ("experiment_assigned",)
MEASURES = (
    Measure(name="answers", description="d", events=("answer_attempted",), where="correct is not null"),
    Measure(
        name="cost", description="d", events=("tutor_turn_response_shown",), aggregate="sum", of="cost_usd"
    ),
    Measure(name="slowest", description="d", aggregate="max", of="latency_ms"),
    Measure(name="objectives", description="d", aggregate="distinct", of="learning_objective_id"),
    Measure(name="latency", description="d", aggregate="values", of="latency_ms", where="latency_ms >= 0"),
)


def _calls() -> dict[str, exp.Expr]:
    return {
        "contract_refusal": rejection_expression(),
        "payload_digest": exp.func(
            "md5", exp.func("concat_ws", exp.Literal.string("|"), exp.column("event_id"))
        ),
        "exclusion_by_agent": exp.column("user_agent").like("%bot%"),
    }


def _measure_columns(name: str, codes: dict[str, int]) -> tuple[list[exp.Expr], list[exp.Expr]]:
    if name in ("learner_days", "rests"):
        return [], [measures.over_rows(measure, codes) for measure in MEASURES]
    return [measures.added_up(measure, "d") for measure in MEASURES], [exp.column("answers", table="t")]


def filled(name: str) -> exp.Expr:
    """A query as an engine gets it: slots filled with measures, calls with trees as the steps give them."""
    query = queries.load(name)
    codes = measures.event_codes(MEASURES, CODED)
    slots = {
        call.expressions[0].name for call in query.find_all(exp.Anonymous) if str(call.this).lower() == "slot"
    }
    if slots:
        sums, columns = _measure_columns(name, codes)
        query = queries.with_slots(
            query, {slot: sums if slot.endswith("sums") else columns for slot in slots}
        )
    return queries.with_calls(queries.with_codes(query, codes), _calls())


def _outer_selects(query: exp.Expr) -> Iterator[exp.Select]:
    if isinstance(query, exp.SetOperation):
        yield from _outer_selects(query.this)
        yield from _outer_selects(query.expression)
    elif isinstance(query, exp.Select):
        yield query
    else:
        raise AssertionError(f"{type(query).__name__} is no query")


@pytest.mark.parametrize("name", queries.query_names())
def test_every_query_has_a_translation_for_spark(name: str) -> None:
    text = queries.spark_text(filled(name))
    assert sqlglot.parse_one(text, dialect="spark").find(exp.Select) is not None
    assert not re.search(r"\bslot\(|\bcode_of\(|\bevent_code\(\)", text, re.IGNORECASE)


@pytest.mark.parametrize("name", queries.query_names())
def test_the_first_line_states_the_grain(name: str) -> None:
    assert re.match(r"One row per [a-z]", queries.grain(name)), queries.grain(name)


@pytest.mark.parametrize("name", queries.query_names())
def test_published_columns_are_named(name: str) -> None:
    for select in _outer_selects(queries.load(name)):
        starred = [
            one
            for one in select.expressions
            if isinstance(one, exp.Star) or (isinstance(one, exp.Column) and one.is_star)
        ]
        assert not starred


@pytest.mark.parametrize("name", queries.query_names())
def test_one_file_is_one_query(name: str) -> None:
    text = (files("exp_pipeline.transform") / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    assert len([one for one in sqlglot.parse(text, dialect="duckdb") if one is not None]) == 1


def test_what_spark_lacks_is_an_error_and_not_a_guess() -> None:
    query = sqlglot.parse_one(
        "select sum(x) over (order by y rows between 1 preceding and current row exclude ties) from t",
        dialect="duckdb",
    )
    with pytest.raises(UnsupportedError):
        queries.spark_text(query)


def test_slots_that_nobody_fills_are_an_error() -> None:
    with pytest.raises(ValueError, match="measures"):
        queries.with_slots(queries.load("learner_days"), {"sums": []})


def test_a_loaded_query_is_a_copy() -> None:
    first = queries.load("content")
    first.set("order", None)
    assert queries.load("content").args.get("order") is not None
