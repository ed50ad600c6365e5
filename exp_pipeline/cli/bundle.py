"""What comes with the pipeline: the sample's folder in a checkout."""

from __future__ import annotations

from pathlib import Path

import exp_pipeline

SAMPLE_KEY = "sample-data-only-not-a-secret-key"


def sample_root() -> Path | None:
    """The `data` folder of a checkout, which holds the sample; None where only the package is installed."""
    root = Path(exp_pipeline.__file__).parents[1] / "data"
    return root if (root / "catalog").is_dir() else None


def is_sample(root: Path) -> bool:
    """Whether a data folder is the bundled one, with the bundled landing files."""
    own = sample_root()
    return own is not None and root.resolve() == own.resolve()
