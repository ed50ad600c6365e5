"""Versions of one event beside one another: one meaning for whoever reads, whichever was sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
import polars as pl
import pytest

from exp_pipeline.contracts import events
from exp_pipeline.contracts.canonical.columns import column
from exp_pipeline.contracts.events import event_specs
from exp_pipeline.contracts.models.row import CanonicalEvent
from exp_pipeline.contracts.predicates import read_expressions


def read(rows: Sequence[tuple[str, str, float | None, float | None, float | None]]) -> list[Any]:
    landed = pl.DataFrame(
        rows,
        schema=["event_name", "schema_version", "rating", "rating_min", "rating_max"],
        orient="row",
        schema_overrides=dict.fromkeys(("rating", "rating_min", "rating_max"), pl.Float64),
    )
    text = read_expressions("l")["rating"].sql(dialect="duckdb")
    with duckdb.connect() as connection:
        connection.register("landed", landed)
        return [value for (value,) in connection.sql(f"select {text} from landed as l").fetchall()]


def test_ratings_of_both_versions_are_read_on_one_scale() -> None:
    sent = [
        ("feedback_given", "1.0", 4.0, None, None),
        ("feedback_given", "1.7", 1.0, 0.0, 10.0),
        ("feedback_given", "2.0", 0.0, 0.0, 10.0),
        ("feedback_given", "2.0", 7.5, 0.0, 10.0),
        ("feedback_given", "2.3", 3.0, 1.0, 3.0),
        ("feedback_given", "2.0", -1.0, -1.0, 1.0),
        ("feedback_given", "2.0", None, None, None),
        ("rubric_scored", "1.0", 2.0, None, None),
        ("rubric_scored", "2.0", 2.0, 0.0, 4.0),
    ]
    assert read(sent) == [4.0, 1.0, 1.0, 4.0, 5.0, 1.0, None, 2.0, 2.0]


def test_what_is_read_keeps_the_range_of_the_canonical_column() -> None:
    """Ends of odd scales do not fall out of 1 to 5 by rounding."""
    scales = [(0.1, 0.7), (1 / 3, 2 / 3), (-1e6, 1e6), (1e-9, 3e-9), (0.0, 5e-324), (-0.3, 1e6)]
    sent = [("feedback_given", "2.0", end, low, high) for low, high in scales for end in (low, high)]
    assert read(sent) == [1.0, 5.0] * len(scales)


def test_only_what_is_read_differently_is_read_by_an_expression() -> None:
    assert set(read_expressions()) == {name for spec in event_specs() for name in spec.changed}


def test_a_version_that_changes_a_column_must_say_how_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    percent = column("rating", "float", "Rating.", sample=50.0, ge=0.0, le=100.0)

    class Percent(CanonicalEvent, event="x", also=("rating",), changed={"rating": percent}):
        """Feedback in percent."""

    monkeypatch.setattr(events, "_models", lambda: {("x", 1): Percent})
    assert events.schema_of(Percent).columns["rating"].checks[1].statistics == {"max_value": 100.0}
    with pytest.raises(ValueError, match=r"\['rating'\] must be columns of the event"):
        events.event_spec.__wrapped__("x")


def test_a_version_cannot_change_the_type_of_a_column() -> None:
    words = column("rating", "string", "Rating.", sample="good")
    with pytest.raises(ValueError, match="must stay of type"):
        type("Words", (CanonicalEvent,), {"__module__": __name__}, event="x", changed={"rating": words})


def test_a_rule_of_a_version_is_no_rule_of_another() -> None:
    rules = {(spec.name, spec.major): {rule.name for rule in spec.rules} for spec in event_specs()}
    assert "scale_has_width" in rules["feedback_given", 2] - rules["feedback_given", 1]
