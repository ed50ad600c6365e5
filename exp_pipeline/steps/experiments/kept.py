"""What a snapshot keeps beside its data, so that a readout made of it later needs nothing of that day."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

from pydantic import ValidationError

from exp_pipeline.model.base import Noun
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.errors import ExpError, StoreError
from exp_pipeline.model.evidence import EqualArms
from exp_pipeline.model.metrics import Measure, Metric
from exp_pipeline.model.ramps import RampEntry
from exp_pipeline.model.readout import InputChange, LockState, Unblinding

KEPT = "kept.json"


class Predecessor(Noun):
    """The snapshot that was current before one was made, and in which inputs the two differ."""

    snapshot: str
    as_of: date
    inputs: tuple[InputChange, ...]


class Kept(Noun):
    """Definitions and standing of one experiment at the moment of a snapshot.

    `brief_digest` is the digest that the brief had then: a later version of the program, whose briefs have
    more fields, computes another one. `ramp` are the transitions up to the end of its newest day, which its
    memo shows. `before` is None for an experiment's first snapshot.
    """

    brief: Brief
    brief_digest: str
    metrics: dict[str, Metric]
    measures: dict[str, Measure]
    lock: LockState
    unblindings: tuple[Unblinding, ...] = ()
    equal_arms: tuple[EqualArms, ...] = ()
    ramp: tuple[RampEntry, ...] = ()
    before: Predecessor | None = None


def write_kept(kept: Kept, folder: Path) -> None:
    """Write it into a snapshot's folder while that is made."""
    plain = kept.model_dump(mode="json")
    # A metric refuses fields that its type gives no meaning, so those that nobody set are left out.
    for name in ("metrics", "measures"):
        plain[name] = {
            key: one.model_dump(mode="json", exclude_unset=True) for key, one in getattr(kept, name).items()
        }
    (folder / KEPT).write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n")


def ramp_of(folder: Path) -> tuple[RampEntry, ...]:
    """The ramp's transitions that a snapshot keeps; none where an earlier version made it."""
    return read_kept(folder).ramp if (folder / KEPT).is_file() else ()


def read_kept(folder: Path) -> Kept:
    """What a snapshot keeps. Raises ExpError for a snapshot of an earlier version, which keeps nothing, and
    StoreError where the file cannot be read."""
    try:
        encoded = (folder / KEPT).read_bytes()
    except FileNotFoundError as missing:
        raise ExpError(
            f"snapshot {folder.name.partition('=')[2]} was made by an earlier version, which kept neither "
            "its brief nor its metrics: materialize `mad` again for a new one"
        ) from missing
    try:
        return Kept.model_validate_json(encoded)
    except ValidationError as trouble:
        first = trouble.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise StoreError(
            f"{folder / KEPT} cannot be read by this version ({place}: {first['msg']}); the version that "
            "made it is named in snapshot.json beside it"
        ) from trouble
