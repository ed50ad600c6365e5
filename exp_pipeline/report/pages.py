"""The memo as one standalone HTML page: no script, no network, no other file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from exp_pipeline.model.readout import Readout
from exp_pipeline.report.document import MemoDocument
from exp_pipeline.report.facts import memo_document
from exp_pipeline.report.palette import DARK, LIGHT
from exp_pipeline.report.plots import all_plots

_CAPTIONS = {
    "forest": "Point and interval for each arm.",
    "segments": "Point and interval for each declared segment; the short upright bar is its floor.",
    "guardrails": "The dot is the harm, the line runs to its one-sided bound; a hollow dot is judged alone.",
    "sample_ratio": "A cross marks a day on which the split does not fit the plan.",
}


def memo_html(readout: Readout) -> str:
    """The memo as a page that an executive reads in a minute and an engineer can check."""
    return html_of(readout, memo_document(readout))


def html_of(readout: Readout, document: MemoDocument) -> str:
    """The page of a document that is already made."""
    drawn = {
        key: (Markup(wide), Markup(narrow)) for key, (wide, narrow) in all_plots(readout, document).items()
    }
    captions = {key: _CAPTIONS.get(key, figure.description) for key, figure in document.figures.items()}
    return render(
        "memo.html.j2",
        memo=document,
        plots=drawn,
        captions=captions,
        several_arms=len({view.arm for view in document.guardrails}) > 1,
    )


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
