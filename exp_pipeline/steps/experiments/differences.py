"""Comparing readouts: two snapshots of one experiment, or a stored readout with what is computed today."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from exp_pipeline.analysis.deciding.differences import difference_of, field_changes
from exp_pipeline.model.differences import FieldChange, ReadoutDifference, Recomputation
from exp_pipeline.model.errors import ExpError, StoreError
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.chain import compute_readout
from exp_pipeline.steps.experiments.erased import refuse_erased
from exp_pipeline.steps.experiments.input_changes import changes_between
from exp_pipeline.steps.experiments.kept import read_kept
from exp_pipeline.steps.experiments.sealed_readouts import folder_of, readout_of, since_before
from exp_pipeline.steps.experiments.stored_readouts import READOUT_FILE, READOUT_GROUP
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.sealed import read_sealed, sealed_digests

_CODE = ("code_version", "dataset_code")


def compare_snapshots(bench: Workbench, experiment: str, first: str, second: str) -> ReadoutDifference:
    """What changed from the readout of one snapshot to that of another, and why?

    Raises ExpError for snapshots that do not exist or were erased.
    """
    marts = Marts(bench.home.marts)
    readouts = [readout_of(bench, experiment, name) for name in (first, second)]
    records = [marts.record(experiment, name) for name in (first, second)]
    return difference_of(
        *readouts,
        inputs=changes_between(*records),
        metrics=_definitions(marts, experiment, first, second),
    )


def _definitions(marts: Marts, experiment: str, first: str, second: str) -> tuple[FieldChange, ...]:
    """Fields of metrics and measures that two snapshots define otherwise; none where one keeps none."""
    try:
        before, now = (
            read_kept(marts.folder(experiment, name)).model_dump(mode="json", include={"metrics", "measures"})
            for name in (first, second)
        )
    except ExpError:
        # Made by an earlier version: the inputs say that definitions changed; which of them is not known.
        return ()
    return field_changes(before, now)


def recompute(bench: Workbench, experiment: str, snapshot: str) -> Recomputation:
    """Does today's code compute the stored readout again from what its snapshot keeps?

    Nothing is written. Raises ExpError where the snapshot was erased, or keeps no definitions, or has no
    stored readout.
    """
    refuse_erased(bench.home, experiment, snapshot)
    folder = folder_of(bench, experiment, snapshot)
    digest = sealed_digests(folder, READOUT_GROUP).get(READOUT_FILE)
    if digest is None:
        raise ExpError(
            f"snapshot {snapshot} of {experiment} was not read out yet: there is nothing to compare"
        )
    try:
        stored = read_sealed(folder, READOUT_GROUP, READOUT_FILE)
    except StoreError:
        # Changed by hand or gone: what is left of it is compared all the same.
        path = folder / READOUT_FILE
        stored = path.read_bytes() if path.is_file() else None
    old = _parsed(stored)
    readout = compute_readout(bench, experiment, snapshot)
    since = since_before(bench, experiment, snapshot, readout) if old.get("since_last") else None
    computed = (readout.model_copy(update={"since_last": since}).model_dump_json(indent=1) + "\n").encode()
    new = _parsed(computed)
    told = str(old.get("provenance", {}).get("code_version", "unknown"))
    return Recomputation(
        experiment=experiment,
        snapshot=snapshot,
        stored_by=told,
        computed_by=bench.code_version,
        stored_digest=digest,
        same_bytes=hashlib.sha256(computed).hexdigest() == digest,
        differences=field_changes(_without_code(old), _without_code(new)),
        damaged=Marts(bench.home.marts).damaged(experiment, snapshot),
    )


def _parsed(encoded: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(encoded) if encoded is not None else {}
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def _without_code(plain: dict[str, Any]) -> dict[str, Any]:
    of = dict(plain.get("provenance", {}))
    of.pop("code_version", None)
    of["inputs"] = {name: value for name, value in of.get("inputs", {}).items() if name not in _CODE}
    return {**plain, "provenance": of}
