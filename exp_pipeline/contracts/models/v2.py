"""The events whose meaning changed: major version 2, beside version 1 of the same events in `v1`."""

from __future__ import annotations

from exp_pipeline.contracts.canonical.columns import column
from exp_pipeline.contracts.models.base import Rule
from exp_pipeline.contracts.models.row import CanonicalEvent
from exp_pipeline.contracts.models.v1 import FEEDBACK_SAYS_SOMETHING, TURN


class FeedbackGiven(
    CanonicalEvent,
    event="feedback_given",
    major=2,
    owner="learning-data",
    also=(
        "helpful",
        "rating",
        "rating_min",
        "rating_max",
        "resolved",
        "turn_id",
        *TURN,
        "feedback_hmac",
        "feedback_chars",
        "feedback_language",
    ),
    changed={
        "rating": column(
            "rating",
            "float",
            "Rating given, on the producer's own scale.",
            unit="producer's scale",
            sample=8.0,
            ge=-1e6,
            le=1e6,
        )
    },
    rules=(
        FEEDBACK_SAYS_SOMETHING,
        Rule(
            "rating_names_its_scale",
            "rating IS NULL OR (rating_min IS NOT NULL AND rating_max IS NOT NULL)",
            "A rating says which scale it stands on.",
        ),
        Rule("scale_has_width", "rating_min < rating_max", "The best rating is above the worst."),
        Rule(
            "rating_on_its_scale",
            "rating >= rating_min AND rating <= rating_max",
            "A rating lies on the scale that it names.",
        ),
    ),
    reads={"rating": "1 + 4 * (rating - rating_min) / (rating_max - rating_min)"},
):
    """A learner or teacher said what they thought of an answer, on the scale that the product shows.

    Version 1 asked producers to turn stars, faces and 0-to-10 scales into 1 to 5 before sending, each in its
    own way; here they send what was clicked, with the scale's ends, and it is turned here, once.
    """


EVENTS: tuple[type[CanonicalEvent], ...] = (FeedbackGiven,)
