"""A drafted source as YAML, with comments on what a person must decide."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from exp_pipeline.model.sources import CsvFormat, Source
from exp_pipeline.steps.sources.profile import Profile

# Names that look like ids or addresses are not shown, in whichever column they stand.
_NO_NAME = re.compile(r"@|\d{4,}|[0-9a-f]{8}-[0-9a-f]{4}-|^[0-9]+$")
_A_FILE = {"ndjson": "an NDJSON file", "csv": "a CSV file", "parquet": "a Parquet file"}


def _plain(value: object) -> str:
    """A value as YAML on one line; text that YAML would take for something else stands in quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and ("\t" in value or "\n" in value):
        return json.dumps(value)
    told = str(yaml.safe_dump(value, default_flow_style=True, width=100_000, allow_unicode=True))
    return told.removesuffix("\n").removesuffix("\n...").strip()


def written(
    seen: Profile,
    source: Source,
    decisions: Sequence[str],
    names: Mapping[str, int],
    dropped: Mapping[str, str],
) -> str:
    """The YAML of a drafted source, with comments on what a person must decide.

    `names` are the values of the column that names events, with their rows; `dropped` says of those that no
    event is made of why not.
    """
    lines = [f"# Drafted from {seen.file.name}, by its first {seen.rows:,} rows. To decide: see `decide`."]
    lines += _folded(decisions)
    lines += [
        f"name: {_plain(source.name)}",
        f"description: {_plain(f'Drafted from {_A_FILE[source.format]}.')}",
        "owner: unknown  # decide: who answers for it",
        f"files: {_plain(source.files)}",
        f"format: {source.format}",
    ]
    if source.csv is not None:
        lines += ["csv:", *_csv_lines(source.csv)]
    if source.history:
        lines.append("history: true")
    lines.append(f"time_zone: {source.time_zone}")
    if source.unnest is not None:
        lines += ["# One row for each element of this list.", f"unnest: {_plain(source.unnest)}"]
    lines.append("columns:")
    lines += [f"  {_plain(name)}: {_plain(kind)}" for name, kind in source.columns.items()]
    rest = [name for name in seen.columns if name not in source.columns]
    if rest:
        lines += _folded(
            [f"These columns are read by no rule and are kept in `extra`: {', '.join(rest)}."], ""
        )
    if source.event_name is not None:
        lines += [f"event_name: {_plain(source.event_name)}", "event_names:"]
        lines += _name_lines(names, source, dropped)
    elif names:
        lines += ["# No name of an event fits ours:", *_name_lines(names, source, dropped)]
    for section, given in (("constants", source.constants), ("fields", source.fields)):
        if given:
            lines += [f"{section}:", *(f"  {name}: {_plain(value)}" for name, value in given.items())]
    if source.values:
        lines.append("values:")
        for field, words in source.values.items():
            lines += [f"  {field}:", *(f"    {_plain(raw)}: {_plain(ours)}" for raw, ours in words.items())]
    if source.events:
        lines.append("events:")
        for rule in source.events:
            lines.append(f"  - event_name: {rule.event_name}")
            for section, filled in (("constants", rule.constants), ("fields", rule.fields)):
                if filled:
                    lines.append(f"    {section}:")
                    lines += [f"      {name}: {_plain(value)}" for name, value in filled.items()]
    return "\n".join(lines) + "\n"


def _csv_lines(written: CsvFormat) -> list[str]:
    given: dict[str, Any] = written.model_dump(mode="json", exclude_defaults=True)
    given.setdefault("delimiter", written.delimiter)
    return [f"  {name}: {_plain(value)}" for name, value in given.items()]


def _name_lines(names: Mapping[str, int], source: Source, dropped: Mapping[str, str]) -> list[str]:
    lines, hidden = [], 0
    for value, number in names.items():
        if value in source.event_names:
            lines.append(f"  {_plain(value)}: {source.event_names[value]}  # {number:,} rows")
        elif _NO_NAME.search(value):
            hidden += 1
        else:
            why = dropped.get(value, "map it, or leave it out under `ignore`")
            lines += [f"  {line}" for line in _folded([f"{_plain(value)} ({number:,} rows): {why}"])]
    if hidden:
        lines.append(f"  # decide: {hidden:,} more names, which look like ids and are not shown")
    return lines


def _folded(sentences: Sequence[str], mark: str = "decide: ") -> list[str]:
    return [
        line
        for sentence in sentences
        for line in textwrap.wrap(
            mark + sentence, 100, initial_indent="# ", subsequent_indent="#   ", break_long_words=False,
            break_on_hyphens=False,
        )
    ]  # fmt: skip
