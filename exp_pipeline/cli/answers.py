"""How the answer of `exp analyze` is printed and written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exp_pipeline.cli.terminal import say, show_table

if TYPE_CHECKING:
    from exp_pipeline.analysis.tables.answer import TableAnswer

NAME = "estimates.json"
# More comparisons than these are summed up; the file has them all.
_SHOWN = 40


def json_text(answer: TableAnswer) -> str:
    """The answer as JSON text, one row a line."""
    parts = []
    for name, value in answer.as_json().items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            rows = ",\n  ".join(_dumped(row) for row in value)
            parts.append(f"{_dumped(name)}: [\n  {rows}\n ]")
        else:
            parts.append(f"{_dumped(name)}: {_dumped(value)}")
    return "{\n " + ",\n ".join(parts) + "\n}\n"


def _dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def write_answer(answer: TableAnswer, out: Path) -> Path:
    """Write the answer to a file, or to estimates.json in a folder; returns where it went."""
    file = out if out.suffix.lower() == ".json" else out / NAME
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    aside.write_text(json_text(answer), encoding="utf-8")
    aside.replace(file)
    return file


def tell(answer: TableAnswer) -> None:
    """Print checks, estimates and notes for people."""
    _tell_checks(answer)
    rows = answer.estimates.rows()
    if answer.tests and len(rows) > _SHOWN:
        _tell_tests(answer.tests)
    else:
        _tell_estimates(rows)
    for row in answer.compliance:
        strong = "" if row.first_stage_f is None else f", F = {row.first_stage_f:.1f}"
        say(
            f"compliance: {row.arm} moved what was received by {row.first_stage:+.4g} "
            f"(se {row.first_stage_se:.2g}{strong}){' adjusted' if row.adjusted else ''}"
        )
    for note in answer.notes:
        say(f"note: {note}")


def _tell_checks(answer: TableAnswer) -> None:
    ratio = answer.sample_ratio
    if ratio is not None:
        counts = ", ".join(f"{arm} {count:,}" for arm, count in ratio.observed.items())
        judged = "nothing to test" if ratio.p_value is None else f"p = {ratio.p_value:.3g}"
        flags = f" ({'; '.join(ratio.flags)})" if ratio.flags else ""
        say(f"sample ratio: {ratio.verdict}: {counts} {ratio.counted}; {judged}{flags}")
    for row in answer.attrition:
        if sum(row.missing.values()):
            rates = ", ".join(f"{arm} {rate:.1%}" for arm, rate in row.rates.items() if rate is not None)
            p = "" if row.p_value is None else f"; p = {row.p_value:.3g}"
            say(f"missing {row.outcome}: {rates}{p}")


def _tell_estimates(rows: Sequence[Mapping[str, Any]]) -> None:
    tested = any(row["test"] is not None for row in rows)
    split = any(row["segment"] is not None for row in rows)
    several = len({row["control"] for row in rows}) > 1 and not tested
    columns = [
        *(["test"] if tested else []), "outcome", *(["segment"] if split else []), "arm", "n", "effect",
        "interval", "se", "p", "p adj.", "relative", "method",
    ]  # fmt: skip
    shown = []
    for row in rows[:_SHOWN]:
        segment = "" if row["segment"] is None else f"{row['segment']} {row['segment_value']}"
        shown.append(
            [
                *([row["test"]] if tested else []),
                row["outcome"] if row["quantile"] is None else f"{row['outcome']} p{100 * row['quantile']:g}",
                *([segment] if split else []),
                _arm(row, several=several),
                f"{row['n_treatment']} / {row['n_control']}",
                *_numbers(row),
                row["method"],
            ]
        )
    if shown:
        show_table(columns, shown)
    if len(rows) > _SHOWN:
        say(f"... and {len(rows) - _SHOWN:,} more: see --out or --json")
    said = dict.fromkeys(flag for row in rows for flag in row["flags"])
    for flag in list(said)[:_SHOWN]:
        say(f"flag: {flag}")


def _arm(row: Mapping[str, Any], *, several: bool) -> str:
    against = f" - {row['control']}" if several else ""
    asked = "" if row["question"] == "assignment" else " (received)"
    return f"{row['arm']}{against}{asked}{', adjusted' if row['adjusted'] else ''}"


def _numbers(row: Mapping[str, Any]) -> list[str]:
    if not row["estimable"]:
        return [row["reason"], "", "", "", "", ""]
    relative = "" if row["relative"] is None else f"{100 * row['relative']:+.1f} %"
    return [
        f"{row['absolute']:+.3g}",
        f"{row['ci_lower']:+.3g} to {row['ci_upper']:+.3g}",
        f"{row['se']:.3g}",
        f"{row['p_value']:.3g}",
        "" if row["p_adjusted"] is None else f"{row['p_adjusted']:.3g}",
        relative,
    ]


def _tell_tests(tests: Sequence[Mapping[str, Any]]) -> None:
    known = [row for row in tests if row["p_value"] is not None]
    by_holm = sum(row["p_holm"] < 0.05 for row in known)
    by_bh = sum(row["p_benjamini_hochberg"] < 0.05 for row in known)
    say(
        f"{len(tests):,} tests, {len(known):,} with a p-value; differences: {by_holm:,} after Holm, "
        f"{by_bh:,} after Benjamini-Hochberg (0.05)"
    )
    first = sorted(known, key=lambda row: (row["p_value"], str(row["test"])))[:20]
    show_table(
        ("test", "arms", "n", "method", "p", "p Holm", "p B-H", "smallest p of a pair"),
        [
            (
                row["test"],
                row["arms"],
                f"{row['n']:,}",
                row["method"],
                *(
                    "" if row[name] is None else f"{row[name]:.3g}"
                    for name in ("p_value", "p_holm", "p_benjamini_hochberg", "smallest_p_adjusted")
                ),
            )
            for row in first
        ],
    )
