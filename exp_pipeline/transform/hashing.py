"""What a unit's id hashes to, by each scheme, for one id or for a whole column of them.

A bucket is one of 10,000. Arm and traffic have buckets of their own, drawn with different salts, so that more
traffic only ever adds units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt

BUCKETS = 10_000
Buckets64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Buckets:
    """The two buckets of one unit, each 0 to 9,999."""

    arm: int
    traffic: int


@dataclass(frozen=True, slots=True)
class BucketColumns:
    """The two buckets of many units: arrays of shape `(units,)`, in the order of the ids given."""

    arm: Buckets64
    traffic: Buckets64


def hash_number(experiment: str, version: int, unit_id: str, *, salt: str = "") -> int:
    """What 64-bit number a unit hashes to: first 8 bytes, big-endian, of SHA-256 of `experiment:vN:unit_id`.

    A salt stands between version and unit (`experiment:vN:salt:unit_id`), so that draws with different
    salts are independent.
    """
    middle = f":{salt}" if salt else ""
    return number_of(f"{experiment}:v{version}{middle}:{unit_id}")


def number_of(text: str) -> int:
    """What 64-bit number a text hashes to: the first 8 bytes, big-endian, of its SHA-256."""
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")


def flag_key(experiment: str, version: int) -> str:
    """Which flag carries an experiment: its name, and from version 2 on `name:vN`, which draws anew."""
    return experiment if version == 1 else f"{experiment}:v{version}"


def murmur3(texts: Sequence[bytes]) -> npt.NDArray[np.uint32]:
    """MurmurHash3 x86 32-bit, seed 0, of each text; shape `(texts,)`, unsigned.

    Texts of one length are hashed together. Source: A. Appleby, MurmurHash3, 2011 (public domain).
    """
    found = np.zeros(len(texts), dtype=np.uint32)
    lengths = np.fromiter((len(text) for text in texts), dtype=np.int64, count=len(texts))
    for length in np.unique(lengths).tolist():
        places = np.flatnonzero(lengths == length)
        joined = b"".join(texts[place] for place in places.tolist())
        found[places] = _murmur3_of_length(joined, len(places), length)
    return found


def _murmur3_of_length(joined: bytes, count: int, length: int) -> npt.NDArray[np.uint32]:
    rows = np.frombuffer(joined, dtype=np.uint8).reshape(count, length)
    state = np.zeros(count, dtype=np.uint32)
    whole = length // 4
    blocks = np.ascontiguousarray(rows[:, : whole * 4]).view("<u4").astype(np.uint32)
    for place in range(whole):
        state ^= _scrambled(blocks[:, place])
        state = _turned(state, 13) * np.uint32(5) + np.uint32(0xE6546B64)
    if length % 4:
        tail = np.zeros(count, dtype=np.uint32)
        for shift, column in enumerate(range(whole * 4, length)):
            tail |= rows[:, column].astype(np.uint32) << np.uint32(8 * shift)
        state ^= _scrambled(tail)
    state ^= np.uint32(length)
    state ^= state >> np.uint32(16)
    state *= np.uint32(0x85EBCA6B)
    state ^= state >> np.uint32(13)
    state *= np.uint32(0xC2B2AE35)
    return state ^ (state >> np.uint32(16))


def _turned(values: npt.NDArray[np.uint32], by: int) -> npt.NDArray[np.uint32]:
    return (values << np.uint32(by)) | (values >> np.uint32(32 - by))


def _scrambled(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    return _turned(values * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)


def fnv1a(texts: Sequence[str]) -> npt.NDArray[np.uint32]:
    """FNV-1a 32-bit of each text's UTF-16 code units; shape `(texts,)`, unsigned.

    Units of 16 bits, not bytes, because GrowthBook's SDKs follow JavaScript's `charCodeAt`. Texts of one
    length are hashed together. Source: Fowler, Noll and Vo, draft-eastlake-fnv, section 2.
    """
    encoded = [text.encode("utf-16-le", "surrogatepass") for text in texts]
    found = np.zeros(len(texts), dtype=np.uint32)
    lengths = np.fromiter((len(text) for text in encoded), dtype=np.int64, count=len(texts))
    for length in np.unique(lengths).tolist():
        places = np.flatnonzero(lengths == length)
        joined = b"".join(encoded[place] for place in places.tolist())
        units = np.frombuffer(joined, dtype="<u2").reshape(len(places), length // 2).astype(np.uint32)
        state = np.full(len(places), 0x811C9DC5, dtype=np.uint32)
        for place in range(length // 2):
            state = (state ^ units[:, place]) * np.uint32(0x01000193)
        found[places] = state
    return found


def _cbor_text(text: str) -> bytes:
    """A text in canonical CBOR (RFC 8949, section 4.2): the shortest header of major type 3, then UTF-8."""
    body = text.encode()
    size = len(body)
    if size < 24:
        return bytes([0x60 + size]) + body
    for code, width in ((0x78, 1), (0x79, 2), (0x7A, 4)):
        if size < 1 << (8 * width):
            return bytes([code]) + size.to_bytes(width, "big") + body
    raise ValueError(f"a text to hash must have fewer than 4 GiB, got {size:,} bytes")


def _of_sha256(texts: Sequence[str]) -> Buckets64:
    numbers = (number_of(text) % BUCKETS for text in texts)
    return np.fromiter(numbers, dtype=np.int64, count=len(texts))


def _share_of_unsigned(hashes: npt.NDArray[np.uint32]) -> Buckets64:
    """Bucket of an unsigned hash out of 2^32, as flagd's `fractional` takes it since its second version."""
    return ((hashes.astype(np.uint64) * np.uint64(BUCKETS)) >> np.uint64(32)).astype(np.int64)


def _share_of_signed(hashes: npt.NDArray[np.uint32]) -> Buckets64:
    """Bucket of the distance from zero out of 2^31 - 1, as flagd's first `fractional` took it."""
    distance: Buckets64 = np.abs(hashes.view(np.int32).astype(np.int64))
    buckets: Buckets64 = np.minimum(distance * BUCKETS // (2**31 - 1), BUCKETS - 1)
    return buckets


def _plain(texts: Sequence[str]) -> npt.NDArray[np.uint32]:
    return murmur3([text.encode() for text in texts])


def _encoded(texts: Sequence[str]) -> npt.NDArray[np.uint32]:
    return murmur3([_cbor_text(text) for text in texts])


def _growthbook(texts: Sequence[str]) -> Buckets64:
    """Bucket of a text as GrowthBook draws it since its second hash version: FNV-1a twice, modulo 10,000."""
    again = fnv1a([str(number) for number in fnv1a(texts).tolist()])
    return (again % np.uint32(BUCKETS)).astype(np.int64)


# Of one text, which bucket is it in? percent-v1 draws as sha256-v1 and only reads the number modulo 100.
_BUCKETS_OF_TEXTS: Mapping[str, Callable[[Sequence[str]], Buckets64]] = {
    "sha256-v1": _of_sha256,
    "flagd": lambda texts: _share_of_unsigned(_encoded(texts)),
    "flagd-v2": lambda texts: _share_of_unsigned(_plain(texts)),
    "flagd-v1": lambda texts: _share_of_signed(_plain(texts)),
    "growthbook": _growthbook,
}
SCHEMES = ("sha256-v1", "percent-v1", "flagd", "flagd-v2", "flagd-v1", "growthbook")


def hash_of_scheme(scheme: str) -> str:
    """By which hash a scheme draws its buckets; `percent-v1` shares those of `sha256-v1`.

    Raises ValueError for an unknown scheme.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}, got {scheme!r}")
    return "sha256-v1" if scheme == "percent-v1" else scheme


def bucket_columns(scheme: str, experiment: str, version: int, unit_ids: Sequence[str]) -> BucketColumns:
    """Which buckets do these units fall into, by an experiment's scheme?

    sha256-v1, percent-v1: SHA-256 of `experiment:vN:unit_id`, and of `experiment:vN:traffic:unit_id`.
    flagd: MurmurHash3 of the canonical CBOR of `[flagKey, targetingKey]` (the third version of `fractional`);
    flagd-v2 and flagd-v1: of the text `flagKey` + `targetingKey` (its second and first). Traffic is drawn
    from the text `flagKey:traffic:targetingKey`, as a flag does with an explicit value to bucket by. The flag
    is `flag_key`. growthbook: the texts of flagd-v2, by GrowthBook's hash version 2 with `flagKey` and
    `flagKey:traffic:` as seeds. Raises ValueError for an unknown scheme.
    """
    drawn = hash_of_scheme(scheme)
    of_texts = _BUCKETS_OF_TEXTS[drawn]
    if drawn == "sha256-v1":
        start = f"{experiment}:v{version}:"
        return BucketColumns(
            arm=of_texts([start + unit for unit in unit_ids]),
            traffic=of_texts([f"{start}traffic:{unit}" for unit in unit_ids]),
        )
    flag = flag_key(experiment, version)
    traffic = of_texts([f"{flag}:traffic:{unit}" for unit in unit_ids])
    if drawn == "flagd":
        start_of_pair = b"\x82" + _cbor_text(flag)
        hashes = murmur3([start_of_pair + _cbor_text(unit) for unit in unit_ids])
        return BucketColumns(arm=_share_of_unsigned(hashes), traffic=traffic)
    return BucketColumns(arm=of_texts([flag + unit for unit in unit_ids]), traffic=traffic)


def rollout_buckets(scheme: str, experiment: str, version: int, unit_ids: Sequence[str]) -> Buckets64:
    """Which bucket decides when a unit gets the shipped arm? Shape `(units,)`, each 0 to 9,999.

    A draw of its own, with the salt `rollout` in the place of `traffic`. Raises ValueError for an unknown
    scheme.
    """
    drawn = hash_of_scheme(scheme)
    start = f"{experiment}:v{version}" if drawn == "sha256-v1" else flag_key(experiment, version)
    return _BUCKETS_OF_TEXTS[drawn]([f"{start}:rollout:{unit}" for unit in unit_ids])


def buckets_of(scheme: str, experiment: str, version: int, unit_id: str) -> Buckets:
    """Which two buckets does one unit fall into, by an experiment's scheme? As `bucket_columns`, for one."""
    columns = bucket_columns(scheme, experiment, version, [unit_id])
    return Buckets(arm=int(columns.arm[0]), traffic=int(columns.traffic[0]))


def layer_buckets(scheme: str, salt: str, unit_ids: Sequence[str]) -> Buckets64:
    """Which bucket of a layer does each unit fall into? Shape `(units,)`, each 0 to 9,999.

    The text hashed is `layer=<salt>:<unit_id>`: no experiment's name holds a `=`, so a layer's draw is apart
    from every experiment's. Raises ValueError for an unknown scheme.
    """
    return _BUCKETS_OF_TEXTS[hash_of_scheme(scheme)]([f"layer={salt}:{unit}" for unit in unit_ids])
