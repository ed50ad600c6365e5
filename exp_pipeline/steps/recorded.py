"""What a partition says it was made with."""

from __future__ import annotations

from exp_pipeline.store.lake import Manifest


def recorded_definitions(manifest: Manifest | None) -> dict[str, str]:
    """Measure -> digest of the definition a partition holds it by; empty where none was recorded."""
    found = manifest.facts.get("measures") if manifest is not None else None
    return {str(name): str(digest) for name, digest in found.items()} if isinstance(found, dict) else {}
