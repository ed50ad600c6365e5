"""A readout in, the memo in its three forms out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from exp_pipeline.model.ramps import RampEntry
from exp_pipeline.model.readout import Readout
from exp_pipeline.report.document import MemoDocument
from exp_pipeline.report.facts import memo_document
from exp_pipeline.report.markdown import markdown_of
from exp_pipeline.report.pages import html_of


@dataclass(frozen=True)
class Memo:
    """One memo: the page, the Markdown and the JSON, all of the same facts."""

    html: str
    markdown: str
    json: str


def render_memo(
    readout: Readout, transitions: Sequence[RampEntry] = (), index: str = "", notice: str = ""
) -> Memo:
    """What does this readout say, in every form? Equal readouts give equal bytes.

    `transitions` are the experiment's entries of the ramp log, in their order; `index` is where the index of
    all experiments lies from the page, for a link to it; `notice` is what a reader must know before all else.
    """
    document = memo_document(readout, transitions)
    return Memo(
        html=html_of(readout, document, index, notice),
        markdown=markdown_of(document, notice),
        json=json_of(document),
    )


def memo_json(readout: Readout, transitions: Sequence[RampEntry] = ()) -> str:
    """The memo for machines; `memo_schema` describes it."""
    return json_of(memo_document(readout, transitions))


def json_of(document: MemoDocument) -> str:
    """The JSON of a document that is already made: fields in the schema's order, absent numbers left out."""
    return (
        json.dumps(document.model_dump(mode="json", exclude_none=True), indent=1, ensure_ascii=False) + "\n"
    )


def memo_schema() -> dict[str, Any]:
    """The JSON schema of a memo's JSON; its version is the value that `schema_version` allows."""
    return MemoDocument.model_json_schema()
