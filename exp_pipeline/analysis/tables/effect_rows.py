"""Estimates as rows of one stable form, whatever estimator made them: a table, or JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from exp_pipeline.stats.many.effects import Answer, ManyEffects
from exp_pipeline.stats.results import Effect

if TYPE_CHECKING:
    import polars as pl

# Column and kind, in the order in which people read them. Numbers are null where there is none; df is null
# where the reference is normal.
SCHEMA: dict[str, type] = {
    "test": str,
    "outcome": str,
    "segment": str,
    "segment_value": str,
    "question": str,
    "arm": str,
    "control": str,
    "estimand": str,
    "quantile": float,
    "adjusted": bool,
    "method": str,
    "why": str,
    "estimable": bool,
    "reason": str,
    "n_control": int,
    "n_treatment": int,
    "clusters_control": int,
    "clusters_treatment": int,
    "mean_control": float,
    "mean_treatment": float,
    "absolute": float,
    "se": float,
    "df": float,
    "level": float,
    "ci_lower": float,
    "ci_upper": float,
    "p_value": float,
    "p_adjusted": float,
    "family": str,
    "relative": float,
    "relative_ci_lower": float,
    "relative_ci_upper": float,
    "relative_method": str,
    "standardised": float,
    "variance_reduction": float,
    "flags": list,
}
_NUMBERS = (
    "mean_control", "mean_treatment", "absolute", "se", "df", "ci_lower", "ci_upper", "p_value",
    "relative", "relative_ci_lower", "relative_ci_upper", "standardised", "variance_reduction",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RowLabels:
    """What stands beside the numbers of some rows: one text for all of them, or one a row."""

    outcome: str
    arm: str | Sequence[str]
    control: str | Sequence[str]
    estimand: str
    adjusted: bool
    why: str
    segment: Sequence[str | None] | None = None
    segment_value: Sequence[str | None] | None = None
    test: Sequence[str] | None = None
    question: str = "assignment"
    quantile: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class EffectRows:
    """Rows of estimates, gathered block by block."""

    level: float
    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in SCHEMA})

    def __len__(self) -> int:
        return len(self.columns["outcome"])

    def add(self, answers: ManyEffects | Sequence[Answer], labels: RowLabels) -> None:
        """Append one row for each answer."""
        count = len(answers)
        if not count:
            return
        found: dict[str, list[Any]] = {
            "test": list(labels.test) if labels.test is not None else [None] * count,
            "outcome": [labels.outcome] * count,
            "segment": list(labels.segment) if labels.segment is not None else [None] * count,
            "segment_value": list(labels.segment_value) if labels.segment_value else [None] * count,
            "question": [labels.question] * count,
            "arm": [labels.arm] * count if isinstance(labels.arm, str) else list(labels.arm),
            "control": [labels.control] * count if isinstance(labels.control, str) else list(labels.control),
            "estimand": [labels.estimand] * count,
            "quantile": [labels.quantile] * count,
            "adjusted": [labels.adjusted] * count,
            "why": [labels.why] * count,
            "level": [self.level] * count,
            "p_adjusted": [None] * count,
            "family": [None] * count,
        }
        if isinstance(answers, ManyEffects):
            found |= _numbers_of_many(answers)
            single = answers.special
        else:
            found |= {name: [None] * count for name in SCHEMA if name not in found}
            single = dict(enumerate(answers))
        for place, answer in single.items():
            for name, value in _numbers_of_one(answer).items():
                found[name][place] = value
        if labels.notes:
            found["flags"] = [[*flags, *labels.notes] for flags in found["flags"]]
        for name, values in found.items():
            self.columns[name] += values

    def rows(self) -> list[dict[str, Any]]:
        """The rows as dictionaries, keys in the order of `SCHEMA`, fit for JSON."""
        names = list(SCHEMA)
        return [
            dict(zip(names, values, strict=True))
            for values in zip(*(self.columns[name] for name in names), strict=True)
        ]

    def frame(self) -> pl.DataFrame:
        """The rows as a table."""
        import polars as pl

        kinds: dict[type, Any] = {
            str: pl.String, bool: pl.Boolean, int: pl.Int64, float: pl.Float64, list: pl.List(pl.String),
        }  # fmt: skip
        return pl.DataFrame(
            [pl.Series(name, self.columns[name], dtype=kinds[kind]) for name, kind in SCHEMA.items()]
        )


def _numbers_of_many(many: ManyEffects) -> dict[str, list[Any]]:
    count = len(many)
    found: dict[str, list[Any]] = {name: _listed(getattr(many, name)) for name in _NUMBERS}
    flags: list[list[str]] = [[] for _ in range(count)]
    for holds, text in many.flags:
        for place in np.flatnonzero(holds).tolist():
            flags[place].append(text)
    methods = many.relative_methods.tolist()
    nothing: list[Any] = [None] * count
    return found | {
        "method": [many.method] * count,
        "estimable": [True] * count,
        "reason": [""] * count,
        "n_control": many.n_control.tolist(),
        "n_treatment": many.n_treatment.tolist(),
        "clusters_control": list(nothing),
        "clusters_treatment": list(nothing),
        "relative_method": [
            method if value is not None else None
            for method, value in zip(methods, found["relative"], strict=True)
        ],
        "flags": flags,
    }


def _listed(values: np.ndarray) -> list[float | None]:
    found: list[float | None] = values.tolist()
    if not np.isfinite(values).all():
        found = [value if value is not None and math.isfinite(value) else None for value in found]
    return found


def _numbers_of_one(answer: Answer) -> dict[str, Any]:
    base: dict[str, Any] = {
        "method": answer.method,
        "n_control": answer.n_control,
        "n_treatment": answer.n_treatment,
    }
    if not isinstance(answer, Effect):
        nothing = dict.fromkeys((*_NUMBERS, "clusters_control", "clusters_treatment", "relative_method"))
        return base | nothing | {"estimable": False, "reason": answer.reason, "flags": []}
    numbers = {name: getattr(answer, name) for name in _NUMBERS}
    return (
        base
        | {
            name: None if value is None or not math.isfinite(value) else value
            for name, value in numbers.items()
        }
        | {
            "estimable": True,
            "reason": "",
            "clusters_control": answer.clusters_control,
            "clusters_treatment": answer.clusters_treatment,
            "relative_method": answer.relative_method,
            "flags": list(answer.flags),
        }
    )
