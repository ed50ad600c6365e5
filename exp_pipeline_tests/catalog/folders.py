"""A small valid catalog on disk, which each test spoils in one place."""

from __future__ import annotations

from pathlib import Path

from exp_pipeline.catalog import EventFields, load_catalog
from exp_pipeline.model.errors import Problem, SpecError

BRIEF = """\
name: quick-hints
title: Quick hints
hypothesis:
  change: shorten hints
  population: students
  context: practice
  moves: accuracy rises
  because: less is read over
  without_harming: waiting time
owner: learning
on_call: tutor
arms:
  - {name: control, share: 0.5}
  - {name: short, share: 0.5}
control: control
start: 2026-03-09
end: 2026-03-30
primary: accuracy
secondary: [waiting]
guardrails:
  - metric: minutes
    margin: 0.1
    margin_kind: relative
mde: {absolute: 0.05}
variance_reduction:
  covariates: [right_answers]
"""
METRICS = """\
measures:
  - name: answers
    description: Marked answers.
    events: [answer_attempted]
  - name: right_answers
    description: Right answers.
    events: [answer_attempted]
    where: correct
  - name: latency
    description: Waiting time.
    events: [tutor_turn_response_shown]
    aggregate: values
    of: latency_ms
  - name: minutes_spent
    description: Minutes in sessions.
    over: sessions
    aggregate: sum
    of: minutes
metrics:
  - name: accuracy
    title: Accuracy
    owner: learning
    definition: Right answers for each answer.
    type: ratio
    numerator: right_answers
    denominator: answers
    direction: increase
    kind: input
    counter_metric: minutes
  - name: waiting
    title: Waiting
    owner: tutor
    definition: Time that 19 of 20 answers do not exceed.
    type: quantile
    quantile: 0.95
    numerator: latency
    direction: decrease
    kind: guardrail
  - name: minutes
    title: Minutes
    owner: learning
    definition: Minutes in sessions.
    type: mean
    numerator: minutes_spent
    direction: increase
    kind: input
"""
SOURCE = """\
name: foreign
files: received_date=*/foreign/*.csv
format: csv
columns:
  user_id: BIGINT
  "Step Start": VARCHAR
  right: INTEGER
fields:
  learner_id: user_id
  client_ts: strptime("Step Start", '%Y-%m-%d %H:%M:%S')
events:
  - event_name: answer_attempted
    when: right is not null
    fields:
      correct: right > 0
"""
POLICIES = "session:\n  gap_minutes: 20\n"

EVENT_COLUMNS = {"correct": "BOOLEAN", "latency_ms": "DOUBLE", "platform": "VARCHAR", "score": "DOUBLE"}
SESSION_COLUMNS = {"session_id": "VARCHAR", "minutes": "DOUBLE", "started_at": "TIMESTAMP"}
EVENT_NAMES = ("answer_attempted", "tutor_turn_response_shown")
EVENT_FIELDS = EventFields(
    types={"learner_id": "VARCHAR", "client_ts": "TIMESTAMP", "correct": "BOOLEAN"},
    required={"answer_attempted": ("learner_id", "client_ts"), "tutor_turn_response_shown": ("turn_id",)},
    allowed={},
    reduced={},
)


def write_catalog(root: Path, **changes: str) -> Path:
    """A catalog folder: the valid texts above, with whole files replaced or added by keyword.

    `experiments__other="..."` writes `experiments/other.yaml`.
    """
    texts = {
        "experiments__quick-hints": BRIEF,
        "metrics__all": METRICS,
        "sources__foreign": SOURCE,
        "policies__default": POLICIES,
    } | changes
    for key, text in texts.items():
        path = root.joinpath(*key.split("__")).with_suffix(".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def problems_of(root: Path) -> list[Problem]:
    """The problems a strict reading raises; fails where there are none."""
    try:
        load_catalog(root, event_names=EVENT_NAMES)
    except SpecError as error:
        return list(error.problems)
    raise AssertionError("the catalog was accepted")


def lines_of(root: Path) -> list[str]:
    """The problems as a person reads them, with paths below the catalog folder."""
    return [str(problem).replace(f"{root}/", "") for problem in problems_of(root)]
