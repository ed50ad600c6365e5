"""A small SVG writer: shapes in the page's own colours, text escaped, the same bytes for the same input."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from exp_pipeline.report.document import printed
from exp_pipeline.report.palette import paint

FONT = 13.0
SMALL = 12.0


@dataclass(frozen=True)
class Scale:
    """A linear map from data to pixels; values outside the domain are held at its ends."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return self.start + (inside - self.low) / (self.high - self.low) * (self.end - self.start)

    def holds(self, value: float) -> bool:
        """Is the value inside the domain, so that it is drawn where it stands?"""
        return self.low <= value <= self.high


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Which round numbers lie between two values, about `wanted` of them?"""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low] if math.isfinite(low) else []
    raw = (high - low) / max(wanted, 1)
    base = 10.0 ** math.floor(math.log10(raw))
    step = next(base * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if base * factor >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def domain(values: Iterable[float | None], padding: float = 0.06) -> tuple[float, float]:
    """From where to where does an axis run that holds these values with a little air?"""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return -1.0, 1.0
    low, high = min(finite), max(finite)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        half = abs(high) / 2 or 1.0
        return low - half, high + half
    air = (high - low) * padding
    return low - air, high + air


def fit(text: str, width: float, size: float = FONT) -> str:
    """The text, cut with an ellipsis where it is likely to be wider than `width` pixels."""
    text = printed(text)
    room = max(int(width / (size * 0.56)), 2)
    return text if len(text) <= room else text[: room - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def width_of(text: str, size: float = FONT) -> float:
    """About how many pixels wide is a text?"""
    return len(text) * size * 0.56


@dataclass
class Drawing:
    """One plot being drawn. `key` makes its ids; two drawings of one page need different keys."""

    key: str
    width: float
    height: float
    title: str
    description: str
    parts: list[str] = field(default_factory=list)

    def line(
        self, x1: float, y1: float, x2: float, y2: float, role: str = "rule", width: float = 1, dash: str = ""
    ) -> None:
        """A straight line."""
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<line x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" '
            f'style="stroke:{paint(role)}" stroke-width="{_n(width)}"{dashed}/>'
        )

    def path(
        self, points: Sequence[tuple[float, float]], role: str, width: float = 2, dash: str = ""
    ) -> None:
        """A line through points."""
        if len(points) < 2:
            return
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<polyline points="{_points(points)}" fill="none" style="stroke:{paint(role)}" '
            f'stroke-width="{_n(width)}" stroke-linejoin="round"{dashed}/>'
        )

    def area(self, points: Sequence[tuple[float, float]], role: str) -> None:
        """A filled shape."""
        if len(points) < 3:
            return
        self.parts.append(f'<polygon points="{_points(points)}" style="fill:{paint(role)}"/>')

    def box(self, x: float, y: float, width: float, height: float, role: str) -> None:
        """A filled rectangle."""
        self.parts.append(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(max(width, 0))}" height="{_n(max(height, 0))}" '
            f'style="fill:{paint(role)}"/>'
        )

    def outline(self, x: float, y: float, width: float, height: float, role: str) -> None:
        """The edge of a rectangle."""
        self.parts.append(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(max(width, 0))}" height="{_n(max(height, 0))}" '
            f'fill="none" style="stroke:{paint(role)}"/>'
        )

    def diamond(self, x: float, y: float, role: str, size: float = 5, hollow: bool = False) -> None:
        """A diamond mark; hollow marks are outlines on the surface."""
        fill = paint("surface") if hollow else paint(role)
        corners = _points([(x, y - size), (x + size, y), (x, y + size), (x - size, y)])
        self.parts.append(
            f'<polygon points="{corners}" style="fill:{fill};stroke:{paint(role)}" stroke-width="1.5"/>'
        )

    def dot(self, x: float, y: float, role: str, radius: float = 5, hollow: bool = False) -> None:
        """A round mark; hollow marks are outlines on the surface."""
        fill = paint("surface") if hollow else paint(role)
        self.parts.append(
            f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" '
            f'style="fill:{fill};stroke:{paint(role)}" stroke-width="2"/>'
        )

    def cross(self, x: float, y: float, role: str, size: float = 4) -> None:
        """A cross mark."""
        self.line(x - size, y - size, x + size, y + size, role, 2)
        self.line(x - size, y + size, x + size, y - size, role, 2)

    def arrow(self, x: float, y: float, right: bool, role: str) -> None:
        """A small head that says: it goes on beyond the axis."""
        back = x - 7 if right else x + 7
        self.area([(x, y), (back, y - 4.5), (back, y + 4.5)], role)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        role: str = "ink",
        size: float = FONT,
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        """A line of text, escaped."""
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" text-anchor="{anchor}"{weight} '
            f'style="fill:{paint(role)}">{escape(printed(words))}</text>'
        )

    def svg(self) -> str:
        """The finished drawing, with title and description for those who do not see it."""
        title, description = f"{self.key}-title", f"{self.key}-desc"
        box = f"0 0 {_n(self.width)} {_n(self.height)}"
        ground = f'<rect width="100%" height="100%" style="fill:var(--surface, {"#ffffff"})"/>'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" width="{_n(self.width)}" '
            f'height="{_n(self.height)}" role="img" aria-labelledby={quoteattr(f"{title} {description}")} '
            'font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif">'
            f"<title id={quoteattr(title)}>{escape(printed(self.title))}</title>"
            f"<desc id={quoteattr(description)}>{escape(printed(self.description))}</desc>"
            f"{ground}{''.join(self.parts)}</svg>"
        )


def _n(value: float) -> str:
    text = f"{value:.1f}"
    return text.removesuffix(".0").replace("-0", "0") if text in ("-0.0",) else text.removesuffix(".0")


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
