"""`exp analyze`: a unit table from elsewhere to a memo, and what is said of one that does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner, Result

from exp_pipeline.cli.app import app

ASSISTMENTS = Path(__file__).parents[3] / "shared" / "data" / "assistments_ab.csv"


def brief(**changes: Any) -> dict[str, Any]:
    fixed: dict[str, Any] = {
        "name": "worked-examples",
        "title": "Worked examples as video",
        "hypothesis": {
            "change": "show worked examples as video",
            "population": "students",
            "context": "skill builders",
            "moves": "completion by 5 points",
            "because": "a video shows the steps",
            "without_harming": "anything",
        },
        "owner": "research",
        "on_call": "research",
        "hash_scheme": "none",
        "arms": [{"name": "text", "share": 0.5}, {"name": "video", "share": 0.5}],
        "control": "text",
        "start": "2015-01-01",
        "end": "2015-07-01",
        "primary": "completed",
        "mde": {"absolute": 0.05},
        "table": {
            "unit_id": "user_id",
            "arm": "video",
            "arms": {"0": "text", "1": "video"},
            "metrics": {"completed": {"numerator": "completion", "type": "proportion", "display": "share"}},
        },
    }
    return fixed | changes


@pytest.fixture
def small() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": range(200),
            "video": [number % 2 for number in range(200)],
            "completion": [int(number % 3 == 0) for number in range(200)],
        }
    )


def analyze(
    folder: Path, spec: dict[str, Any], frame: pl.DataFrame, *more: str, suffix: str = "csv"
) -> Result:
    (folder / "brief.yaml").write_text(yaml.safe_dump(spec))
    table = folder / f"units.{suffix}"
    if suffix == "csv":
        frame.write_csv(table)
    else:
        frame.write_parquet(table)
    return call(folder, table, *more)


def call(folder: Path, table: Path, *more: str) -> Result:
    words = ["analyze", "--brief", folder / "brief.yaml", "--table", table, "--out", folder / "out", *more]
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_becomes_a_memo(tmp_path: Path, small: pl.DataFrame, suffix: str) -> None:
    done = analyze(tmp_path, brief(), small, "--json", suffix=suffix)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    (row,) = found["estimates"]
    shares = small.group_by("video").agg(pl.col("completion").mean()).sort("video")["completion"]
    assert row["absolute"] == pytest.approx(shares[1] - shares[0], abs=1e-12)
    for name in ("memo.html", "memo.md", "memo.json", "readout.json"):
        assert (tmp_path / "out" / name).is_file()


def test_without_a_declared_lock_everything_is_exploratory(tmp_path: Path, small: pl.DataFrame) -> None:
    loose = analyze(tmp_path, brief(), small)
    assert "exploratory" in loose.stdout
    assert "exploratory" in (tmp_path / "out" / "memo.md").read_text()
    assert "not locked before the data were seen" in (tmp_path / "out" / "readout.json").read_text()
    locked = json.loads(analyze(tmp_path, brief(), small, "--locked", "--json").stdout)
    assert [row["confirmatory"] for row in locked["estimates"]] == [True]
    assert "declared as written before the data" in (tmp_path / "out" / "readout.json").read_text()


def test_effects_stay_hidden_while_the_dates_end_before_the_horizon(
    tmp_path: Path, small: pl.DataFrame
) -> None:
    spec = brief()
    spec["table"] = {**spec["table"], "assigned_at": "day"}
    frame = small.with_columns(pl.lit("2015-02-01").alias("day"))
    early = analyze(tmp_path, spec, frame)
    assert early.exit_code == 0, early.output
    assert "hidden until the horizon" in early.stdout
    assert "--as-of" in early.stdout
    assert " pp" not in early.stdout
    late = analyze(tmp_path, spec, frame, "--as-of", "2015-06-30", "--json")
    assert not json.loads(late.stdout)["blinded"]


def test_a_brief_that_is_not_there(tmp_path: Path) -> None:
    done = call(tmp_path, tmp_path / "units.csv")
    assert done.exit_code == 2
    assert "brief.yaml: there is no such file" in done.stderr


def test_a_table_that_is_not_there_or_not_one(tmp_path: Path) -> None:
    (tmp_path / "brief.yaml").write_text(yaml.safe_dump(brief()))
    assert "units.csv: there is no such file" in call(tmp_path, tmp_path / "units.csv").stderr
    for name, text in (("units.xlsx", "x"), ("units.parquet", "no parquet"), ("units.csv", "a,b\n")):
        (tmp_path / name).write_text(text)
        done = call(tmp_path, tmp_path / name)
        assert done.exit_code == 2
        assert name in done.stderr
        assert "Traceback" not in done.stderr


def test_an_unknown_metric_is_named_with_those_that_are_mapped(tmp_path: Path, small: pl.DataFrame) -> None:
    done = analyze(tmp_path, brief(primary="finished"), small)
    assert done.exit_code == 2
    assert "finished" in done.stderr
    assert "completed" in done.stderr
    assert "brief.yaml:" in done.stderr


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path, small: pl.DataFrame) -> None:
    done = analyze(tmp_path, brief(), small.rename({"completion": "done"}))
    assert done.exit_code == 2
    assert "completion" in done.stderr
    assert "allowed: user_id, video, done" in done.stderr


def test_an_arm_value_outside_the_mapping_is_named(tmp_path: Path, small: pl.DataFrame) -> None:
    done = analyze(tmp_path, brief(), small.with_columns(pl.col("video").replace(1, 7)), "--json")
    assert done.exit_code == 2
    assert "holds values that belong to no arm" in done.stderr
    (problem,) = json.loads(done.stdout)["problems"]
    assert (problem["value"], problem["allowed"]) == ("7", "0, 1")


def test_a_brief_without_a_table_section_is_told_so(tmp_path: Path, small: pl.DataFrame) -> None:
    spec = brief()
    del spec["table"]
    done = analyze(tmp_path, spec, small)
    assert done.exit_code == 2
    assert "does not say where the table keeps" in done.stderr


def test_the_assistments_experiment_adjusted_for_what_came_before(tmp_path: Path) -> None:
    if not ASSISTMENTS.exists():
        pytest.skip(f"the public ASSISTments table is not at {ASSISTMENTS}")
    frame = pl.read_csv(ASSISTMENTS)
    spec = brief(variance_reduction={"method": "cuped"})
    covariates = [name for name in frame.columns if name.startswith("student_prior")]
    spec["table"] = {**spec["table"], "covariates": covariates}
    done = analyze(tmp_path, spec, frame, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    (adjusted,), (plain,) = found["estimates"], found["unadjusted"]
    # Counted in the file: 205 of 337 with video, 193 of 346 with text.
    assert plain["absolute"] == pytest.approx(205 / 337 - 193 / 346, abs=1e-12)
    # As measured, to the second decimal of a percentage point.
    assert (round(100 * adjusted["absolute"], 2), round(100 * adjusted["se"], 2)) == (6.00, 3.21)
    assert "+6.00 pp" in analyze(tmp_path, spec, frame).stdout


def test_every_estimate_lies_beside_the_memo(tmp_path: Path, small: pl.DataFrame) -> None:
    spec = brief()
    spec["table"] = {**spec["table"], "received": "watched", "stratum": "school"}
    frame = small.with_columns(
        (pl.col("video") * (pl.col("user_id") % 5 > 0)).alias("watched"),
        (pl.col("user_id") // 10 % 4).alias("school"),
    )
    done = analyze(tmp_path, spec | {"strata": ["school"]}, frame, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    every = json.loads(Path(found["every_estimate"]).read_text())
    itt, cace = every["estimates"]
    (row,) = found["estimates"]
    assert (itt["absolute"], itt["se"]) == pytest.approx((row["absolute"], row["se"]), rel=1e-12)
    assert (itt["method"], cace["question"]) == ("strata-precision", "received")
    assert cace["absolute"] == pytest.approx(
        itt["absolute"] / every["compliance"][0]["first_stage"], rel=1e-9
    )
    assert every["sample_ratio"]["verdict"] == "pass"


def test_nothing_lies_beside_the_memo_while_effects_are_hidden(tmp_path: Path, small: pl.DataFrame) -> None:
    spec = brief()
    spec["table"] = {**spec["table"], "assigned_at": "day"}
    hidden = analyze(tmp_path, spec, small.with_columns(pl.lit("2015-02-01").alias("day")), "--json")
    assert json.loads(hidden.stdout)["every_estimate"] is None
    assert not (tmp_path / "out" / "estimates.json").exists()
