"""Measures merge: parts of a day into the day, days into a unit, whatever way the rows were parted."""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from collections import Counter
from datetime import datetime, timedelta

import pytest

from exp_pipeline.model.metrics import Bins, Measure
from exp_pipeline.store.engine import Engine
from exp_pipeline.transform import measures as measure_sql
from exp_pipeline.transform import metrics as metric_sql
from exp_pipeline.transform import queries
from exp_pipeline_tests.steps import metric_worlds as world

BINS = Bins(low=1, high=1000, per_decade=3)
OVER: dict[str, dict[str, object]] = {
    "count": {}, "sum": {"of": "v"}, "max": {"of": "v"}, "min": {"of": "v"}, "first": {}, "last": {},
    "distinct": {"of": "word"}, "values": {"of": "v"}, "histogram": {"of": "v", "bins": BINS},
}  # fmt: skip
MEASURES = [
    Measure.model_validate(
        {"name": kind, "description": kind, "where": "counts", "aggregate": kind, **fields}
    )
    for kind, fields in OVER.items()
]
START = datetime(2026, 3, 2)


def draw(seed: int) -> list[tuple[object, ...]]:
    """unit, day, part, whether it counts, value, word, time."""
    chance = random.Random(seed)
    values = [None, 0.1, 0.2, 0.5, 1.0, 9.99, 10.0, 46.4159, 999.0, 1000.0, 5000.0, *BINS.boundaries()]
    return [
        (
            chance.randint(1, 4), chance.randint(0, 3), chance.randint(0, 2), chance.random() < 0.7,
            chance.choice(values), chance.choice(["a", "b", None]), START + timedelta(seconds=number),
        )
        for number in range(chance.randint(1, 60))
    ]  # fmt: skip


def columns(expressions: list[str]) -> str:
    return ", ".join(expressions)


def offer_rows(engine: Engine, rows: list[tuple[object, ...]]) -> None:
    kinds = "unit int, day int, part int, counts boolean, v double, word varchar, occurred_at timestamp"
    engine.connection.execute(f"create or replace temp table e ({kinds})")
    engine.connection.executemany("insert into e values (?, ?, ?, ?, ?, ?, ?)", [list(row) for row in rows])


@pytest.mark.parametrize("seed", range(3))
def test_one_part_added_up_is_that_part_alone(engine: Engine, seed: int) -> None:
    offer_rows(engine, draw(seed))
    over = columns([measure_sql.over_rows(measure).sql("duckdb") for measure in MEASURES])
    engine.build("parts", f"select unit, day, part, {over} from e group by all")
    # As from a file that is older than the measures.
    typed = columns([f"null::{measure_sql.column_type(one)}" for one in MEASURES])
    engine.connection.execute(f"insert into parts select 9, 9, 9, {typed}")
    up = columns([measure_sql.added_up(measure, "p").sql("duckdb") for measure in MEASURES])
    alone = columns([measure_sql.alone(measure, "p").sql("duckdb") for measure in MEASURES])
    added = engine.frame(f"select unit, day, part, {up} from parts as p group by all order by all")
    told = engine.frame(f"select unit, day, part, {alone} from parts as p order by all")
    assert told.equals(added)
    assert told.schema == added.schema


@pytest.mark.parametrize("seed", range(6))
def test_parts_add_up_to_the_whole(engine: Engine, seed: int) -> None:
    rows = draw(seed)
    offer_rows(engine, rows)
    over = columns([measure_sql.over_rows(measure).sql("duckdb") for measure in MEASURES])
    engine.build("parts", f"select unit, day, part, {over} from e group by all")
    up = [
        columns([measure_sql.added_up(measure, name).sql("duckdb") for measure in MEASURES]) for name in "pd"
    ]
    engine.build("days", f"select unit, day, {up[0]} from parts as p group by unit, day")
    names = columns([f'"{measure.name}"' for measure in MEASURES])
    for unit, *found in engine.connection.execute(
        f"select unit, {names} from (select unit, {up[1]} from days as d group by unit) order by unit"
    ).fetchall():
        mine = [row for row in rows if row[0] == unit and row[3]]
        values = sorted(row[4] for row in mine if isinstance(row[4], float))
        bins: Counter[int] = Counter(bisect_right(BINS.boundaries(), value) for value in values)
        got = dict(zip(OVER, found, strict=True))
        assert got["count"] == len(mine)
        assert got["sum"] == (pytest.approx(sum(values), rel=1e-12) if values else None)
        assert (got["min"], got["max"]) == ((values[0], values[-1]) if values else (None, None))
        times = [row[6] for row in mine]
        assert (got["first"], got["last"]) == ((times[0], times[-1]) if times else (None, None))
        assert (got["distinct"] or []) == sorted({row[5] for row in mine} - {None}, key=str)
        assert (got["values"] or []) == values
        merged: Counter[int] = Counter()
        for entry in got["histogram"] or []:
            merged[entry["bin"]] += entry["n"]
        assert merged == bins


def test_types_are_those_of_the_columns(engine: Engine) -> None:
    kinds = "counts boolean, v double, word varchar, occurred_at timestamp"
    engine.connection.execute(f"create or replace temp table e ({kinds})")
    for measure in MEASURES:
        text = measure_sql.over_rows(measure).sql("duckdb")
        (described,) = engine.connection.execute(f"describe select {text} from e").fetchall()
        assert described[1].replace('"', "") == measure_sql.column_type(measure)


def test_metrics_of_every_type_translate_for_spark() -> None:
    metrics, measures = world.METRICS, world.MEASURES
    made = [
        *metric_sql.metric_sums(metrics.values(), measures),
        *metric_sql.metric_columns(list(metrics), metrics, measures),
        *metric_sql.week_sums(metrics.values(), measures),
        *metric_sql.week_columns(metrics.values(), measures),
        *(measure_sql.over_rows(measure) for measure in measures.values()),
    ]
    for expression in made:
        text = queries.spark_text(expression)
        assert re.findall(r"\b(?:LIST_\w+|ARRAY_LENGTH|LAMBDA)\b", text) == [], text
