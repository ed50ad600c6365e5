"""Each type of metric in YAML: one that is right, and what an author reads of one that is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from exp_pipeline.catalog import check_expressions, load_catalog
from exp_pipeline_tests.catalog.folders import (
    EVENT_COLUMNS,
    METRICS,
    SESSION_COLUMNS,
    lines_of,
    problems_of,
    write_catalog,
)

MORE = """\
  - name: first_right
    title: Hours to the first right answer
    owner: learning
    definition: Hours from assignment to the first right answer.
    type: first_time_to
    numerator: first_right_answer
    window_days: 7
    time_unit: hours
    direction: decrease
    kind: input
    display: hours
    drives: loop
  - name: loop
    title: From hint to right answer
    owner: learning
    definition: Learners who asked for a hint and then answered right.
    type: funnel
    steps: [first_hint, first_right_answer]
    window_days: 7
    include: platform = 'web'
    direction: increase
    kind: north-star
    heart: task success
    refresh: weekly
  - name: kept
    title: Practised again
    owner: learning
    definition: Learners who answered on any day from the 7th to the 13th.
    type: retention
    numerator: answers
    from_day: 7
    window_days: 14
    exclude: platform = 'ios'
    direction: increase
    kind: output
  - name: gained
    title: Normalised gain
    owner: learning
    definition: Share won of what was left to win.
    type: gain
    pre: {points: test_points, out_of: test_possible}
    post: {points: test_points, out_of: test_possible}
    pre_taken: before
    pre_days: 14
    direction: increase
    kind: output
  - name: cost_of_right
    title: Cost of a right answer
    owner: learning
    definition: Minutes for each right answer.
    type: cost_per_outcome
    numerator: minutes_spent
    denominator: right_answers
    direction: decrease
    kind: guardrail
  - name: p90_bins
    title: Waiting, by bins
    owner: tutor
    definition: Time that 9 of 10 answers do not exceed.
    type: quantile
    quantile: 0.9
    numerator: latency_bins
    direction: decrease
    kind: guardrail
  - name: blend
    title: Blend
    owner: learning
    definition: Pace and accuracy in one number.
    type: composite
    parts:
      - {metric: accuracy, weight: 0.5, worst: 0.3, best: 0.9, if_missing: 0.3, because: Learning is the aim.}
      - {metric: first_right, weight: 0.5, worst: 168, best: 0, because: Pace counts as much.}
    direction: increase
    kind: output
"""
MEASURES = """\
  - name: first_right_answer
    description: First right answer.
    events: [answer_attempted]
    where: correct
    aggregate: first
  - name: first_hint
    description: First hint.
    events: [tutor_turn_response_shown]
    aggregate: first
  - name: test_points
    description: Points.
    events: [answer_attempted]
    aggregate: sum
    of: score
  - name: test_possible
    description: Possible points.
    events: [answer_attempted]
    aggregate: sum
    of: score
  - name: latency_bins
    description: Waiting time in bins.
    events: [tutor_turn_response_shown]
    aggregate: histogram
    of: latency_ms
    bins: {low: 10, high: 100000, per_decade: 20}
"""
EVERY = METRICS.replace("metrics:\n", f"{MEASURES}metrics:\n") + MORE


def test_every_type_and_aggregate_can_be_written(tmp_path: Path) -> None:
    root = write_catalog(tmp_path, metrics__all=EVERY)
    catalog = load_catalog(root)
    types = {metric.type for metric in catalog.metrics.values()}
    assert {"first_time_to", "funnel", "retention", "gain", "cost_per_outcome", "composite"} <= types
    bins = catalog.measures["latency_bins"].bins
    assert bins is not None
    edges = bins.boundaries()
    assert (edges[0], edges[-1], len(edges)) == (10, 100_000, 81)
    assert bins.relative_error() == pytest.approx(10 ** (1 / 20) - 1, rel=1e-4)
    contexts = ["platform", "locale"]
    assert check_expressions(catalog, EVENT_COLUMNS, SESSION_COLUMNS, context_columns=contexts) == ()


# (what is right, what is wrong, the end of the line that names it)
MISTAKES = {
    "step that is no first": (
        "steps: [first_hint, first_right_answer]",
        "steps: [first_hint, answers]",
        "steps[1]: type funnel cannot be made of answers, with aggregate count (value: answers); "
        "allowed: measures with aggregate first",
    ),
    "unknown step": (
        "steps: [first_hint, first_right_answer]",
        "steps: [first_hnt, first_right_answer]",
        "steps[0]: unknown measure; did you mean `first_hint`? (value: first_hnt); allowed: answers, "
        "first_hint, first_right_answer, latency, latency_bins, minutes_spent, right_answers, test_points, "
        "test_possible",
    ),
    "one step": (
        "steps: [first_hint, first_right_answer]",
        "steps: [first_hint]",
        "steps: steps must be at least two different measures",
    ),
    "no window": ("    from_day: 7\n    window_days: 14\n", "    from_day: 7\n",
                  "type: type retention needs `window_days`: how many days since assignment count "
                  "(value: retention)"),
    "late start": (
        "from_day: 7",
        "from_day: 14",
        "from_day: from_day must lie before the window's end: 14 of 14 days (value: 14)",
    ),
    "score of a list": (
        "pre: {points: test_points, out_of: test_possible}",
        "pre: {points: latency, out_of: test_possible}",
        "pre.points: type gain cannot be made of latency, with aggregate values (value: latency); "
        "allowed: measures with aggregate count, sum",
    ),
    "count without what is possible": (
        "pre: {points: test_points, out_of: test_possible}",
        "pre: {points: answers}",
        "pre.points: type gain cannot be made of answers, with aggregate count (value: answers); "
        "allowed: measures with aggregate sum, max, min",
    ),
    "weights": ("weight: 0.5, worst: 0.3", "weight: 0.4, worst: 0.3",
                "parts: parts must have weights that add up to 1, they add up to 0.9"),
    "no scale": ("worst: 168, best: 0", "worst: 168, best: 168",
                 "parts[1].worst: worst and best must differ, both are 168 (value: 168)"),
    "quantile as a part": (
        "metric: accuracy, weight",
        "metric: waiting, weight",
        "parts[0].metric: a quantile has no value for one unit that could be a part (value: waiting); "
        "allowed: metrics of any type but quantile and composite",
    ),
    "field of another type": (
        "    from_day: 7\n",
        "    from_day: 7\n    quantile: 0.5\n",
        "quantile: `quantile` has no meaning for type retention; leave it out (value: 0.5)",
    ),
    "bins that fall": (
        "bins: {low: 10, high: 100000, per_decade: 20}",
        "bins: {edges: [1, 3, 2]}",
        "bins.edges: edges must rise, each above the one before, and low must lie below high",
    ),
    "bins for a sum": (
        "    aggregate: histogram\n",
        "    aggregate: sum\n",
        "bins: `bins` go with aggregate histogram, and only with it: {low: 10, high: 100000}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_where_it_stands(tmp_path: Path, mistake: str) -> None:
    right, wrong, expected = MISTAKES[mistake]
    assert EVERY.count(right) == 1
    found = lines_of(write_catalog(tmp_path, metrics__all=EVERY.replace(right, wrong)))
    ends = [line.partition("].")[2] for line in found]
    assert expected in ends, found


def test_a_circle_of_drivers_is_named(tmp_path: Path) -> None:
    text = EVERY.replace("    heart: task success\n", "    heart: task success\n    drives: first_right\n")
    problems = problems_of(write_catalog(tmp_path, metrics__all=text))
    assert [problem.message for problem in problems] == [
        "makes a circle: first_right drives loop drives first_right",
        "makes a circle: loop drives first_right drives loop",
    ]


def test_what_rests_on_a_broken_part_is_left_out(tmp_path: Path) -> None:
    text = EVERY.replace("    aggregate: first\n", "    aggregate: frist\n", 1)
    catalog = load_catalog(write_catalog(tmp_path, metrics__all=text), strict=False)
    assert {"first_right", "blend", "loop"}.isdisjoint(catalog.metrics)
    assert {"kept", "gained"} <= set(catalog.metrics)


def test_a_condition_on_units_speaks_of_frozen_context(tmp_path: Path) -> None:
    text = EVERY.replace("include: platform = 'web'", "include: score > 1").replace(
        "exclude: platform = 'ios'", "exclude: lower(platform)"
    )
    catalog = load_catalog(write_catalog(tmp_path, metrics__all=text))
    found = check_expressions(catalog, EVENT_COLUMNS, SESSION_COLUMNS, context_columns=["platform"])
    assert [(one.field.partition(".")[2], one.message) for one in found] == [
        ("include", "unknown column score"),
        ("exclude", "is not a condition"),
    ]
