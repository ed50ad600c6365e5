"""Linking everybody: each landing file is read once more while two keys are set, so that the older may go."""

from __future__ import annotations

from dataclasses import dataclass

from exp_pipeline.model.errors import ExpError
from exp_pipeline.steps.context import Workbench, received_day
from exp_pipeline.steps.ingest.landing import land
from exp_pipeline.steps.people.identity import LINKS, identity_rows
from exp_pipeline.steps.people.identity_keys import as_known, known_keys, note_key
from exp_pipeline.store.landing import received_days


@dataclass(frozen=True, slots=True)
class Linked:
    """What linking did: days landed again, links there now, and the event days whose people changed.

    `event_days` is empty unless a retired key was brought back; these days must be materialized again.
    """

    days: int
    links: int
    event_days: tuple[str, ...]


def link_everybody(bench: Workbench) -> Linked:
    """Land every received day again with all keys set, so that everybody in the landing folder is linked.

    The oldest key of the environment comes into force, also where it was retired. Raises ExpError where only
    one key is set, or where the oldest was never used here.
    """
    if bench.key is None or not bench.newer_keys:
        raise ExpError(
            "linking needs two keys: set the new secret as EXP_HMAC_KEY and the old one as "
            "EXP_HMAC_KEY_PREVIOUS"
        )
    oldest = as_known(bench.home, (bench.key,))[0]
    known = known_keys(bench.home)
    if known and oldest.key_id not in known:
        raise ExpError(f"EXP_HMAC_KEY_PREVIOUS holds key {oldest.key_id}, which was never used here")
    if known and known[oldest.key_id].fingerprint == oldest.fingerprint:
        note_key(bench.home, oldest.key_id, oldest.fingerprint, "in_force")
    changed: set[str] = set()
    days = received_days(bench.home.landing)
    for day in days:
        before = bench.lake.manifest("landed", received_day(day))
        digests = {file.tag: file.digest for file in before.files} if before else {}
        land(bench, day)
        after = bench.lake.manifest("landed", received_day(day))
        for file in after.files if before and after else ():
            if digests.get(file.tag) != file.digest:
                changed.add(file.tag)
    return Linked(len(days), identity_rows(bench, LINKS).height, tuple(sorted(changed)))
