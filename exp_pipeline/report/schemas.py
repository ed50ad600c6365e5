"""The published JSON schemas of a readout and of a memo: `python -m exp_pipeline.report.schemas FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from exp_pipeline.model.base import Noun
from exp_pipeline.model.readout import Readout
from exp_pipeline.report.document import MemoDocument

# JSON has no infinite number: a readout writes it as a word (an F of a first stage without error, say).
_NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["Infinity", "-Infinity", "NaN"]}]}
_PUBLISHED: dict[str, tuple[type[Noun], str]] = {
    "readout": (Readout, "A readout: the facts of one experiment at one snapshot, as they are stored."),
    "memo": (MemoDocument, "A memo: what of a readout is shown, every fact as words and as a number."),
}


def published_schemas() -> dict[str, dict[str, Any]]:
    """Every published schema by its file's name, which carries the version that is written now."""
    found = {}
    for name, (noun, title) in _PUBLISHED.items():
        version = noun.model_fields["schema_version"].default
        file = f"{name}-{version}.json"
        if noun is Readout:
            schema = _with_words_for_infinity(noun.model_json_schema(mode="serialization"))
            schema["$defs"]["Number"] = _NUMBER
        else:
            # What is absent is left out of a memo.
            schema = noun.model_json_schema(mode="validation")
        found[file] = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": file,
            **schema,
            "title": title,
        }
    return found


def _with_words_for_infinity(part: Any) -> Any:
    if isinstance(part, list):
        return [_with_words_for_infinity(one) for one in part]
    if not isinstance(part, dict):
        return part
    if part.get("type") == "number":
        return {"$ref": "#/$defs/Number"} | {name: part[name] for name in part if name != "type"}
    return {name: _with_words_for_infinity(value) for name, value in part.items()}


def schema_text(schema: dict[str, Any]) -> str:
    """One schema as its file holds it."""
    return json.dumps(schema, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def write_schemas(folder: Path) -> list[Path]:
    """Write every schema into a folder; gives the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, schema in published_schemas().items():
        (folder / name).write_text(schema_text(schema), encoding="utf-8")
        written.append(folder / name)
    return written


if __name__ == "__main__":
    for path in write_schemas(Path(sys.argv[1])):
        sys.stdout.write(f"{path}\n")
