"""A whole run over files full of planted names, ids and texts: none of it is in anything that was written."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import duckdb
import polars as pl

from exp_pipeline.contracts.fields import identifiers, raw_text
from exp_pipeline.steps.context import door_shape
from exp_pipeline_tests.cli.calling import exp

KEY = "a-key-of-this-test-alone-0123456789"
DAY = date(2026, 3, 10)
LEARNER = "learner-quillfeather-7531"
SECRETS = ("quillfeather", "Quillfeather", "7531", "brunswick", "Brunswick", "example.org", KEY)


def lines() -> list[bytes]:
    """One event for each field with something personal in it, then everything that is no good line."""

    def event(number: int, **more: object) -> dict[str, object]:
        at = f"{DAY}T10:{number // 60:02d}:{number % 60:02d}Z"
        return {
            "event_id": f"e{number}", "event_name": "hint_requested", "schema_version": "1.0",
            "client_ts": at, "received_at": at, "learner_id": LEARNER, "role": "student", "platform": "web",
            "app_version": "1.0", **more,
        }  # fmt: skip

    planted: list[dict[str, object]] = []
    for number, name in enumerate(door_shape().accepted()):
        mail = f"quillfeather-{name}@example.org"
        text = f"my name is Quillfeather Brunswick, write to {mail}"
        value = text if name in raw_text() else f"raw-{name}-7531" if name in identifiers() else mail
        planted.append(event(number, **{name: value}))
    more = [
        event(200, event_id=f"{LEARNER}-17", session_id=f"s-{LEARNER}", turn_id=LEARNER),
        event(201, role="I am Quillfeather Brunswick"),
        event(202, note="Quillfeather", deep={"who": ["Brunswick"]}, student_no=75317531),
        event(203, **{"quillfeather@example.org": 1, "learner-7531": True}),
        event(204, event_name="Quillfeather said hello"),
        event(205, role="staff", prompt="call Brunswick"),
        event(206, prompt_hmac="Quillfeather Brunswick", prompt_language="my name is Quillfeather"),
        event(207, platform="x" * 200 + "Quillfeather"),
    ]
    good = [json.dumps(one, ensure_ascii=False).encode() for one in (*planted, *more)]
    bad = [
        b"Quillfeather Brunswick is not JSON",
        b'{"event_id": "e300", "learner_id": "learner-quillfeather-7531", "prompt": "Quillfea',
        b'["Quillfeather", "Brunswick"]',
        b'"Quillfeather"',
        b'{"event_id": "e301", "learner_id": "Quillfeather \xff"}',
        b'{"learner_id": {"name": "Quillfeather"}}',
    ]
    return [*good, *bad]


def written(root: Path) -> dict[str, str]:
    """All that stands in all files, compressed columns and databases read out."""
    found = {}
    for path in sorted(root.rglob("*")):
        if not path.is_file() or "landing" in path.relative_to(root).parts:
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        if path.suffix == ".parquet":
            text += pl.read_parquet(path).write_ndjson() + str(pl.read_parquet_metadata(path))
        elif path.suffix == ".duckdb":
            with duckdb.connect(str(path), read_only=True) as connection:
                names = connection.execute("select table_name from information_schema.tables").fetchall()
                text = "".join(
                    str(connection.execute(f'select * from "{name}"').fetchall()) for (name,) in names
                )
        found[path.relative_to(root).as_posix()] = text
    return found


def test_no_planted_secret_is_in_anything_a_run_writes(home: Path, tmp_path: Path) -> None:
    folder = home / "landing" / f"received_date={DAY}"
    folder.mkdir(parents=True)
    (folder / "a.ndjson").write_bytes(b"\n".join(lines()))
    (folder / "b.txt").write_bytes(b"Quillfeather")
    (folder / "c.parquet").write_bytes(b"Quillfeather is not Parquet")
    settings = {"EXP_HMAC_KEY": KEY, "DAGSTER_HOME": str(tmp_path / "dagster"), "EXP_FIRST_DAY": str(DAY)}
    done = exp("run", "--home", home, "--verbose", cwd=tmp_path, warnings="default", **settings)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    erased = exp("status", "--home", home, cwd=tmp_path, warnings="default", **settings)
    found = {f"home/{name}": text for name, text in written(home).items()}
    found |= {f"dagster/{name}": text for name, text in written(tmp_path / "dagster").items()}
    found |= {"stdout": done.stdout, "stderr": done.stderr, "status": erased.stdout + erased.stderr}
    assert sum(name.startswith("home/lake/") for name in found) > 10
    assert sum(name.startswith("dagster/") for name in found) > 1
    leaks = {name: [one for one in SECRETS if one in text] for name, text in found.items()}
    assert {name: leak for name, leak in leaks.items() if leak} == {}
