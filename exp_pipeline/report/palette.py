"""The colours of every page and plot, by role, for light and dark; a test computes their contrast."""

from __future__ import annotations

LIGHT: dict[str, str] = {
    "ground": "#f6f5f1",
    "surface": "#ffffff",
    "sunken": "#f0efe9",
    "ink": "#1c2128",
    "muted": "#565e6b",
    "rule": "#dcdad2",
    "accent": "#1c5a9c",
    "accent-soft": "#dbe8f5",
    "good": "#17633f",
    "good-soft": "#e0f1e6",
    "warn": "#7d4e00",
    "warn-soft": "#fbedd0",
    "bad": "#a3231b",
    "bad-soft": "#fbe4e1",
    "calm": "#454d5a",
    "calm-soft": "#e8e9ec",
}
DARK: dict[str, str] = {
    "ground": "#13161b",
    "surface": "#1b1f26",
    "sunken": "#232830",
    "ink": "#e9ebef",
    "muted": "#a9b1be",
    "rule": "#363d48",
    "accent": "#86b8f2",
    "accent-soft": "#233a55",
    "good": "#7fd0a3",
    "good-soft": "#173527",
    "warn": "#ecc06b",
    "warn-soft": "#3d2f10",
    "bad": "#f79d94",
    "bad-soft": "#47201d",
    "calm": "#c3c9d3",
    "calm-soft": "#2f353f",
}


def paint(role: str) -> str:
    """The CSS value of a role: the page's variable, with the light colour where a plot stands alone."""
    return f"var(--{role}, {LIGHT[role]})"
