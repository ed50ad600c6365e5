"""The memo as one standalone HTML page: no script, no network, no other file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from exp_pipeline.model.ramps import RampEntry
from exp_pipeline.model.readout import Readout
from exp_pipeline.report.document import MemoDocument
from exp_pipeline.report.facts import memo_document
from exp_pipeline.report.palette import DARK, LIGHT
from exp_pipeline.report.plots import all_plots

_CAPTIONS = {
    "forest": "Point and interval for each arm.",
    "guardrails": "The dot is the harm, the line runs to its one-sided bound; a hollow dot is judged alone.",
    "sample_ratio": "A cross marks a day on which the split does not fit the plan.",
}


_STYLED = re.compile(r'style="(?:(?:fill|stroke):var\(--[a-z-]+, #[0-9a-f]{6}\);?)+"')
_ROLE = re.compile(r"(fill|stroke):var\(--([a-z-]+),")
# Plots that stand on the first page; the others stand at their table in the appendix.
_FIRST = ("forest", "segments", "guardrails", "ramp")


def memo_html(readout: Readout, transitions: Sequence[RampEntry] = (), index: str = "") -> str:
    """The memo as a page that an executive reads in a minute and an engineer can check.

    `transitions` are the experiment's entries of the ramp log; `index` leads back to the index of all
    experiments, where the page lies beside it.
    """
    return html_of(readout, memo_document(readout, transitions), index)


def html_of(readout: Readout, document: MemoDocument, index: str = "", notice: str = "") -> str:
    """The page of a document that is already made."""
    drawn = {
        key: (Markup(in_page(wide)), Markup(in_page(narrow)))
        for key, (wide, narrow) in all_plots(readout, document).items()
    }
    captions = {key: _CAPTIONS.get(key, figure.description) for key, figure in document.figures.items()}
    sections = [(name, list(found)) for name, found in groupby(document.appendix, lambda one: one.section)]
    return render(
        "memo.html.j2",
        memo=document,
        plots=drawn,
        captions=captions,
        several_arms=len({view.arm for view in document.guardrails}) > 1,
        sections=sections,
        drawn=[key for key in document.figures if key not in _FIRST],
        assumed=list(dict.fromkeys(said for row in document.impact for said in row.assumptions)),
        links=[(index, "All experiments")] if index else [],
        notice=notice,
    )


def in_page(svg: str) -> str:
    """A plot as it stands in a page: roles by the page's classes, without the colours for standing alone."""
    return _STYLED.sub(_classes, svg)


def _classes(found: re.Match[str]) -> str:
    names = [f"{way[0]}-{role}" for way, role in _ROLE.findall(found.group(0))]
    return f'class="{" ".join(names)}"'


def render(template: str, **values: object) -> str:
    """One of the room's templates, filled in; everything but our own SVG and style is escaped."""
    environment = _environment()
    style = environment.get_template("style.css.j2").render(light=LIGHT, dark=DARK)
    return environment.get_template(template).render(style=Markup(style), **values)


@cache
def _environment() -> Environment:
    folder = files("exp_pipeline.report") / "templates"

    def source(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    return Environment(
        loader=FunctionLoader(source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
