"""Drafts on their way to a start: the queue of a review board."""

from __future__ import annotations

from exp_pipeline.analysis.planning.intake import in_queue_order, intake_row
from exp_pipeline.catalog import Catalog
from exp_pipeline.model.intake import IntakeRow
from exp_pipeline.steps.context import day_of
from exp_pipeline.steps.experiments.locking import locked_of
from exp_pipeline.steps.experiments.reviews import reviews_of, reviews_waiting
from exp_pipeline.store.home import Home
from exp_pipeline.store.lake import Lake


def intake_rows(home: Home, catalog: Catalog) -> tuple[IntakeRow, ...]:
    """Every brief of a catalog as a review board sees it: drafts first, the most promising on top."""
    days = Lake(home.lake).partitions("unit_days")
    newest = day_of(days[-1]) if days else None
    rows = []
    for _, brief in sorted(catalog.briefs.items()):
        given = [f"{one.kind} by {one.by} on {one.day}" for one in reviews_of(home, brief) if one.stands]
        rows.append(
            intake_row(
                brief,
                locked=locked_of(home, brief) is not None,
                newest=newest,
                reviewed=given,
                waits_for=reviews_waiting(home, brief, catalog.reviews),
            )
        )
    return in_queue_order(rows)
