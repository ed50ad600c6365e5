"""A plot of a readout as an object that notebooks show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One plot of a readout: shown by notebooks as a picture, kept by `save`, or used as `svg`."""

    experiment: str
    snapshot: str
    name: str
    title: str
    description: str
    svg: str

    def save(self, path: str | Path) -> Path:
        """Write the picture as an SVG file; gives its path."""
        target = Path(path)
        target.write_text(self.svg, encoding="utf-8")
        return target

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        from html import escape

        said = escape(f"{self.title}. {self.description}", quote=True)
        return f'<figure role="img" aria-label="{said}">{self.svg}</figure>'

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, str]:  # what IPython asks first; it filters by itself
        return {
            "image/svg+xml": self.svg,
            "text/html": self._repr_html_(),
            "text/plain": f"{self.title} ({self.experiment}, snapshot {self.snapshot})",
        }
