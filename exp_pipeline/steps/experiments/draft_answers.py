"""How answers of `exp new` are read: a line of text from a person becomes plain data of a brief, and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Any

_YES, _NO = ("yes", "y", "true"), ("no", "n", "false")
_RELATIVE = "relative"
_NUMBER_HINT = "a number, such as 0.05"


def words(text: str) -> str:
    """Text on one line. Raises ValueError where nothing is said."""
    said = " ".join(text.split())
    if not said:
        raise ValueError("say something")
    return said


def names(text: str) -> list[str]:
    """Names between commas; none for "none" or nothing."""
    found = [part.strip() for part in text.replace(";", ",").split(",")]
    return [] if found in ([""], ["none"]) else [part for part in found if part]


def number(text: str) -> float:
    """A number. Raises ValueError saying how to write it; a percentage has two meanings and is refused."""
    cleaned = text.strip().replace("_", "")
    if cleaned.endswith("%"):
        raise ValueError("write a share as a number: 0.05 for 5 %")
    try:
        value = float(cleaned)
    except ValueError:
        raise ValueError(f"{text.strip()!r} is not a number; write {_NUMBER_HINT}") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"{text.strip()!r} is not a number; write {_NUMBER_HINT}")
    return value


def whole(text: str) -> int:
    """A whole number."""
    value = number(text)
    if value != int(value):
        raise ValueError(f"{text.strip()!r} is not a whole number")
    return int(value)


def yes_or_no(text: str) -> bool:
    """Yes or no."""
    said = text.strip().casefold()
    if said not in (*_YES, *_NO):
        raise ValueError("say yes or no")
    return said in _YES


def day(text: str) -> str:
    """A day, as YYYY-MM-DD."""
    try:
        return date.fromisoformat(text.strip()).isoformat()
    except ValueError:
        raise ValueError(f"{text.strip()!r} is not a day; write it YYYY-MM-DD") from None


def days(text: str) -> list[str]:
    """Days between commas; none for "none"."""
    return [day(one) for one in names(text)]


def effect(text: str) -> dict[str, float]:
    """`0.05` is absolute, `relative 0.05` a share of control's value."""
    said = text.casefold().split()
    if said.count(_RELATIVE) == 1 and len(said) == 2:
        return {"relative": number(next(word for word in said if word != _RELATIVE))}
    if len(said) != 1:
        raise ValueError("write 0.05 (absolute) or `relative 0.05` (a share of control's value)")
    if said[0].endswith("%"):
        raise ValueError(
            "% has two meanings: write 0.05 for 5 percentage points, or `relative 0.05` for 5 % of control"
        )
    return {"absolute": number(said[0])}


def effect_words(value: dict[str, float]) -> str:
    """An effect as `effect` reads it."""
    if value.get("relative") is not None:
        return f"{_RELATIVE} {value['relative']:g}"
    return f"{value['absolute']:g}"


def arms(text: str, before: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """`control, treatment` shares the units evenly; `control 50, a 30, b 20` gives percentages.

    before: earlier arms, whose descriptions are kept for those of the same name.
    """
    described = {arm.get("name"): arm.get("description", "") for arm in before}
    parts = [part.split() for part in names(text)]
    if len(parts) < 2:
        raise ValueError("name at least two arms, such as: control, treatment")
    if any(len(part) > 2 for part in parts):
        raise ValueError("write each arm as a name, or a name and its percentage: control 50, treatment 50")
    given = [number(part[1].removesuffix("%")) for part in parts if len(part) == 2]
    if given and len(given) < len(parts):
        raise ValueError("give every arm a percentage, or none")
    if given and abs(sum(given) - 100.0) > 1e-9:
        raise ValueError(f"percentages must add up to 100, they add up to {sum(given):g}")
    shares = [round(one / 100.0, 12) for one in given] if given else _even(len(parts))
    found = []
    for (name, *_), share in zip(parts, shares, strict=True):
        arm: dict[str, Any] = {"name": name, "share": share}
        if described.get(name):
            arm["description"] = described[name]
        found.append(arm)
    return found


def arms_words(value: Sequence[dict[str, Any]]) -> str:
    """Arms as `arms` reads them."""
    return ", ".join(f"{arm['name']} {100 * arm['share']:.12g}" for arm in value)


def guardrails(text: str) -> list[dict[str, Any]]:
    """`name margin`, between commas; after the margin `relative`, `point` or `kill` may stand."""
    found = []
    for part in names(text):
        name, *rest = part.split()
        flags = [word.casefold() for word in rest if not _is_number(word)]
        numbers = [word for word in rest if _is_number(word)]
        unknown = sorted(set(flags) - {_RELATIVE, "point", "kill"})
        if unknown or len(numbers) != 1:
            raise ValueError(
                f"{part!r}: write a metric and its margin, then `relative`, `point` or `kill` where meant, "
                "such as: p95_latency_ms 0.1 relative kill"
            )
        guardrail: dict[str, Any] = {"metric": name, "margin": number(numbers[0])}
        if _RELATIVE in flags:
            guardrail["margin_kind"] = "relative"
        if "point" in flags:
            guardrail["basis"] = "point"
        if "kill" in flags:
            guardrail["kill"] = {"alpha": 0.01, "action": "roll_back"}
        found.append(guardrail)
    return found


def guardrails_words(value: Sequence[dict[str, Any]]) -> str:
    """Guardrails as `guardrails` reads them."""
    told = []
    for one in value:
        flags = [
            word
            for word, there in (
                (_RELATIVE, one.get("margin_kind") == "relative"),
                ("point", one.get("basis") == "point"),
                ("kill", one.get("kill") is not None),
            )
            if there
        ]
        told.append(" ".join([one["metric"], f"{one['margin']:g}", *flags]))
    return ", ".join(told) or "none"


def segments(text: str) -> list[dict[str, Any]]:
    """`column`, or `column floor` with the least effect that each of its values may have."""
    found: list[dict[str, Any]] = []
    for part in names(text):
        column, *floor = part.split(maxsplit=1)
        found.append({"column": column, "floor": effect(floor[0])} if floor else {"column": column})
    return found


def segments_words(value: Sequence[dict[str, Any]]) -> str:
    """Segments as `segments` reads them."""
    told = [one["column"] + (f" {effect_words(one['floor'])}" if one.get("floor") else "") for one in value]
    return ", ".join(told) or "none"


def stages(text: str) -> list[dict[str, Any]]:
    """Percentages of traffic, each more than the one before; none for "none"."""
    if text.strip() in ("", "none"):
        return []
    given = [number(part.removesuffix("%")) for part in re.split(r"[\s,>]+", text.strip()) if part]
    return [{"traffic": round(one / 100.0, 12)} for one in given]


def stages_words(value: Sequence[dict[str, Any]]) -> str:
    """Stages as `stages` reads them."""
    return " ".join(f"{100 * one['traffic']:.12g}" for one in value) or "none"


def _even(count: int) -> list[float]:
    """Shares to four decimals that add up to exactly 1: the first arm takes what is left."""
    share = round(1.0 / count, 4)
    return [round(1.0 - share * (count - 1), 4), *([share] * (count - 1))]


def _is_number(word: str) -> bool:
    try:
        number(word)
    except ValueError:
        return False
    return True
