"""`exp rehearse`: a small term through the whole loop, while the real home stays byte for byte as it is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from exp_pipeline.cli.app import app

NAME = "quick-hints"
BRIEF = f"""\
name: {NAME}
title: Quick hints
hypothesis:
  change: shorten hints
  population: students
  context: practice
  moves: mastery rises
  because: less is read over
  without_harming: waiting time
owner: learning
on_call: tutor
hash_scheme: flagd
arms:
  - {{name: control, share: 0.5}}
  - {{name: short, share: 0.5}}
control: control
start: 2026-03-09
end: 2026-04-06
primary: mastery_loop_completion
guardrails:
  - {{metric: p95_latency_ms, margin: 0.5, margin_kind: relative, kill: {{action: pause}}}}
mde: {{absolute: 0.05}}
expected_units_per_day: 900
variance_reduction: {{method: none}}
ramp:
  - {{traffic: 0.5, dwell_days: 1, minimum_units: 5000}}
  - {{traffic: 1.0, dwell_days: 1, approval: true}}
"""


@pytest.fixture
def written(home: Path) -> Path:
    """A home with that one brief, and nothing that the pipeline wrote."""
    experiments = home / "catalog" / "experiments"
    (experiments / "my-experiment.yaml").unlink()
    (experiments / f"{NAME}.yaml").write_text(BRIEF)
    return home


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
    # The brief asks for more units than these schools have, and for power that it cannot have.
    assert any("stage 1 asks for" in one for one in told["changes"])
    assert any(one.startswith("stage 1 lets in 50 %: at 900 units a day") for one in told["findings"])
    assert told["gaps"]


def test_where_nothing_is_wrong_nobody_is_woken_and_nothing_ships(written: Path) -> None:
    told = rehearsed(
        written, "--scenario", "nothing", "--days", "5", "--learners", "120", "--approve", "none"
    )
    assert told["pages"] == 0
    assert told["as_planted"], told["against"]
    assert told["outcome"] != "ship"
    assert (told["home"], told["memo"]) == (None, None)
    # Nobody approves: the ramp waits at its first stage, and says for what.
    assert {day["stage"] for day in told["days"]} == {1}
    assert told["days"][-2]["reasons"] == ["stage 2 needs a person's approval"]


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
