"""A draft as text: whatever it holds, reading it gives the same again, and its brief is the one meant."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.catalog import load_catalog
from exp_pipeline.catalog.documents import Document, read_document
from exp_pipeline.catalog.drafts import draft_problems, draft_text
from exp_pipeline_tests.catalog.folders import BRIEF, write_catalog

SHIPPED = Path(__file__).parents[2] / "data" / "catalog"

# What YAML could take for something else, and what could end a line, a list or a comment early.
NASTY = st.one_of(
    st.sampled_from(
        ["no", "1e3", "0x1f", "null", "~", "true", "12:30", "2026-03-09", "- a", "a: b", "a #b", "&x", "*x",
         "!t", "{a}", "[a]", "'", '"', "\\", "", " ", "a ", "\t", "\n", "\u2028", "\x85", "\ufeff", "%", "@",
         "`", "|", ">", "é", "日本", "😀", ".5", "+1", "_", "-", "?", ","]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)  # fmt: skip
SCALAR = st.one_of(
    NASTY, st.booleans(), st.integers(-(10**17), 10**17), st.floats(allow_nan=False, allow_infinity=False)
)
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NASTY.filter(bool), inner, max_size=3),
    max_leaves=8,
)


def read(text: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "draft.yaml"
        path.write_text(text, encoding="utf-8")
        document = read_document(path, file="draft.yaml")
    assert isinstance(document, Document), document
    return document.data


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["title", "owner", "arms", "value", "reviews", "other"]), VALUE, max_size=4
    )
)
def test_what_is_written_reads_back_the_same(fields: dict[str, Any]) -> None:
    assert (read(draft_text(fields)) or {}) == fields


@pytest.mark.parametrize("name", ["hint-ladder", "class-pacing"])
def test_a_shipped_brief_is_the_same_brief_when_it_is_written_anew(name: str) -> None:
    catalog = load_catalog(SHIPPED)
    document = read_document(SHIPPED / "experiments" / f"{name}.yaml", file=name)
    assert isinstance(document, Document)
    brief, problems = draft_problems(read(draft_text(document.data)), catalog)
    assert (brief, problems) == (catalog.briefs[name], [])


def test_a_draft_is_told_what_a_file_would_be_told(tmp_path: Path) -> None:
    root = write_catalog(tmp_path)
    catalog = load_catalog(root)
    fields = {**yaml.safe_load(BRIEF), "start": "2026-03-09", "end": "2026-03-30"}
    assert draft_problems(fields, catalog)[1] == []
    broken = {**fields, "primary": "acuracy", "alpha": 2, "looks": ["2027-01-01"], "calendar": "nowhere"}
    said = {one.field: one.message for one in draft_problems(broken, catalog)[1]}
    assert said == {
        "primary": "unknown metric; did you mean `accuracy`?",
        "alpha": "is out of range",
        "looks": "look 2027-01-01 must lie after start 2026-03-09 and not after end 2026-03-30",
    }


def test_each_field_stands_under_what_it_is_for() -> None:
    lines = draft_text({"alpha": 0.05, "name": "a"}).splitlines()
    assert lines.index("name: a") < lines.index("alpha: 0.05")
    assert (
        lines[lines.index("alpha: 0.05") - 1] == "# How often an effect may be claimed where there is none."
    )
