"""Numbers as words: how a value, a difference and a list are said in a sentence."""

from __future__ import annotations

from collections.abc import Iterable


def value_in_words(value: float | None, display: str) -> str:
    """How is a value of a metric said?"""
    if value is None:
        return "unknown"
    if display == "share":
        return f"{100 * value:.2f} %"
    return f"{_number(value)}{_unit(display)}"


def difference_in_words(value: float | None, display: str) -> str:
    """How is a difference between arms said? Shares differ by percentage points."""
    if value is None:
        return "unknown"
    if display == "share":
        return f"{100 * value:+.2f} pp"
    return f"{'+' if value >= 0 else ''}{_number(value)}{_unit(display)}"


def interval_in_words(lower: float | None, upper: float | None, display: str) -> str:
    """How is an interval of differences said?"""
    return f"{difference_in_words(lower, display)} to {difference_in_words(upper, display)}"


def margin_in_words(margin: float, kind: str, display: str) -> str:
    """How is a guardrail's margin said?"""
    if kind == "relative":
        return f"{100 * margin:.3g} % of control"
    return f"{100 * margin:.3g} pp" if display == "share" else f"{_number(margin)}{_unit(display)}"


def share_in_words(part: int, whole: int) -> str:
    """How is a part of a whole said?"""
    return f"{part:,} of {whole:,}" + (f" ({100 * part / whole:.2f} %)" if whole else "")


def p_in_words(p: float | None) -> str:
    """How is a p-value said?"""
    if p is None:
        return "p unknown"
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.4f}"


def listed(words: Iterable[str]) -> str:
    """How are several things said? An Oxford-free list: a, b and c."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "none"


def _number(value: float) -> str:
    size = abs(value)
    return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 100 else f"{value:.3g}"


def _unit(display: str) -> str:
    return {"ms": " ms", "usd": " USD", "minutes": " min", "hours": " h", "days": " days"}.get(display, "")
