"""`exp mirror` and what `exp doctor` says of it: a push, a reader's query, a damage, a new home."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner, Result

from exp_pipeline.cli import production
from exp_pipeline.cli.app import app
from exp_pipeline.store.engine import Engine
from exp_pipeline.store.home import Home
from exp_pipeline.store.lake import Lake, NewFile
from exp_pipeline_tests.steps import mirror_worlds as worlds

GUIDE = Path(__file__).parents[2] / "docs" / "deployment.md"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EXP_LAKE_MIRROR", f"file://{tmp_path / 'mirror'}")
    return tmp_path / "mirror"


@pytest.fixture
def data(tmp_path: Path) -> Home:
    return worlds.filled(tmp_path / "data")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["mirror", *map(str, arguments)])


def answer(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call(*arguments, "--json").stdout)
    return found


def doctor(home: Path) -> dict[str, Any]:
    found = [asdict(one) for one in production.mirror(Home(home))]
    return found[0] if found else {}


def test_from_the_first_push_to_a_restored_home(data: Home, place: Path, tmp_path: Path) -> None:
    assert f"file://{place} is empty" in call("--home", data.root).stdout
    done = answer("push", "--home", data.root)
    assert (done["partitions"], done["removed"]) == (6, 0)
    assert "Everything is there." in call("status", "--home", data.root).stdout
    worlds.commit(data, "events", 1, b"newer")
    assert "1 change waits, the oldest for 0.0 h." in call("--home", data.root).stdout
    assert answer("--home", data.root)["ours"]
    assert "1 partitions replaced" in call("push", "--home", data.root).stdout
    assert "Every file is what it is said to be." in call("verify", "--home", data.root).stdout
    back = tmp_path / "back"
    back.mkdir()
    assert "exp mirror push --adopt" in call("restore", "--home", back).stdout
    assert worlds.named_files(Home(back)) == worlds.named_files(data)
    refused = call("push", "--home", back)
    assert refused.exit_code == 2
    assert "--adopt" in refused.stderr
    assert call("push", "--home", back, "--adopt").exit_code == 0
    assert call("push", "--home", data.root).exit_code == 2


def test_damage_is_an_exit_code(data: Home, place: Path) -> None:
    call("push", "--home", data.root)
    part = next(place.glob("lake/events/*/part-0000-*"))
    part.write_bytes(b"#" * part.stat().st_size)
    found = call("verify", "--home", data.root)
    assert found.exit_code == 1
    assert f"damaged: {part.relative_to(place)}" in found.stdout
    assert call("verify", "--repair", "--home", data.root).exit_code == 1
    assert call("push", "--home", data.root).exit_code == 0
    assert answer("verify", "--home", data.root)["whole"]


def test_the_guides_query_reads_what_the_manifests_name(data: Home, place: Path) -> None:
    engine = Engine(duckdb.connect(":memory:"), threads=1)
    lake = Lake(data.lake)
    for day, rows in (("2026-03-01", 30), ("2026-03-02", 12), ("2026-03-03", 5), ("2026-03-01", 7)):
        path = lake.staging("unit_days", f"event_date={day}")
        engine.write(f"select range as n from range({rows})", path)
        files = [NewFile(path, "all", rows)]
        lake.commit("unit_days", f"event_date={day}", files, schema_version="1", run_id="test")
        call("push", "--home", data.root)
    query = re.search(r"```sql\n(.*?)```", GUIDE.read_text(), flags=re.S)
    assert query is not None
    setting, counting, _ = query[1].replace("s3://bucket/prefix", str(place)).split(";")
    connection = duckdb.connect(":memory:")
    connection.execute(setting)
    assert connection.execute(counting).fetchall() == [(7 + 12 + 5,)]
    listed = call("files", "unit_days", "--since", "2026-03-02").stdout.split()
    paths = [one.removeprefix("file://") for one in listed]
    assert [duckdb.read_parquet(one).shape[0] for one in paths] == [12, 5]


def test_without_a_mirror_the_variable_is_named(data: Home) -> None:
    done = call("push", "--home", data.root)
    assert done.exit_code == 2
    assert "EXP_LAKE_MIRROR is not set" in done.stderr
    assert doctor(data.root) == {}


def test_the_doctor_tells_whose_mirror_it_is_and_what_waits(
    data: Home, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = CliRunner().invoke(app, ["doctor", "--home", str(data.root), "--json"]).stdout
    (told,) = (one for one in json.loads(every) if one["name"] == "EXP_LAKE_MIRROR")
    assert told == doctor(data.root)
    assert told["remedy"] == "Push once: exp mirror push"
    call("push", "--home", data.root)
    assert doctor(data.root)["verdict"] == "ok"
    assert "0 changes wait" in doctor(data.root)["seen"]
    other = worlds.filled(tmp_path / "other", days=1)
    assert "another data folder" in doctor(other.root)["seen"]
    monkeypatch.setenv("EXP_LAKE_MIRROR", "s3://key:hidden-word@bucket/x")
    found = doctor(data.root)
    assert found["verdict"] == "error"
    assert "hidden-word" not in json.dumps(found)
    monkeypatch.setenv("EXP_LAKE_MIRROR", "s3://bucket/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-for-tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-word")
    assert "cannot be reached" in doctor(data.root)["seen"]
