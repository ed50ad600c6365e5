"""What comes with the pipeline: the sample's folder in a checkout, and what a new data folder begins with."""

from __future__ import annotations

from pathlib import Path

SAMPLE_KEY = "sample-data-only-not-a-secret-key"

IGNORED = """\
# What the pipeline writes; catalog/ and landing/ are written by people.
/lake/
/marts/
/readouts/
/flags/
/state/
"""

BRIEF_TEMPLATE = """\
# A brief is a contract: what is promised about one experiment before it starts. `exp new NAME` asks for all
# that and writes it; or copy this file, name the copy after the experiment (my-experiment.yaml), fill it in,
# and run `exp validate`. Once it has started, changes to the design, the metrics or the rules are shown in
# the memo.
name: my-experiment
version: 1
title: A short name for people
hypothesis:
  change: what will be different
  population: for whom
  context: where in the product
  moves: what it should move, and by how much
  because: why you believe so
  without_harming: what must not get worse
owner: your-team
on_call: your-on-call
# low, medium or high: medium needs a guardrail, high also a kill rule and a ramp.
risk_class: low
decision_asked: The question that the memo answers.

# learner, or class where whole classes are drawn (then give icc too).
randomisation_unit: learner
arms:
  - {name: control, share: 0.5, description: The product as it is.}
  - {name: treatment, share: 0.5, description: The product with the change.}
control: control

# UTC days; the end day is the first day after the experiment. Effects stay hidden until then.
start: 2030-01-07
end: 2030-02-04

# Names of metrics in catalog/metrics. Each has one role.
primary: mastery_loop_completion
secondary: []
guardrails:
  # The margin is the harm that is still acceptable.
  - {metric: p95_latency_ms, margin: 0.10, margin_kind: relative}

# The smallest effect worth finding, in the primary's own unit (0.05 is 5 percentage points) or relative.
mde: {absolute: 0.05}
alpha: 0.05
power: 0.8
expected_units_per_day: 100
"""


def sample_root() -> Path | None:
    """The `data` folder of a checkout, which holds the sample; None where only the package is installed."""
    root = Path(__file__).parents[2] / "data"
    return root if (root / "catalog").is_dir() else None


def is_sample(root: Path) -> bool:
    """Whether a data folder is the bundled one, with the bundled landing files."""
    own = sample_root()
    return own is not None and root.resolve() == own.resolve()
