"""Names in the quality policy that no contract knows: events and fields, each with its place in the file."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from exp_pipeline.catalog.documents import Document, Place
from exp_pipeline.contracts.fields import FIELDS
from exp_pipeline.model.errors import Problem
from exp_pipeline.model.quality import QualityPolicy


def quality_references(
    document: Document, policy: QualityPolicy, event_names: Collection[str] | None
) -> list[Problem]:
    """What does the file's `quality` section name that is not there? Events are asked for where known."""
    found = [
        document.problem(place, f"no event has a field {name!r}", value=name, allowed="exp events lists them")
        for place, name in _fields(policy)
        if document.at(place) is not None and name not in FIELDS
    ]
    if event_names is not None:
        found += [
            document.problem(
                place, f"there is no event {name!r}", value=name, allowed=", ".join(sorted(event_names))
            )
            for place, name in _events(policy)
            if document.at(place) is not None and name not in event_names
        ]
    return found


def _fields(policy: QualityPolicy) -> Iterator[tuple[Place, str]]:
    for event, fields in policy.critical.items():
        for number, name in enumerate(fields):
            yield ("quality", "critical", event, number), name
    for number, name in enumerate(policy.receipt_fields):
        yield ("quality", "receipt_fields", number), name
    for name in policy.announced:
        yield ("quality", "announced", name), name


def _events(policy: QualityPolicy) -> Iterator[tuple[Place, str]]:
    for event in policy.critical:
        yield ("quality", "critical", event), event
    for number, event in enumerate(policy.volume_leaves_out):
        yield ("quality", "volume_leaves_out", number), event
    if policy.gateway is not None:
        for number, event in enumerate(policy.gateway.events):
            yield ("quality", "gateway", "events", number), event
