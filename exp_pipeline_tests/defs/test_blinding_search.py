"""Everything that is written while two experiments are blinded is searched for their effects, cell by cell.

One experiment is before its horizon; of the other an arm's assignments were lost, so integrity fails.
"""

from __future__ import annotations

import re
import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from datetime import date
from fractions import Fraction
from io import StringIO
from pathlib import Path

import duckdb
import polars as pl
import pytest
from typer.testing import CliRunner

from exp_pipeline.analysis.readout import read_out
from exp_pipeline.cli.app import app
from exp_pipeline.model.metrics import denominator_column, numerator_column
from exp_pipeline.model.readout import Readout
from exp_pipeline.report import render_memo
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments import chain
from exp_pipeline.steps.experiments.blinded import blinded_experiments, without_arms
from exp_pipeline.steps.opening import workbench
from exp_pipeline.store.home import Home
from exp_pipeline_tests.defs import small_world as small
from exp_pipeline_tests.defs.test_blocking import LOST_ARM, lose_assignments
from exp_pipeline_tests.defs.worlds import environment_of, instance_in, run_job

# Dagster's own: it asks itself for the run by a name that it has given up.
pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run:DeprecationWarning")
EARLY, MISMATCHED = "class-pacing", "hint-ladder"
HORIZON = date(2026, 3, 9)
DAYS = ("2026-03-02", "2026-03-08")
REVIEWS = [{"kind": kind, "by": "data-council", "day": "2026-03-01"} for kind in ("peer", "data")]
COMMANDS = (
    ("status",), ("status", "--json"), ("doctor",), ("quality",), ("incidents", "list"), ("decisions",),
    *((what, name) for what in ("plan", "readout", "life", "brief", "lock") for name in small.EXPERIMENTS),
    *(("readout", name, "--format", form) for form in ("json", "html-path") for name in small.EXPERIMENTS),
    *(("plan", name, "--json") for name in small.EXPERIMENTS),
)  # fmt: skip
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d*\.\d{3,}(?:[eE][-+]?\d+)?")
# A share of few units is met by chance all over; so are numbers that are short.
_FEW = 200
_HIDDEN = ("segments", "cumulative", "novelty", "robustness", "novelty_contrasts", "impact", "shrunken")
_TELLING = (
    "mean_control", "mean_treatment", "absolute", "ci_lower", "ci_upper", "relative", "relative_ci_lower",
    "relative_ci_upper", "p_value", "standardised", "early", "late", "value", "raw", "shrunken",
)  # fmt: skip


@dataclass
class Story:
    """What was written, as text and numbers by place; what each experiment hides."""

    home: Path
    texts: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, list[float]] = field(default_factory=dict)
    readouts: dict[str, Readout] = field(default_factory=dict)
    hidden: dict[str, dict[str, float]] = field(default_factory=dict)
    opened: dict[str, Readout] = field(default_factory=dict)


@contextmanager
def opened(home: Path) -> Iterator[Workbench]:
    with (
        duckdb.connect() as connection,
        workbench(
            Home(home), connection, run_id="test", environment={"EXP_HMAC_KEY": small.KEY}, threads=1
        ) as bench,
    ):
        yield bench


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    root = tmp_path_factory.mktemp("blinded")
    home = small.make_home(root)
    for name in small.EXPERIMENTS:
        small.rewrite_brief(home, name, reviews=REVIEWS)
    small.rewrite_brief(home, EARLY, end=small.END.replace(day=25))
    small.rewrite_brief(home, MISMATCHED, end=HORIZON, novelty={"split_days": 2})
    assert lose_assignments(home / "landing", LOST_ARM) > 0
    found = Story(home)
    with environment_of(home), instance_in(root / "dagster") as instance:
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            assert run_job(instance, "daily_facts", days=DAYS).success
            for name in small.EXPERIMENTS:
                run_job(instance, "experiment_readout", partition=name)
            run_job(instance, "warehouse_refresh")
        found.texts |= {"stdout of runs": out.getvalue(), "stderr of runs": err.getvalue()}
        for command in COMMANDS:
            answer = CliRunner().invoke(app, [*command, "--home", str(home)])
            # What is said counts, also where a command warns or refuses.
            assert answer.exit_code == 0 or command[0] not in ("readout", "status"), answer.output
            found.texts[f"exp {' '.join(command)}"] = answer.output
    with opened(home) as bench:
        for name in small.EXPERIMENTS:
            found.hidden[name], found.opened[name] = hidden_numbers(bench, name)
            found.readouts[name] = read_out(chain.readout_inputs(bench, name))
    gather(found, home, "home", skip=("landing", "catalog"))
    gather(found, root / "dagster", "dagster")
    return found


def hidden_numbers(bench: Workbench, name: str) -> tuple[dict[str, float], Readout]:
    """What a readout that is not blinded tells, and means by arm, day, platform, week; and that readout."""
    inputs = chain.readout_inputs(bench, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exp_pipeline.analysis.readout.integrity_checks", lambda *_: ())
        shown = read_out(replace(inputs, unblinded_because="to know what is hidden"))
    assert not shown.blinded
    rows = [
        (part, row)
        for part, kept in (("estimates", shown.estimates), ("unadjusted", shown.unadjusted))
        for row in kept
        if row.role != "guardrail"
    ]
    rows += [(part, row) for part in _HIDDEN for row in getattr(shown, part)]
    told = {
        f"{part} {number} {column}": value
        for number, (part, row) in enumerate(rows)
        for column in _TELLING
        if isinstance(value := getattr(row, column, None), float)
    }
    brief = inputs.brief
    weeks = inputs.weeks
    assert weeks is not None
    with_arms = weeks.join(inputs.mad.select("unit_id", "arm"), on="unit_id")
    for metric in (brief.primary, *brief.secondary, *brief.counter_metrics):
        top, base = numerator_column(metric), denominator_column(metric)
        for table, by in (
            (inputs.mad, ()), (inputs.mad, ("segment__platform",)), (inputs.mad, ("assigned_date",)),
            (with_arms, ("week",)),
        ):  # fmt: skip
            below = pl.col(base).sum() if base in table.columns else pl.col(top).count()
            level = (pl.col(top).cast(pl.Float64).sum() / below).alias("level")
            # The mean of a few may be the value of a row, and rows may be seen without their arm.
            means = table.group_by("arm", *by).agg(level, pl.col(top).count().alias("n"))
            means = means.filter(pl.col("n") >= 5).drop("n").drop_nulls("level").sort("arm", *by)
            told |= {f"mean of {metric} {row[:-1]}": row[-1] for row in means.iter_rows()}
    return {what: value for what, value in told.items() if distinctive(value)}, shown


def distinctive(value: float) -> bool:
    """Whether a number is met by chance in no other place: long, and no share of few."""
    if value != value or abs(value) in (0.0, float("inf")) or round(value, 5) == value:
        return False
    return abs(float(Fraction(value).limit_denominator(_FEW)) - value) > 1e-12 * abs(value)


def gather(found: Story, root: Path, where: str, skip: tuple[str, ...] = ()) -> None:
    """Read every file under a folder: text as it is, columns and databases cell by cell."""
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if not path.is_file() or parts[0] in skip:
            continue
        place = f"{where}/{'/'.join(parts)}"
        if path.suffix == ".parquet":
            _cells(found, place, pl.read_parquet(path))
            found.texts[f"{place} metadata"] = str(pl.read_parquet_metadata(path))
        elif path.suffix == ".duckdb":
            with duckdb.connect(str(path), read_only=True) as connection:
                names = connection.execute("select table_name from information_schema.tables").fetchall()
                for (name,) in names:
                    _cells(found, f"{place} {name}", connection.sql(f'select * from "{name}"').pl())
        elif path.read_bytes()[:15] == b"SQLite format 3":
            with closing(sqlite3.connect(path)) as base:
                tables = base.execute("select name from sqlite_master where type = 'table'").fetchall()
                for (name,) in tables:
                    rows = base.execute(f'select * from "{name}"').fetchall()
                    found.texts[f"{place} {name}"] = "\n".join(map(str, rows))
        else:
            found.texts[place] = path.read_bytes().decode("utf-8", "replace")


def _cells(found: Story, place: str, frame: pl.DataFrame) -> None:
    numbers: list[float] = []
    text: list[str] = []
    for column in frame.get_columns():
        if column.dtype.is_float() or column.dtype.is_decimal():
            numbers += column.cast(pl.Float64).drop_nulls().unique().to_list()
        elif column.dtype.is_nested() or column.dtype == pl.String:
            text += map(str, column.drop_nulls().unique(maintain_order=True).to_list())
    found.numbers[place] = numbers
    found.texts[place] = "\n".join(text)


def tokens(text: str) -> Iterable[float]:
    return {float(one) for one in _NUMBER.findall(text)}


def same(text: set[float], wanted: dict[str, float]) -> dict[str, float]:
    """The numbers wanted that are among those found, as they are or times 100, to nine digits."""
    ordered = sorted(text)
    met = {}
    for what, value in wanted.items():
        for scaled in (value, -value, 100.0 * value, -100.0 * value):
            at = bisect_left(ordered, scaled - 1e-9 * abs(scaled))
            if at < len(ordered) and ordered[at] <= scaled + 1e-9 * abs(scaled):
                met[what] = value
    return met


@pytest.mark.parametrize("name", small.EXPERIMENTS)
def test_the_story_is_one_of_two_blinded_experiments(story: Story, name: str) -> None:
    readout = story.readouts[name]
    assert readout.blinded
    failed = [check.name for check in readout.integrity if check.verdict == "fail"]
    assert bool(failed) == (name == MISMATCHED)
    assert readout.horizon_reached == (name == MISMATCHED)
    assert len(story.hidden[name]) > 40
    assert sum(place.startswith("home/readouts/") for place in story.texts) > 10
    assert any("warehouse.duckdb estimates" in place for place in story.texts)
    assert any(place.startswith("dagster/") and len(text) > 100_000 for place, text in story.texts.items())


@pytest.mark.parametrize("name", small.EXPERIMENTS)
def test_no_number_that_is_written_is_an_effect_or_an_arms_mean(story: Story, name: str) -> None:
    met = {}
    for place in story.texts.keys() | story.numbers.keys():
        numbers = {*story.numbers.get(place, ()), *tokens(story.texts.get(place, ""))}
        if found := same(numbers, story.hidden[name]):
            met[place] = found
    assert met == {}


@pytest.mark.parametrize("name", small.EXPERIMENTS)
def test_the_search_finds_what_a_readout_tells_that_is_not_blinded(story: Story, name: str) -> None:
    wanted = {what: value for what, value in story.hidden[name].items() if not what.startswith("mean of")}
    met = same(set(tokens(story.opened[name].model_dump_json())), wanted)
    assert met.keys() == wanted.keys()


@pytest.mark.parametrize("name", small.EXPERIMENTS)
def test_no_text_shows_the_headline_in_its_printed_form(story: Story, name: str) -> None:
    """Effects and levels of the primary as people print them, in all that speaks of the experiment."""
    shown = {what: value for what, value in story.hidden[name].items() if what.startswith("estimates 0 ")}
    assert "estimates 0 absolute" in shown
    forms = {
        form
        for what, value in shown.items()
        for form in (f"{100 * value:+.2f} pp", f"{value:+.4g}", f"{value:.6g}", f"{100 * value:.2f} %")
        if len(form.strip("+-% p0.")) >= 4 and "p_value" not in what
    }
    memo = render_memo(story.opened[name])
    assert any(form in text for form in forms for text in (memo.html, memo.markdown))
    met = {
        place: sorted(form for form in forms if form in text)
        for place, text in story.texts.items()
        if "readouts/" in place or not place.startswith("home/")
    }
    assert {place: found for place, found in met.items() if found} == {}


@pytest.mark.parametrize("name", small.EXPERIMENTS)
def test_no_view_of_the_warehouse_tells_the_arm_of_a_blinded_unit(story: Story, name: str) -> None:
    with opened(story.home) as bench:
        assert set(blinded_experiments(bench)) == set(small.EXPERIMENTS)
    with duckdb.connect(str(story.home / "marts" / "warehouse.duckdb"), read_only=True) as connection:
        columns = connection.execute(
            "select table_name, list(column_name) from information_schema.columns group by table_name"
        ).fetchall()
        rows = {
            table: connection.execute(
                f'select count(*), count(arm) from "{table}" where experiment = $1', [name]
            ).fetchone()
            for table, known in columns
            if {"experiment", "arm", "unit_id"} <= set(known)
        }
    assert set(rows) >= {"units", "assignments", "exposures"}
    assert all(found is not None and found[0] > 0 and found[1] == 0 for found in rows.values()), rows


def test_rows_without_arms_hold_nothing_that_tells_it(story: Story) -> None:
    with opened(story.home) as bench:
        mad = chain.readout_inputs(bench, EARLY).mad
    bare = without_arms(mad)
    assert bare.height == mad.height
    arms = set(mad["arm"].unique())
    strings = [column for column in bare.get_columns() if column.dtype == pl.String]
    assert not [column.name for column in strings if arms & set(column.drop_nulls().unique())]
    assert "arm_bucket" not in bare.columns
