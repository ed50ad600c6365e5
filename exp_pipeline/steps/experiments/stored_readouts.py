"""Readouts as they lie on disk: where, in which form, and whether they are still what was sealed."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from exp_pipeline.model.errors import ExpError, StoreError
from exp_pipeline.model.readout import Readout
from exp_pipeline.steps.experiments.kept import read_kept
from exp_pipeline.store.home import Home
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.sealed import read_sealed

READOUT_FILE = "readout.json"
READOUT_GROUP = "readout"


def readout_folder(home: Home, experiment: str, snapshot: str) -> Path:
    """Where the readout of a snapshot lies."""
    return home.readouts / f"experiment={experiment}" / f"snapshot={snapshot}"


def newest_read_out(home: Home, experiment: str) -> str | None:
    """The newest snapshot of an experiment that was read out; the newest of all where none of them was.

    A run that goes on, or was killed, may have taken a snapshot that is not read out yet.
    """
    marts = Marts(home.marts)
    newest = name = marts.current(experiment)
    while name is not None and marts.record(experiment, name) is not None:
        if (readout_folder(home, experiment, name) / READOUT_FILE).is_file():
            return name
        try:
            before = read_kept(marts.folder(experiment, name)).before
        except ExpError:
            break
        name = None if before is None else before.snapshot
    return newest


def stored_readout(home: Home, experiment: str, snapshot: str | None = None) -> Readout | None:
    """The readout of a snapshot (the current one, unless named) as it was sealed; None where none was.

    Computes nothing. Raises StoreError where its file is gone, was changed since it was sealed, speaks of
    another snapshot, or has a form that this version cannot read.
    """
    name = snapshot or Marts(home.marts).current(experiment)
    if name is None:
        return None
    folder = readout_folder(home, experiment, name)
    encoded = read_sealed(folder, READOUT_GROUP, READOUT_FILE)
    if encoded is None:
        return None
    path = folder / READOUT_FILE
    try:
        readout = parse_readout(encoded)
    except ValidationError as trouble:
        raise StoreError(
            f"{path} has the form of another version of the program: {_first(trouble)}"
        ) from trouble
    if (readout.experiment, readout.provenance.snapshot) != (experiment, name):
        raise StoreError(f"{path} speaks of {readout.experiment}, snapshot {readout.provenance.snapshot}")
    return readout


def parse_readout(encoded: bytes) -> Readout:
    """A readout's JSON; one of an earlier schema version is read as today's, whose new fields then have no
    value. Raises ValidationError where that cannot be."""
    try:
        return Readout.model_validate_json(encoded)
    except ValidationError:
        plain = _plain(encoded)
        if "schema_version" not in plain:
            raise
        return Readout.model_validate(
            {**plain, "schema_version": Readout.model_fields["schema_version"].default}
        )


def _plain(encoded: bytes) -> dict[str, object]:
    try:
        found = json.loads(encoded)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _first(trouble: ValidationError) -> str:
    first = trouble.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'the file'}: {first['msg']}"
