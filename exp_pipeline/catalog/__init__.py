"""Reads and checks what people wrote in `data/catalog`: briefs, metrics, sources, policies; and the lock."""

from exp_pipeline.catalog.contents import Catalog, without
from exp_pipeline.catalog.digest import digest_of_metrics
from exp_pipeline.catalog.expressions import check_expressions, expression_fault
from exp_pipeline.catalog.loading import load_brief, load_catalog
from exp_pipeline.catalog.lock import LockedBrief, changed_fields, difference, lock_record, lock_state
from exp_pipeline.catalog.mappings import EventFields, check_mappings, mapping_problems

__all__ = [
    "Catalog",
    "EventFields",
    "LockedBrief",
    "changed_fields",
    "check_expressions",
    "check_mappings",
    "difference",
    "digest_of_metrics",
    "expression_fault",
    "load_brief",
    "load_catalog",
    "lock_record",
    "lock_state",
    "mapping_problems",
    "without",
]
