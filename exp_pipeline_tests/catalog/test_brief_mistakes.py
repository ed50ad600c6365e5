"""Mistakes in whom a brief analyses, what it watches, how it tests and who reviewed it, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from exp_pipeline.steps.opening import open_catalog
from exp_pipeline_tests.catalog.folders import BRIEF, METRICS, write_catalog

# Added to the valid brief: everything that is said, each with its line.
MISTAKES: dict[str, tuple[str, ...]] = {
    "counter_metrics: [acuracy]": (
        "27: counter_metrics[0]: unknown metric; did you mean `accuracy`? (value: acuracy); allowed"
        ": accuracy, minutes, waiting",
    ),
    "counter_metrics: [accuracy]": (
        "27: counter_metrics[0]: each metric has one role; named twice: accuracy (value: accuracy)",
    ),
    "counter_metrics: accuracy": (
        "27: counter_metrics: must be a list (value: accuracy); allowed: a list, such as [a, b]",
    ),
    "counter_metrics: [waiting]": (
        "27: counter_metrics[0]: each metric has one role; named twice: waiting (value: waiting)",
    ),
    "eligibility: [{column: platfrm, values: [web]}]": (
        "27: eligibility[0].column: unknown context column; did you mean `platform`? (value: platfr"
        "m); allowed: app_version, class_id, district_id, locale, platform, school_id",
    ),
    "eligibility: [{column: platform}]": (
        "27: eligibility[0].values: is required and missing; allowed: a list, such as [a, b]",
    ),
    "eligibility: [{column: platform, values: []}]": (
        "27: eligibility[0].values: has too few entries; allowed: at least 1",
    ),
    "eligibility: [{column: platform, values: [5]}]": (
        "27: eligibility[0].values[0]: must be text (value: 5); allowed: text; put numbers and true"
        "/false in quotes",
    ),
    "eligibility: [{column: platform, values: web}]": (
        "27: eligibility[0].values: must be a list (value: web); allowed: a list, such as [a, b]",
    ),
    "eligibility:\n  - {column: platform, values: [web]}\n  - {column: platform, values: [ios]}": (
        "27: eligibility: eligibility has one condition a column, with all its values: platform",
    ),
    "exclusions: [{column: platform, values: [web]}]": (
        "27: exclusions[0].reason: is required and missing; allowed: text",
    ),
    "exclusions: [{column: platform, values: [web], reason: ''}]": (
        "27: exclusions[0].reason: is empty; write it out; allowed: text",
    ),
    "eligibility: [{column: platform, values: [web]}]\n"
    "exclusions: [{column: platform, values: [web, ios], reason: old}]": (
        "28: exclusions: exclusions leave out everything that eligibility asks of: platform",
    ),
    "randomisation_unit: class\nicc: 0.1\neligibility: [{column: platform, values: [web]}]": (
        "29: eligibility[0].column: is not known at assignment where whole classes are randomised ("
        "value: platform); allowed: class_id, school_id, district_id",
    ),
    "novelty: {split_days: 0}": (
        "27: novelty.split_days: is out of range (value: 0); allowed: at least 1 and at most 180",
    ),
    "novelty: {split_days: 21}": (
        "27: novelty.split_days: leaves no days after the split: the experiment runs 21 days (value"
        ": 21); allowed: from 1 to 20",
    ),
    "novelty: {steady_from_week: 4}": (
        "27: novelty.steady_from_week: begins after the end: the experiment runs 21 days (value: 4)"
        "; allowed: from 1 to 3",
    ),
    "novelty: 7": ("27: novelty: must be a mapping (value: 7); allowed: lines of `name: value`",),
    "novelty: {split: 7}": (
        "27: novelty.split: is not a field; did you mean `split_days`? (value: 7); allowed: split_d"
        "ays, steady_from_week",
    ),
    "missing_data: bound": (
        "27: missing_data: is not one of the choices; did you mean `bounds`? (value: bound); allowe"
        "d: bounds, observed, weights",
    ),
    "comparisons: both": ("27: comparisons: is not one of the choices (value: both); allowed: all, control",),
    "new_logging: ja": ("27: new_logging: must be true or false (value: ja); allowed: true, false",),
    "new_logging: 1": ("27: new_logging: must be true or false (value: 1); allowed: true, false",),
    "families: [{name: a, metrics: [accuracy]}, {name: a, metrics: [waiting]}]": (
        "27: families: families must have different names: a",
    ),
    "families: [{name: a, metrics: [accuracy], after: b}]": (
        "27: families: families stand in the order of their tests: a comes after b, which is none o"
        "f those above it (there is none)",
    ),
    "families: [{name: a, metrics: [minutes]}]": (
        "27: families: families hold the primary and secondary metrics (accuracy, waiting), not: minutes",
    ),
    "families: [{name: a, metrics: [waiting]}, {name: b, metrics: [waiting]}]": (
        "27: families: families a and b both hold: waiting",
    ),
    "families: [{name: A, metrics: []}]": (
        "27: families[0].name: is not a valid name (value: A); allowed: lower-case letters, digits "
        "and hyphens, at most 63",
        "27: families[0].metrics: has too few entries; allowed: at least 1",
    ),
    "reviews: [{kind: per, by: maths, day: 2026-03-01}]": (
        "27: reviews[0].kind: unknown kind of review; did you mean `peer`? (value: per); allowed: d"
        "ata, peer, privacy, safety",
    ),
    "reviews: [{kind: peer, by: '', day: 2026-03-01}]": (
        "27: reviews[0].by: is empty; write it out; allowed: text",
    ),
    "reviews: [{kind: peer, by: maths, day: yesterday}]": (
        "27: reviews[0].day: is not a day (value: yesterday); allowed: a day written YYYY-MM-DD",
    ),
    "reviews: [{kind: peer}]": (
        "27: reviews[0].by: is required and missing; allowed: text",
        "27: reviews[0].day: is required and missing; allowed: a day written YYYY-MM-DD",
    ),
    "reviews: [{kind: peer, by: maths, when: 2026-03-01}]": (
        "27: reviews[0].day: is required and missing; allowed: a day written YYYY-MM-DD",
        "27: reviews[0].when: is not a field (value: 2026-03-01); allowed: by, day, kind, note",
    ),
    "intake: {impact: 6, confidence: 3, effort: 1}": (
        "27: intake.impact: is out of range (value: 6); allowed: at least 1 and at most 5",
    ),
    "intake: {impact: high, confidence: 3, effort: 1}": (
        '27: intake.impact: must be a whole number (value: "high"); allowed: a whole number',
    ),
    "intake: {impact: 3}": (
        "27: intake.confidence: is required and missing; allowed: a whole number",
        "27: intake.effort: is required and missing; allowed: a whole number",
    ),
    "intake: 3": ("27: intake: must be a mapping (value: 3); allowed: lines of `name: value`",),
    "calendar: nowhere": ("27: calendar: unknown calendar (value: nowhere); allowed: none is declared",),
    "receipt: {may_differ: [prompt]}": (
        "27: receipt.may_differ[0]: is not one of the choices; did you mean `prompt_version`? (valu"
        "e: prompt); allowed: decoder_hash, model_name, model_version, prompt_version, retrieval_ve"
        "rsion, safety_policy_version",
    ),
    "risk_class: mediun\nalpha: 2\nlooks: [2026-05-01]": (
        "27: risk_class: is not one of the choices; did you mean `medium`? (value: mediun); allowed"
        ": high, low, medium",
        "28: alpha: is out of range (value: 2); allowed: more than 0 and less than 0.5",
        "29: looks: look 2026-05-01 must lie after start 2026-03-09 and not after end 2026-03-30",
    ),
}


def said_of(root: Path, more: str, *, brief: str = BRIEF, **files: str) -> list[str]:
    """Everything that is wrong with the brief, as text without its folder."""
    write_catalog(root, **{"experiments__quick-hints": f"{brief}{more}\n"}, **files)
    (root / "sources" / "foreign.yaml").unlink()
    catalog = open_catalog(root)
    here = f"{root}/experiments/"
    problems = [one for one in catalog.problems if one.file.startswith(here)]
    return [str(one).removeprefix(f"{here}quick-hints.yaml:") for one in problems]


@pytest.mark.parametrize("more", MISTAKES)
def test_each_mistake_is_told_with_its_line_and_what_is_allowed(tmp_path: Path, more: str) -> None:
    assert tuple(said_of(tmp_path, more)) == MISTAKES[more]


def test_what_is_in_order_is_accepted(tmp_path: Path) -> None:
    more = """\
counter_metrics: [pace]
eligibility: [{column: platform, values: [web, ios], reason: the change is not on Android}]
exclusions: [{column: school_id, values: [s9], reason: pilot school}]
novelty: {split_days: 5, steady_from_week: 2}
missing_data: bounds
comparisons: all
families:
  - {name: first, metrics: [accuracy]}
  - {name: then, metrics: [waiting], after: first}
new_logging: true
reviews: [{kind: peer, by: maths, day: 2026-03-01, note: fine}]
intake: {impact: 5, confidence: 1, effort: 3}"""
    pace = METRICS.partition("metrics:\n")[2].split("  - name: ")[3].replace("minutes\n", "pace\n", 1)
    assert said_of(tmp_path, more, metrics__pace=f"metrics:\n  - name: {pace}") == []


def test_a_policy_can_name_other_reviews(tmp_path: Path) -> None:
    policy = (
        "kinds: [{name: ethics, asks: Is it right?}]\nrequired: {low: [ethics], medium: [], high: [ethics]}\n"
    )
    review = "reviews: [{kind: ethics, by: board, day: 2026-03-01}]"
    assert said_of(tmp_path, review, policies__reviews=policy) == []
    said = said_of(tmp_path, review.replace("ethics", "peer"), policies__reviews=policy)
    assert said == ["27: reviews[0].kind: unknown kind of review (value: peer); allowed: ethics"]


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (
            "required: {low: [peers]}",
            "required: required.low may name only declared kinds (peer, data, privacy, safety), not: peers",
        ),
        ("kinds: []", "kinds: has too few entries; allowed: at least 1"),
        (
            "kinds: [{name: a, asks: x}, {name: a, asks: y}]\nrequired: {low: [], medium: [], high: []}",
            "kinds: kinds must have different names: a",
        ),
    ],
)
def test_a_bad_review_policy_leaves_the_rest_as_it_is(tmp_path: Path, policy: str, said: str) -> None:
    write_catalog(tmp_path, policies__reviews=policy + "\n")
    (tmp_path / "sources" / "foreign.yaml").unlink()
    catalog = open_catalog(tmp_path)
    assert [str(one).partition(": ")[2] for one in catalog.problems] == [said]
    assert list(catalog.briefs) == ["quick-hints"]
    assert catalog.policies.session.gap_minutes == 20
    assert catalog.reviews.needed("low") == ("peer",)
