"""Redaction: what is taken out of a text before anybody may read it. It knows forms, not names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

MOST_CHARS = 20_000
# A shorter id is part of many a word: it is taken out only where it stands alone.
LEAST_ID_CHARS = 6
_ENDINGS = "com|org|net|edu|gov|mil|int|info|io|ai|me|co|app|dev|school|uk|us|de|fr|es|it|nl|at|ch|pl|ca|au"
# Each pattern starts at the edge of a run and none backtracks into one: time grows with the text, not faster.
_FORMS = (
    ("url", re.compile(r"(?<![a-z0-9+.-])(?:[a-z][a-z0-9+.-]{1,15}+://|mailto:|tel:|www\.)\S*+", re.I)),
    ("email", re.compile(r"(?<![^\s@<>()\[\]\"',;:])[^\s@<>()\[\]\"',;:]++@+[^\s@<>()\[\]\"',;:]++")),
    (
        "email",
        re.compile(
            r"(?<![\w.+-])[\w.+-]{1,64}+\s{0,2}[\[({]\s?at\s?[\])}]\s{0,2}[\w.-]{1,64}+"
            r"(?:\s{0,2}[\[({]\s?dot\s?[\])}]\s{0,2}[\w.-]{1,64}+){0,4}",
            re.I,
        ),
    ),
    ("handle", re.compile(r"@[\w.-]++")),
    (
        "url",
        re.compile(
            rf"(?<![\w.-])(?:[\w-]{{1,63}}\.){{1,8}}(?:(?:{_ENDINGS})(?![\w-])|[a-z]{{2,24}}(?=[/:?#]))"
            r"(?:[/:?#]\S*+)?",
            re.I,
        ),
    ),
    ("number", re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)")),
    ("number", re.compile(r"(?<![\w:])(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{0,4}(?![\w:])", re.I)),
    ("token", re.compile(r"(?<![\w-])(?=[\w-]{0,200}\d)(?=[\w-]{0,200}[^\W\d])[\w-]{20,}+")),
    ("number", re.compile(r"\+?\(?\d(?:[\s().,/\u2013-]{0,3}\d){6,}+")),
)


def plain(text: str) -> str:
    """A text without invisible characters, in the form in which letters and digits that look alike are equal.

    Otherwise an address in full-width letters, or with a zero-width space in it, would be another text.
    """
    if text.isascii() and text.isprintable():
        return text
    folded = unicodedata.normalize("NFKC", text)
    return "".join(
        char
        for char in folded
        if char in "\n\t" or unicodedata.category(char) not in ("Cf", "Cc", "Cs", "Co", "Cn")
    )


def redacted(text: str, ids: Iterable[str] = ()) -> str:
    """A text with placeholders for what can be known by its form; at most 20,000 characters of it.

    `ids` (of the row the text came with) become [id], whatever their case; one shorter than 6 characters only
    where it stands alone. Mail addresses become [email], names after an @ [handle], links and domains [url],
    runs of 7 digits or more, however grouped, and network addresses [number], long mixes of letters and
    digits [token]. Names of people, places and schools, and short numbers, are not known and stay.
    """
    result = plain(text)
    for one in sorted({plain(one).strip() for one in ids}, key=lambda one: (-len(one), one)):
        if one and _may_stand_in(one, result):
            result = _id_pattern(one).sub("[id]", result)
    for kind, pattern in _FORMS:
        result = pattern.sub(f"[{kind}]", result)
    return result if len(result) <= MOST_CHARS else result[:MOST_CHARS] + " […]"


def _may_stand_in(one: str, text: str) -> bool:
    """Whether an id may stand in a text: to compile its pattern costs more than all else, and most do not."""
    return not (one.isascii() and text.isascii()) or one.lower() in text.lower()


def _id_pattern(one: str) -> re.Pattern[str]:
    whole = re.escape(one)
    if len(one) < LEAST_ID_CHARS:
        whole = rf"(?<!\w){whole}(?!\w)"
    return re.compile(whole, re.I)
