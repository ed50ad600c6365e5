"""Identity: raw ids in, pseudonyms out; the expressions that reduce an id or a text to its HMAC.

The secret is an argument everywhere. Nothing here can turn a pseudonym back into an id.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import sqlglot
from sqlglot import exp

KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
PSEUDONYM = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class IdentityKey:
    """The secret that pseudonyms are made with, and the public name of that secret."""

    key_id: str
    secret: bytes

    def __post_init__(self) -> None:
        if len(self.secret) < 16:
            raise ValueError(
                "the identity key must have at least 16 bytes; set EXP_HMAC_KEY to a long random text"
            )
        if not KEY_ID.fullmatch(self.key_id):
            # Never shown: a secret put into the wrong variable would come out here.
            raise ValueError(
                "a key's name has 1 to 32 letters, digits, - or _, and begins with a letter or digit; "
                "what EXP_HMAC_KEY_ID (or EXP_HMAC_KEY_PREVIOUS_ID) holds is not shown"
            )

    def __repr__(self) -> str:
        return f"IdentityKey(key_id={self.key_id!r}, secret=…)"

    @property
    def fingerprint(self) -> str:
        """16 hex digits by which the secret is known again, and from which it cannot be computed."""
        return hmac.new(self.secret, b"exp-pipeline identity key fingerprint", "sha256").hexdigest()[:16]

    def pads(self) -> dict[str, bytes]:
        """The two padded keys of HMAC-SHA256 (RFC 2104), as the parameters `inner_pad` and `outer_pad`."""
        key = self.secret if len(self.secret) <= 64 else sha256(self.secret).digest()
        padded = key.ljust(64, b"\0")
        return {
            "inner_pad": bytes(byte ^ 0x36 for byte in padded),
            "outer_pad": bytes(byte ^ 0x5C for byte in padded),
        }

    def pseudonym(self, raw_id: str) -> str:
        """The pseudonym of one raw id: 32 hex digits of HMAC-SHA256."""
        return hmac.new(self.secret, raw_id.encode(), "sha256").hexdigest()[:32]


def identity_key(secret: str, key_id: str | None = None) -> IdentityKey:
    """The key of a secret text; without a name it is called after its fingerprint.

    Raises ValueError for a secret under 16 bytes or a name that is not plain.
    """
    if key_id:
        return IdentityKey(key_id, secret.encode())
    return IdentityKey("k" + IdentityKey("unnamed", secret.encode()).fingerprint[:8], secret.encode())


def tombstone(pseudonym: str) -> str:
    """What is kept of an erased person: a hash of the pseudonym, by which it is known when it comes again."""
    return sha256(b"erased:" + pseudonym.encode()).hexdigest()


def hmac_of(column: exp.Expr) -> exp.Expr:
    """HMAC-SHA256 of a text column, 64 hex digits; parameters inner_pad, outer_pad."""
    formula = sqlglot.parse_one(
        "sha256($outer_pad || unhex(sha256($inner_pad || encode(x))))", dialect="duckdb"
    )
    return formula.transform(
        lambda node: column.copy() if isinstance(node, exp.Column) and node.name == "x" else node
    )


def identities(columns: Sequence[str]) -> exp.Select:
    """Distinct raw ids of table `typed`, pseudonym and 64-bit key; parameters inner_pad, outer_pad.

    `columns` are those that hold ids. Raises ValueError where there are none.
    """
    everyone: exp.Query | None = None
    for name in columns:
        one = (
            exp.select(exp.column(name, quoted=True).as_("raw_id"))
            .distinct()
            .from_("typed", copy=False)
            .where(exp.column(name, quoted=True).is_(exp.null()).not_())
        )
        everyone = one if everyone is None else exp.union(everyone, one, distinct=True)
    if everyone is None:
        raise ValueError("identities needs at least one column that holds ids")
    return pseudonyms(everyone)


def pseudonyms(ids: exp.Query) -> exp.Select:
    """A query's column raw_id with its pseudonym and 64-bit key; parameters inner_pad, outer_pad."""
    hashed = exp.select("raw_id", hmac_of(exp.column("raw_id")).as_("digest")).from_(
        ids.subquery("ids", copy=False), copy=False
    )
    return (
        exp.select("raw_id", sqlglot.parse_one("left(digest, 32)", dialect="duckdb").as_("pseudonym"))
        .select(
            sqlglot.parse_one("cast('0x' || left(digest, 16) as ubigint)", dialect="duckdb").as_("id_key")
        )
        .from_(hashed.subquery("hashed", copy=False), copy=False)
    )
