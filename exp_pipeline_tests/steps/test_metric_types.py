"""Every type of metric, each unit's number counted again from the events by plain Python."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest

from exp_pipeline.analysis.effects.cumulative import effects_by_day
from exp_pipeline.analysis.effects.estimates import Setting, estimates_of, roles_of
from exp_pipeline.analysis.effects.methods import compare
from exp_pipeline.analysis.effects.novelty import novelty_of
from exp_pipeline.analysis.readout import read_out
from exp_pipeline.analysis.units import frame_of_units, units_of_metric
from exp_pipeline.catalog import Catalog
from exp_pipeline.model.brief import Brief, Guardrail
from exp_pipeline.stats.results import Effect
from exp_pipeline.steps.context import DAY, Window, Workbench
from exp_pipeline.steps.experiments.chain import days_of, readout_inputs, take_snapshot
from exp_pipeline.steps.experiments.dataset import fill_snapshot
from exp_pipeline.steps.experiments.dictionary import read_dictionary
from exp_pipeline.steps.opening import workbench
from exp_pipeline.steps.operating.daily import judge_guardrails
from exp_pipeline.steps.warehouse import build_warehouse
from exp_pipeline.store.home import Home
from exp_pipeline.store.warehouse import open_warehouse
from exp_pipeline_tests.steps import metric_worlds as world
from exp_pipeline_tests.steps.conftest import SECRET, rows_of
from exp_pipeline_tests.steps.metric_worlds import METRICS, Row, Unit

Value = float | None
NEWEST = world.END - DAY


class Count:
    """One unit's events, counted by hand up to the newest day."""

    def __init__(self, rows: Sequence[Row], unit: Unit) -> None:
        self.rows, self.unit = rows, unit
        self.mine = [row for row in rows if row.learner == unit.learner]

    def after(self, first: int = 0, end: int | None = None) -> list[Row]:
        return world.after(self.rows, self.unit, first, end, NEWEST)

    def answers(self, first: int = 0, end: int | None = None, right: bool = False) -> int:
        found = [row for row in self.after(first, end) if row.name == "answer_attempted"]
        return len([row for row in found if row.fields["correct"] or not right])

    def latencies(self, first: int = 0, end: int | None = None) -> list[float]:
        found = [row for row in self.after(first, end) if row.name == "tutor_turn_response_shown"]
        return sorted(row.fields["latency_ms"] for row in found)

    def cost(self) -> float:
        found = [row for row in self.after() if row.name == "tutor_turn_response_shown"]
        return float(sum((Decimal(str(row.fields["cost_usd"])) for row in found), Decimal(0)))

    def objectives(self, first: int = 0, end: int | None = None) -> int:
        rows = [row for row in self.after(first, end) if row.name == "answer_attempted"]
        return len({row.fields["learning_objective_id"] for row in rows} - {None})

    def sessions(self) -> list[list[Row]]:
        unit = self.unit
        return [
            session
            for session in world.sessions_of(self.mine, unit.learner)
            if unit.day <= session[0].day <= NEWEST
            and (session[0].day > unit.day or session[-1].at >= unit.at)
        ]

    def session_responses(self) -> int:
        return sum(row.name == "tutor_turn_response_shown" for one in self.sessions() for row in one)

    def time_to(self, wanted: Callable[[Row], bool], days: int, unit: timedelta) -> float:
        window = timedelta(days=days)
        times = [row.at - self.unit.at for row in self.after() if wanted(row)]
        return min([*times, window]) / unit

    def steps(self, wanted: Sequence[Callable[[Row], bool]], days: int) -> list[bool]:
        reached: list[bool] = []
        last: datetime | None = datetime.min
        for step in wanted:
            by_day: dict[date, datetime] = {}
            for row in self.after(0, days):
                if step(row):
                    by_day[row.day] = min(row.at, by_day.get(row.day, row.at))
            last = min((at for at in by_day.values() if last is not None and at >= last), default=None)
            reached.append(last is not None)
        return reached

    def score(self, rows: list[Row]) -> Value:
        tests = [row for row in rows if row.name == "assessment_completed"]
        points = sum(row.fields["score"] for row in tests)
        return points / sum(row.fields["max_score"] for row in tests) if tests else None

    def before(self, days: int) -> list[Row]:
        first = self.unit.day - DAY * days
        return [row for row in self.mine if first <= row.day and row.at < self.unit.at]


def _right(row: Row) -> bool:
    return row.name == "answer_attempted" and bool(row.fields["correct"])


def _answer(row: Row) -> bool:
    return row.name == "answer_attempted"


def _hint(row: Row) -> bool:
    return row.name == "hint_requested"


def _gain(pre: Value, post: Value, highest: float) -> Value:
    return None if pre is None or post is None or pre >= highest else (post - pre) / (highest - pre)


def _time_to_session(count: Count, days: int) -> float:
    # A session that was running at the assignment began before it, and counts as 0.
    answered = [
        one for one in count.sessions() if any(row.name == "tutor_turn_response_shown" for row in one)
    ]
    waits = [max(one[0].at - count.unit.at, timedelta(0)) for one in answered]
    return min([*waits, timedelta(days=days)]) / timedelta(hours=1)


def _blend(count: Count) -> float:
    right, answers = count.answers(right=True), count.answers()
    accuracy = right / answers if answers else 0.5
    hours = count.time_to(_right, 5, timedelta(hours=1))
    parts = [
        (0.5, (accuracy - 0.2) / 0.7),
        (0.3, (120 - hours) / 120),
        (0.2, float(count.answers(0, 3, right=True) > 0)),
    ]
    return sum(weight * min(max(place, 0.0), 1.0) for weight, place in parts)


# What a metric's numerator (and denominator) is for one unit.
ORACLE: dict[str, Callable[[Count], tuple[Value, ...]]] = {
    "mean_answers": lambda c: (c.answers(0, 7),),
    "mean_objectives": lambda c: (c.objectives(),),
    "mean_slowest": lambda c: (max(c.latencies(0, 5), default=0.0),),
    "mean_fastest": lambda c: (min(c.latencies(), default=None),),
    "any_right": lambda c: (c.answers(0, 3, right=True),),
    "accuracy": lambda c: (c.answers(right=True), c.answers()),
    "turns_per_session": lambda c: (c.session_responses(), len(c.sessions())),
    "answers_per_1000": lambda c: (c.answers(), len(c.sessions())),
    "kept": lambda c: (c.answers(4, 9),),
    "hint_to_right": lambda c: (float(c.steps((_answer, _hint, _right), 6)[-1]),),
    "time_to_right": lambda c: (c.time_to(_right, 5, timedelta(hours=1)),),
    "days_to_hint": lambda c: (c.time_to(_hint, 4, timedelta(days=1)),),
    "time_to_session": lambda c: (_time_to_session(c, 8),),
    "gained": lambda c: (_gain(c.score(c.before(5)), c.score(c.after(0, 10)), 1.0),),
    "gained_after": lambda c: (
        _gain(min(c.latencies(), default=None), max(c.latencies(), default=None), 2000.0),
    ),
    "cost_of_right": lambda c: (c.cost(), c.answers(right=True)),
    "blend": lambda c: (_blend(c),),
    "web_answers": lambda c: (c.answers(),),
    "no_app_answers": lambda c: (c.answers(),),
}


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return world.draw(seed=3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog, rows: list[Row]) -> Iterator[Workbench]:
    """The world's chain, run once."""
    home = Home(tmp_path_factory.mktemp("metrics"))
    with (
        duckdb.connect() as connection,
        workbench(
            home, connection, run_id="test", environment={"EXP_HMAC_KEY": SECRET}, catalog=catalog, threads=1
        ) as bench,
    ):
        yield world.run(bench, rows)


def counts_of(rows: list[Row], brief: Brief) -> dict[str, Count]:
    return {f"{unit.learner:032x}": Count(rows, unit) for unit in world.units_of(rows, brief).values()}


def same(found: Value, expected: Value) -> bool:
    """Both missing, or equal but for the last digits."""
    if found is None or expected is None:
        return found is expected
    return found == pytest.approx(expected, rel=1e-12, abs=1e-12)


def snapshot_of(bench: Workbench, brief: str, file: str) -> pl.DataFrame:
    folder: Path = take_snapshot(bench, brief).folder
    return pl.read_parquet(folder / f"{file}.parquet")


@pytest.mark.parametrize("brief", world.BRIEFS.values(), ids=world.BRIEFS.keys())
def test_each_unit_has_the_number_that_its_events_give(
    made: Workbench, rows: list[Row], brief: Brief
) -> None:
    mad = snapshot_of(made, brief.name, "mad")
    counts = counts_of(rows, brief)
    assert mad["unit_id"].to_list() == sorted(counts)
    assert [one for one in counts.values() if {row.name for row in one.mine} == {"experiment_assigned"}]
    assert mad.filter(pl.col("assigned_at").dt.date() == brief.start).height > 0
    for name in made.catalog.dataset_metrics(brief):
        if name not in ORACLE:
            continue
        columns = [f"{name}__num", *([f"{name}__den"] if METRICS[name].denominator else [])]
        for unit, *found in mad.select("unit_id", *columns).iter_rows():
            for value, expected in zip(found, ORACLE[name](counts[unit]), strict=True):
                assert same(value, expected), (name, unit, value, expected)


def test_lists_bins_steps_and_scores(made: Workbench, rows: list[Row]) -> None:
    brief = world.BRIEFS["all-kinds"]
    counts = counts_of(rows, brief)
    edges = [None, *world.EDGES, None]
    for row in snapshot_of(made, brief.name, "mad").iter_rows(named=True):
        count = counts[row["unit_id"]]
        assert (row["p90__values"] or []) == count.latencies()
        bins: dict[tuple[Value, Value], int] = {}
        for value in count.latencies(0, 9):
            place = bisect_right(world.EDGES, value)
            bins[edges[place], edges[place + 1]] = bins.get((edges[place], edges[place + 1]), 0) + 1
        found: dict[tuple[Value, Value], int] = {}
        for entry in row["p50_bins__values"] or []:
            key = entry["low"], entry["high"]
            found[key] = found.get(key, 0) + entry["n"]
        assert found == bins
        steps = [row[f"hint_to_right__step{place}"] for place in (1, 2, 3)]
        assert steps == count.steps((_answer, _hint, _right), 6)
        assert row["gained__pre"] == count.score(count.before(5))
        assert row["gained__post"] == count.score(count.after(0, 10))


def test_only_units_with_their_whole_window_are_mature(made: Workbench, rows: list[Row]) -> None:
    brief = world.BRIEFS["all-kinds"]
    mad = snapshot_of(made, brief.name, "mad")
    days_had = (pl.lit(NEWEST) - pl.col("assigned_date")).dt.total_days() + 1
    # A time is measured from the moment of assignment, so it needs the day after the window's last too.
    needed = {"mean_answers": 7, "kept": 9, "time_to_right": 6, "blend": 6, "gained": 10}
    for name, days in needed.items():
        expected = mad.select(days_had >= days).to_series()
        assert mad[f"{name}__mature"].to_list() == expected.to_list()
        assert 0 < expected.sum() < len(expected) or days <= 10
    assert mad["accuracy__mature"].all()
    units = frame_of_units(mad, brief)
    part = units_of_metric(units, METRICS["kept"], brief)
    short = mad.filter(days_had < 9)
    assert part.waiting == {arm: short.filter(pl.col("arm") == arm).height for arm in ("control", "new")}
    assert sum(part.waiting.values()) > 0


def test_covariates_of_every_kind(made: Workbench, rows: list[Row]) -> None:
    brief = world.BRIEFS["all-kinds"]
    counts = counts_of(rows, brief)
    unseen = 0
    for row in snapshot_of(made, brief.name, "mad").iter_rows(named=True):
        count = counts[row["unit_id"]]
        unit = count.unit
        seen = [one for one in count.mine if unit.day - DAY * 6 <= one.day < unit.day]
        answers = [one for one in seen if one.name == "answer_attempted"]
        shown = [one for one in seen if one.name == "tutor_turn_response_shown"]
        latency = [one.fields["latency_ms"] for one in shown]
        begun = [one for one in world.sessions_of(count.mine, unit.learner) if one[0] in seen]
        expected: dict[str, Value] = dict.fromkeys(world.COVARIATES)
        if seen:
            objectives = {one.fields["learning_objective_id"] for one in answers} - {None}
            last = max((one.at for one in answers), default=None)
            expected = {
                "answers": len(answers),
                "cost": sum(one.fields["cost_usd"] for one in shown) if shown else None,
                "objectives": len(objectives),
                "latency": sum(latency) / len(latency) if latency else None,
                "fastest": min(latency, default=None),
                "last_answer": (unit.at - last) / DAY if last is not None else None,
                "sessions_begun": len(begun),
            }
        unseen += not seen
        for name, value in expected.items():
            assert same(row[f"pre__{name}"], value), (name, row["unit_id"])
    assert unseen > 0


def test_weeks_hold_what_was_done_in_them(made: Workbench, rows: list[Row]) -> None:
    brief = world.BRIEFS["all-kinds"]
    counts = counts_of(rows, brief)
    weeks = snapshot_of(made, brief.name, "weeks")
    begun = [
        (unit, week)
        for unit in sorted(counts)
        for week in range((NEWEST - counts[unit].unit.day).days // 7 + 1)
    ]
    assert weeks.select("unit_id", "week").rows() == begun
    for row in weeks.iter_rows(named=True):
        count, first = counts[row["unit_id"]], 7 * row["week"]
        end = first + 7
        assert row["complete"] == (count.unit.day + DAY * end <= NEWEST + DAY)
        assert row["accuracy__num"] == count.answers(first, end, right=True)
        assert row["accuracy__den"] == count.answers(first, end)
        assert row["mean_objectives__num"] == count.objectives(first, end)
        assert row["mean_answers__num"] == (count.answers(0, 7) if first == 0 else 0)
        assert row["kept__num"] == count.answers(first, min(end, 9))
        assert (row["p90__values"] or []) == count.latencies(first, end)
    assert not {"blend__num", "gained__num", "time_to_right__num"} & set(weeks.columns)


def test_arms_are_compared_in_the_numbers_of_their_units(made: Workbench, rows: list[Row]) -> None:
    brief = world.BRIEFS["all-kinds"]
    counts = counts_of(rows, brief)
    mad = snapshot_of(made, brief.name, "mad")
    units = frame_of_units(mad, brief)
    for name, oracle in ORACLE.items():
        metric = METRICS[name]
        part = units_of_metric(units, metric, brief)
        found = compare(part, "new", "control", clustered=False, adjusted=False, level=0.95)
        assert isinstance(found.effect, Effect), (name, found.effect)
        for arm, value in (("control", found.effect.mean_control), ("new", found.effect.mean_treatment)):
            mine = [
                oracle(count)
                for count in counts.values()
                if count.unit.arm == arm and _counts(name, count.unit)
            ]
            mine = [one for one in mine if None not in one]
            if metric.estimand == "proportion":
                mine = [(float((one[0] or 0) > 0),) for one in mine]
            total = sum(float(one[0] or 0) for one in mine)
            base = sum(float(one[1] or 0) for one in mine) if metric.denominator else len(mine)
            assert value == pytest.approx(metric.per * total / base, rel=1e-12), (name, arm)


def _counts(name: str, unit: Unit) -> bool:
    """Whether a unit counts: mature, and let in."""
    needed = {**{one.name: one.days_needed for one in METRICS.values()}, "blend": 6}[name]
    if name == "web_answers" and unit.platform != "web":
        return False
    if name == "no_app_answers" and unit.platform in ("ios", "android"):
        return False
    return needed is None or unit.day + DAY * needed <= NEWEST + DAY


def test_the_last_day_agrees_with_the_estimate(made: Workbench) -> None:
    brief = world.BRIEFS["all-kinds"]
    inputs = readout_inputs(made, brief.name)
    units = frame_of_units(inputs.mad, brief)
    assert inputs.days is not None
    followed = []
    for name, metric in METRICS.items():
        part = units_of_metric(units, metric, brief)
        by_day = effects_by_day(
            part, inputs.days, brief, clustered=False, upto=NEWEST, level=0.95, measures=inputs.measures
        )
        if not by_day:
            continue
        followed.append(name)
        whole = compare(part, "new", "control", clustered=False, adjusted=False, level=0.95).effect
        last = by_day[-1].effect
        assert isinstance(last, Effect)
        assert isinstance(whole, Effect)
        assert (last.absolute, last.ci_lower) == pytest.approx((whole.absolute, whole.ci_lower)), name
    assert {"mean_objectives", "mean_slowest", "kept", "cost_of_right", "answers_per_1000"} <= set(followed)
    assert not {"mean_fastest", "p90", "hint_to_right", "blend", "gained", "time_to_right"} & set(followed)


def test_novelty_of_values_and_distinct_counts_comes_from_weeks(made: Workbench) -> None:
    brief = world.BRIEFS["all-kinds"]
    inputs = readout_inputs(made, brief.name)
    units = frame_of_units(inputs.mad, brief)
    setting = Setting(brief.model_copy(update={"minimum_cell": 2}), "s", inputs.lock, clustered=False)
    assert inputs.days is not None
    for name in ("mean_objectives", "p90", "web_answers", "blend"):
        part = units_of_metric(units, METRICS[name], brief)
        found = novelty_of(setting, units, part, inputs.days, upto=NEWEST, weeks=inputs.weeks)
        told = [point for point in found.points if point.estimable]
        assert bool(told) == (name != "blend"), found
        if name == "web_answers":
            assert told[0].n_control + told[0].n_treatment <= part.frame.height
    assert "one number a unit" in found.points[0].reason


def test_a_readout_says_of_whom_a_metric_speaks(made: Workbench) -> None:
    inputs = readout_inputs(made, "all-kinds")
    assert read_out(inputs).experiment == "all-kinds"
    units = frame_of_units(inputs.mad, inputs.brief)
    setting = Setting(inputs.brief, "s", inputs.lock, clustered=False)
    parts = {name: units_of_metric(units, metric, inputs.brief) for name, metric in METRICS.items()}
    found = estimates_of(setting, parts, roles_of(inputs.brief), adjusted=True)
    rows = {name: row for (name, _), (row, _) in found.items()}
    assert set(rows) == set(METRICS)
    outside = inputs.mad.filter(pl.col("segment__platform") != "web").height
    assert f"only units where platform = 'web': {outside:,} are left out" in rows["web_answers"].flags
    assert any("no first score" in flag for flag in rows["gained"].flags)
    steps = next(
        flag for flag in rows["hint_to_right"].flags if flag.startswith("units that got to each step")
    )
    assert "first_answer" in steps
    assert "first_right" in steps
    bins = rows["p50_bins"]
    assert "histogram" in " ".join((bins.reason, *bins.flags))
    assert rows["kept"].waiting > 0


def test_guardrails_are_judged_daily_where_a_metric_has_daily_parts(made: Workbench) -> None:
    names = ("p50_bins", "mean_objectives", "web_answers", "blend", "kept")
    brief = world.brief_of(
        "all-kinds", ["accuracy"], guardrails=tuple(Guardrail(metric=name, margin=1000) for name in names)
    )
    bench = replace(made, catalog=replace(made.catalog, briefs={brief.name: brief}))
    judge_guardrails(bench, Window.of(NEWEST, NEWEST))
    found = {str(row[0]): row[1] for row in rows_of(bench, "guardrails_daily", "metric, harm")}
    assert {name for name, harm in found.items() if harm is None} == {"blend"}


def test_every_column_is_in_the_dictionary(made: Workbench) -> None:
    snapshot = take_snapshot(made, "all-kinds")
    notes = read_dictionary(made, "all-kinds")
    for file in ("mad", "weeks", "days"):
        columns = pl.read_parquet(snapshot.folder / f"{file}.parquet").columns
        assert [note.name for note in notes if note.file == file] == columns
    told = {note.name: note for note in notes if note.file == "mad"}
    assert told["time_to_right__num"].unit == "hours"
    assert told["accuracy__den"].provenance["measures"] == {
        name: made.catalog.measures[name].definition_digest()[:12] for name in ("answers", "answers_right")
    }
    assert "platform = 'web'" in told["web_answers__included"].definition


def test_the_warehouse_shows_weeks_and_what_columns_mean(made: Workbench) -> None:
    folders = {name: take_snapshot(made, name).folder for name in world.BRIEFS}
    build_warehouse(made, duckdb.connect)
    with open_warehouse(made.home.warehouse) as connection:
        found = connection.execute(
            "select experiment, count(*), sum(accuracy__den) from unit_weeks group by all order by all"
        ).fetchall()
        expected = [
            (name, frame.height, frame["accuracy__den"].sum())
            for name, frame in (
                (name, pl.read_parquet(folders[name] / "weeks.parquet")) for name in sorted(folders)
            )
        ]
        assert found == expected
        columns = {row[0] for row in connection.execute("describe unit_weeks").fetchall()}
        assert {"week", "complete", "p90__values"} <= columns
        assert "arm" not in columns
        (told,) = connection.execute(
            "select definition from dataset_columns "
            "where experiment = 'all-kinds' and file = 'mad' and name = 'blend__num'"
        ).fetchall()
    assert "0.5 x accuracy" in told[0]


def test_the_same_inputs_give_the_same_bytes(made: Workbench, tmp_path: Path) -> None:
    brief = world.BRIEFS["all-kinds"]
    first = take_snapshot(made, brief.name).folder
    fill_snapshot(made, brief, days_of(brief, NEWEST), NEWEST, tmp_path)
    again = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert again == {path.name: path.read_bytes() for path in first.iterdir() if path.name in again}
    assert {"mad.parquet", "weeks.parquet", "columns.json"} <= set(again)
