"""Which identity keys a data folder has met, and whether those of the environment may be used with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from exp_pipeline.model.errors import ExpError
from exp_pipeline.steps.context import Workbench
from exp_pipeline.store.engine import Rows
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import StateLog, state_log
from exp_pipeline.transform.identity import IdentityKey, identity_key

Standing = Literal["in_force", "incoming", "retired", "lost"]
_KIND = "identity_key"


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key that a data folder has met: its public name, its fingerprint, how it stands and since when.

    `in_force`: pseudonyms are made with it. `incoming`: it was set beside the key in force, so people are
    being linked to it. `retired`: it was in force before. `lost`: somebody told that it is gone for good.
    """

    key_id: str
    fingerprint: str
    standing: Standing
    since: str


def _log(home: Home) -> StateLog:
    return state_log(home)


def known_keys(home: Home) -> dict[str, KnownKey]:
    """Every key this data folder has met, by name, in the order met, with its standing now."""
    keys: dict[str, KnownKey] = {}
    for entry in _log(home).entries(_KIND):
        standing: Standing = entry.content["standing"]  # type: ignore[assignment]
        if standing == "in_force":
            for name, one in keys.items():
                if one.standing == "in_force":
                    keys[name] = replace(one, standing="retired", since=entry.at)
        keys[entry.subject] = KnownKey(
            entry.subject, str(entry.content["fingerprint"]), standing, since=entry.at
        )
    return keys


def note_key(home: Home, key_id: str, fingerprint: str, standing: Standing) -> None:
    """Write down that a key stands so from now on; nothing is added where it stands so already."""
    known = known_keys(home)
    if key_id in known and known[key_id].standing == standing:
        return
    log = _log(home)
    # Two days that land side by side note the same: the number of entries they saw makes it one entry.
    log.append(
        _KIND,
        key_id,
        key=f"{len(log.entries(_KIND))}:{key_id}:{standing}",
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        content={"fingerprint": fingerprint, "standing": standing},
    )


def as_known(home: Home, keys: Sequence[IdentityKey]) -> tuple[IdentityKey, ...]:
    """The keys under the names by which this data folder knows their secrets, where they were given none."""
    names = {one.fingerprint: one.key_id for one in known_keys(home).values()}

    def named(key: IdentityKey) -> IdentityKey:
        unnamed = key.key_id == identity_key(key.secret.decode()).key_id
        return replace(key, key_id=names.get(key.fingerprint, key.key_id)) if unnamed else key

    return tuple(named(key) for key in keys)


def admit(bench: Workbench) -> tuple[IdentityKey, ...]:
    """Check the environment's keys against those met before, note new standings, and give them, oldest first.

    Raises ExpError where no key is set, and where the keys would make one person into two: a key that nobody
    announced, a retired key that comes back, a known name on another secret. A key is announced by setting it
    beside the one in force.
    """
    if bench.key is None:
        raise ExpError(
            "no identity key: set EXP_HMAC_KEY to a secret text of at least 16 characters (and keep it)"
        )
    keys = (bench.key, *bench.newer_keys)
    known = known_keys(bench.home)
    for key in keys:
        _check_name(key, known)
    oldest = keys[0]
    force = next((one.key_id for one in known.values() if one.standing == "in_force"), None)
    if not known:
        _check_landed(bench, keys)
    elif force is not None and force != oldest.key_id:
        if force in (key.key_id for key in keys):
            raise ExpError(_older_than_force(oldest.key_id, force, known))
        if oldest.key_id not in known:
            raise ExpError(_not_announced([key.key_id for key in keys], force))
    if force != oldest.key_id:
        note_key(bench.home, oldest.key_id, oldest.fingerprint, "in_force")
    for key in keys[1:]:
        if key.key_id not in known:
            note_key(bench.home, key.key_id, key.fingerprint, "incoming")
    return keys


def _check_name(key: IdentityKey, known: dict[str, KnownKey]) -> None:
    named = known.get(key.key_id)
    if named is not None and named.fingerprint != key.fingerprint:
        raise ExpError(
            f"the secret that is set under the name {key.key_id} is not the one that had this name here: set "
            "the right secret, or give the new one a name of its own (EXP_HMAC_KEY_ID) and set that "
            f"of {key.key_id} as EXP_HMAC_KEY_PREVIOUS"
        )
    other = next((one.key_id for one in known.values() if one.fingerprint == key.fingerprint), key.key_id)
    if other != key.key_id:
        raise ExpError(
            f"the secret that is set under the name {key.key_id} is known here as {other}: a new name needs "
            f"a new secret; set EXP_HMAC_KEY_ID={other}, or leave it out"
        )


def _check_landed(bench: Workbench, keys: Sequence[IdentityKey]) -> None:
    """Where the state was lost, landed rows still say by which key they came."""
    names = bench.lake.partitions("landed")
    for manifest in bench.lake.manifests("landed", names[-1:]):
        bench.engine.offer("landed_keys", Rows(bench.lake.paths([manifest])[:1], {"key_id": "VARCHAR"}))
        found = bench.engine.connection.execute(
            "select key_id from landed_keys where key_id is not null limit 1"
        ).fetchall()
        if found and found[0][0] not in {key.key_id for key in keys}:
            raise ExpError(_not_announced([key.key_id for key in keys], str(found[0][0])))


def _not_announced(given: Sequence[str], force: str) -> str:
    return (
        f"the environment holds identity key {', '.join(given)}, but {force} is in force here, and the two "
        "were never set together: every learner would become somebody else. If this is the wrong secret, set "
        f"that of {force}. If it is a rotation, set EXP_HMAC_KEY to the new secret and EXP_HMAC_KEY_PREVIOUS "
        f"to that of {force}, and leave the old one out some days later. If {force} is lost for good, say so "
        f"with `exp keys lost {force}`"
    )


def _older_than_force(oldest: str, force: str, known: dict[str, KnownKey]) -> str:
    if oldest in known:
        return (
            f"identity key {oldest} is {known[oldest].standing} and {force} is in force: people met since "
            f"would get other pseudonyms. Take {oldest} out of EXP_HMAC_KEY_PREVIOUS, or bring it back for "
            "everybody with `exp keys link`, which lands every day again"
        )
    return (
        f"EXP_HMAC_KEY_PREVIOUS holds key {oldest}, which was never used here; the key in force is {force}. "
        f"To begin a rotation, set the new secret as EXP_HMAC_KEY and that of {force} as "
        "EXP_HMAC_KEY_PREVIOUS"
    )
