"""The page about briefs names every field, as the model has it today."""

from __future__ import annotations

from pathlib import Path

from exp_pipeline.catalog.brief_notes import NOTES
from exp_pipeline.catalog.brief_reference import MARK, with_fields
from exp_pipeline.model.brief import ANALYSIS_FIELDS, Brief

PAGE = Path(__file__).parents[2] / "docs" / "briefs.md"


def test_every_field_has_a_note_and_every_note_a_field() -> None:
    assert set(NOTES) == set(Brief.model_fields)
    assert all(note.endswith((".", "?")) for note in NOTES.values())


def test_the_page_is_of_today() -> None:
    text = PAGE.read_text()
    again = "write it again: python -m exp_pipeline.catalog.brief_reference docs/briefs.md"
    assert with_fields(text) == text, again


def test_protected_fields_are_marked_and_parts_are_explained() -> None:
    fields = PAGE.read_text().partition(MARK)[2]
    for name in Brief.model_fields:
        lines = [line for line in fields.splitlines() if line.startswith(f"| `{name}`")]
        assert any((" 🔒 |" in line) == (name in ANALYSIS_FIELDS) for line in lines), name
    assert "### RampStage\n\nOne stage of a ramp" in fields
