"""`exp rehearse`: a small term through the whole loop, while the real home stays byte for byte as it is."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from exp_pipeline.cli.app import app
from exp_pipeline_tests.cli.briefs import NAME, quick_hints, written_home

START, END = date(2026, 3, 9), date(2026, 4, 6)
BRIEF = quick_hints(
    START,
    END,
    ("traffic: 0.5, dwell_days: 1, minimum_units: 5000", "traffic: 1.0, dwell_days: 21, approval: true"),
    margin=0.5,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_home(tmp_path_factory.mktemp("rehearsed") / "home", BRIEF)


def marks(root: Path) -> dict[str, tuple[str, int]]:
    """Every file and folder below a folder with its content and its time of change."""
    return {
        path.relative_to(root).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.stat().st_mtime_ns,
        )
        for path in sorted(root.rglob("*"))
    }


def rehearsed(home: Path, *arguments: str) -> Any:
    done = CliRunner().invoke(app, ["rehearse", NAME, "--home", str(home), "--json", *arguments])
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_harm_pages_and_pauses_and_the_real_home_is_untouched(written: Path, tmp_path: Path) -> None:
    before = marks(written)
    kept = tmp_path / "kept"
    told = rehearsed(
        written, "--scenario", "harm", "--days", "5", "--learners", "240", "--incident", "2026-03-09",
        "--keep", str(kept),
    )  # fmt: skip
    assert marks(written) == before
    assert told["as_planted"], told["against"]
    assert told["planted"].startswith("every arm helps; from 2026-03-09 on, in short, answers come 3 times")
    assert told["pages"] >= 1
    days = told["days"]
    assert [day["day"] for day in days][::5] == ["2026-03-08", "2026-03-13"]
    # Units enter by stages: on the first morning half of them may, on the second all, as a person said.
    assert [day["traffic"] for day in days[:2]] == [0.5, 1.0]
    assert [day["flag_version"] for day in days[:2]] == [1, 2]
    assert days[1]["notes"] == ["approval of stage 2 taken for granted in a rehearsal"]
    assert 0 < sum(days[1]["units"].values()) < sum(days[2]["units"].values())
    stop = next(place for place, day in enumerate(days) if day["status"] == "paused")
    assert days[stop]["verb"] == "pause"
    assert "kill rule of p95_latency_ms acts in short" in days[stop]["reasons"][0]
    pages = [one for day in days for one in day["messages"] if one["severity"] == "page"]
    assert {"guardrail", "ramp"} <= {one["rule"] for one in pages}
    # Nobody enters after the stop, and the flag tells products so.
    assert all(day["units"] == days[stop]["units"] for day in days[stop:])
    flags = json.loads((kept / "flags" / "flags.flagd.json").read_text())
    assert flags["flags"][NAME]["metadata"]["status"] == "paused"
    assert flags["metadata"]["version"] == days[-1]["flag_version"]
    assert days[-1]["look"].startswith("end: ")
    assert Path(told["memo"]).is_file()
    # The brief asks for more units than these schools have, and than its own traffic brings in time.
    assert any("stage 1 asks for" in one for one in told["changes"])
    assert any("has its 5,000 units after about 12 days, not 1" in one for one in told["findings"])
    assert any(gap.startswith("ramp: stage 2 (100 %) ") for gap in told["gaps"])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--days", "61"), "days must lie in 5..60, got 61"),
        (("--learners", "20"), "learners must lie in 60..2000, got 20"),
        (
            ("--incident", "2026-05-01", "--scenario", "harm"),
            "incident day must lie in 2026-03-09..2026-04-05",
        ),
    ],
)
def test_what_cannot_be_rehearsed_is_said_before_anything_is_made(
    written: Path, arguments: tuple[str, ...], why: str
) -> None:
    done = CliRunner().invoke(app, ["rehearse", NAME, "--home", str(written), *arguments])
    assert done.exit_code != 0
    assert why in done.output
