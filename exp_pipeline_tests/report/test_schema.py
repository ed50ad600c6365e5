"""The published schemas: current, true of what is written; what an earlier version wrote is still read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exp_pipeline.model.readout import Readout
from exp_pipeline.report import memo_json, render_memo
from exp_pipeline.report.document import MemoDocument
from exp_pipeline.report.schemas import published_schemas, schema_text, write_schemas
from exp_pipeline_tests.report.sample_full import full
from exp_pipeline_tests.report.samples import SAMPLES

PUBLISHED = Path(__file__).parents[2] / "docs" / "schema"
OLDER = Path(__file__).parent / "older"
KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def misfits(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "$") -> list[str]:
    """Where a JSON value breaks a schema, as far as these schemas use the language; a check of its own."""
    if "$ref" in schema:
        return misfits(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, at)
    if "anyOf" in schema or "oneOf" in schema:
        ways = [misfits(value, one, root, at) for one in schema.get("anyOf") or schema["oneOf"]]
        return [] if [] in ways else [f"{at}: fits none of {len(ways)} ways ({min(ways, key=len)[0]})"]
    if "const" in schema or "enum" in schema:
        allowed = schema.get("enum", [schema.get("const")])
        return [] if value in allowed else [f"{at}: {value!r} is not in {allowed}"]
    kind = schema.get("type")
    truth = isinstance(value, bool) and kind != "boolean"
    if kind is not None and (truth or not isinstance(value, KINDS[kind])):
        return [f"{at}: {value!r} is no {kind}"]
    found = []
    if kind == "array":
        for place, one in enumerate(value):
            found += misfits(one, schema.get("items", {}), root, f"{at}[{place}]")
    if kind == "object":
        known = schema.get("properties", {})
        other = schema.get("additionalProperties", {})
        found += [f"{at}: {name} is missing" for name in schema.get("required", []) if name not in value]
        for name, one in value.items():
            if name in known:
                found += misfits(one, known[name], root, f"{at}.{name}")
            elif other is False:
                found.append(f"{at}: {name} is not known")
            elif isinstance(other, dict):
                found += misfits(one, other, root, f"{at}.{name}")
    return found


def published(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((PUBLISHED / name).read_text(encoding="utf-8"))
    return schema


def test_the_published_schemas_are_those_of_the_models() -> None:
    wanted = {name: schema_text(schema) for name, schema in published_schemas().items()}
    found = {name: (PUBLISHED / name).read_text(encoding="utf-8") for name in wanted}
    assert found == wanted, "python -m exp_pipeline.report.schemas docs/schema"


def test_they_are_written_where_one_asks(tmp_path: Path) -> None:
    assert [path.name for path in write_schemas(tmp_path / "new")] == list(published_schemas())


@pytest.mark.parametrize("make", SAMPLES.values(), ids=SAMPLES.keys())
def test_what_is_written_fits_the_published_schemas(make: Callable[[], Readout]) -> None:
    readout, memo = published("readout-1.1.json"), published("memo-1.1.json")
    assert misfits(json.loads(make().model_dump_json()), readout, readout) == []
    assert misfits(json.loads(memo_json(make())), memo, memo) == []


def test_an_infinite_number_fits_as_a_word() -> None:
    schema = published("readout-1.1.json")
    sure = full().compliance[0].model_copy(update={"first_stage_f": float("inf")})
    written = json.loads(full().model_copy(update={"compliance": (sure,)}).model_dump_json())
    assert written["compliance"][0]["first_stage_f"] == "Infinity"
    assert misfits(written, schema, schema) == []


def test_the_check_sees_what_does_not_fit() -> None:
    schema = published("readout-1.1.json")
    plain = json.loads(full().model_dump_json())
    assert misfits(plain | {"blinded": "yes"}, schema, schema)
    assert misfits(plain | {"unheard_of": 1}, schema, schema)
    assert misfits({name: value for name, value in plain.items() if name != "brief"}, schema, schema)
    assert misfits(plain | {"counts": [{"arm": "control"}]}, schema, schema)


def test_a_readout_of_version_1_0_is_still_read_and_makes_a_memo() -> None:
    old = Readout.model_validate_json((OLDER / "readout-1.0.json").read_text(encoding="utf-8"))
    assert old.schema_version == "1.0"
    assert old.shrunken == ()
    memo = render_memo(old)
    assert json.loads(memo.json)["schema_version"] == "1.1"
    assert "Practice paced by the class" in memo.html


def test_a_memo_of_version_1_0_is_still_read() -> None:
    old = MemoDocument.model_validate_json((OLDER / "memo-1.0.json").read_text(encoding="utf-8"))
    assert (old.schema_version, old.glance) == ("1.0", ())
