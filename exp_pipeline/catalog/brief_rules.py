"""Whom a brief analyses, how it splits time, and who reviewed it: what of that cannot be."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from exp_pipeline.catalog.documents import Document, Place, choices
from exp_pipeline.model.brief import Brief, Hypothesis
from exp_pipeline.model.errors import Problem
from exp_pipeline.model.populations import Condition

# With these in the place of broken fields, the rules over several fields can judge the rest of a brief.
STAND_INS: Final[Mapping[str, Any]] = {
    "title": "…",
    "owner": "…",
    "on_call": "…",
    "hypothesis": dict.fromkeys(Hypothesis.model_fields, "…"),
    "mde": {"absolute": 1.0},
}
# A class is let in as a whole: of its learners only where they sit is known at that moment.
_OF_CLASSES = ("class_id", "school_id", "district_id")


def population_problems(brief: Brief, document: Document) -> Iterator[Problem]:
    """Columns that eligibility and exclusions cannot read: not mapped, or not known of classes."""
    for section in ("eligibility", "exclusions"):
        rules: tuple[Condition, ...] = brief.eligibility if section == "eligibility" else brief.exclusions
        for position, rule in enumerate(rules):
            place: Place = (section, position, "column")
            if brief.table is not None:
                if rule.column not in brief.table.segments:
                    hint, allowed = choices(rule.column, brief.table.segments)
                    yield document.problem(place, f"is not among table.segments{hint}", allowed=allowed)
            elif brief.randomisation_unit == "class" and rule.column not in _OF_CLASSES:
                yield document.problem(
                    place,
                    "is not known at assignment where whole classes are randomised",
                    allowed=", ".join(_OF_CLASSES),
                )


def novelty_problems(brief: Brief, document: Document) -> Iterator[Problem]:
    """A split or a settled week that lies beyond the experiment's end."""
    if "novelty" not in document.data:
        return
    days = (brief.end - brief.start).days
    if brief.novelty.split_days >= days:
        yield document.problem(
            ("novelty", "split_days"),
            f"leaves no days after the split: the experiment runs {days} days",
            allowed=f"from 1 to {days - 1}",
        )
    week = brief.novelty.steady_from_week
    if week is not None and 7 * (week - 1) >= days:
        yield document.problem(
            ("novelty", "steady_from_week"),
            f"begins after the end: the experiment runs {days} days",
            allowed=f"from 1 to {(days + 6) // 7}",
        )


def review_problems(brief: Brief, document: Document, kinds: Collection[str]) -> Iterator[Problem]:
    """Reviews of a kind that the review policy does not know."""
    for position, review in enumerate(brief.reviews):
        if review.kind not in kinds:
            hint, allowed = choices(review.kind, kinds)
            yield document.problem(
                ("reviews", position, "kind"), f"unknown kind of review{hint}", allowed=allowed
            )
