"""Names by content: what a brief's metrics were when a number was computed."""

from __future__ import annotations

from collections.abc import Mapping

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.metrics import Measure, Metric


def digest_of_metrics(brief: Brief, metrics: Mapping[str, Metric], measures: Mapping[str, Measure]) -> str:
    """Which definitions of metrics and measures a brief's numbers rest on, as one digest (64 hex digits).

    `metrics` and `measures` are those of the brief, by name; the order of either does not matter.
    A brief over a unit table defines its metrics itself, so those stand in.
    """
    table = {} if brief.table is None else brief.table.model_dump(mode="json")
    content = {
        "metrics": {name: metric.model_dump(mode="json") for name, metric in metrics.items()},
        "measures": {name: measure.model_dump(mode="json") for name, measure in measures.items()},
        "table": table,
    }
    return digest_of(content)
