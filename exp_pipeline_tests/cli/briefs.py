"""One brief with a ramp for the tests of commands: its dates and stages are theirs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from typer.testing import CliRunner

from exp_pipeline.cli.app import app

NAME = "quick-hints"


def quick_hints(
    start: date,
    end: date,
    ramp: Sequence[str],
    *,
    margin: float = 0.1,
    traffic: float = 1.0,
    more: str = "",
) -> str:
    """The brief's text. ramp: its stages in YAML; margin: of its one guardrail; more: further lines."""
    return f"""\
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
traffic: {traffic}
start: {start}
end: {end}
primary: mastery_loop_completion
guardrails:
  - {{metric: p95_latency_ms, margin: {margin}, margin_kind: relative, kill: {{action: pause}}}}
mde: {{absolute: 0.05}}
expected_units_per_day: 900
variance_reduction: {{method: none}}
{more}ramp:
""" + "".join(f"  - {{{stage}}}\n" for stage in ramp)


def written_home(home: Path, text: str) -> Path:
    """A new data folder with this one brief and the sample's metrics; no source, nothing landed."""
    done = CliRunner().invoke(app, ["init", str(home)])
    assert done.exit_code == 0, done.output
    shutil.rmtree(home / "catalog" / "sources")
    return only_brief(home, text)


def only_brief(home: Path, text: str) -> Path:
    """Make this the one brief of a data folder; gives the folder."""
    experiments = home / "catalog" / "experiments"
    for path in experiments.glob("*.yaml"):
        path.unlink()
    (experiments / f"{NAME}.yaml").write_text(text)
    return home
