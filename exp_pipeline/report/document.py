"""The memo as a document: every fact once, as words and as a number, from which all forms are printed.

`MemoDocument` is the published JSON. Numbers under `value`, `lower` and `upper` are in the metric's own unit
(shares as fractions); `text` is what the HTML and Markdown forms print. A number that must not be shown
(blinded, or of too few units) is absent here, so no form can show it.
"""

from __future__ import annotations

import math
import re
from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, field_validator

from exp_pipeline.model.base import Noun
from exp_pipeline.model.readout import GuardrailStatus, Outcome, Role
from exp_pipeline.report.numbers import MINUS

Tone = Literal["good", "warn", "bad", "calm"]

# Control characters and the marks that reorder or hide text: a name must read as it is written.
_UNSEEN = re.compile(
    r"[\x00-\x08\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_SPACE = re.compile(r"\s+")
# A hyphen that can only be a sign: behind it a number, before it neither a word, a number nor another sign.
_NEGATIVE = re.compile(r"(?<![\w.:/=+\-\N{MINUS SIGN}])-(?=\d)")


def clean(text: str) -> str:
    """What is left of a foreign text for one line of print: no control or reordering marks, single spaces?"""
    return _SPACE.sub(" ", _UNSEEN.sub("", text)).strip()


def printed(text: str) -> str:
    """How does a text stand on a page: clean, with a real minus sign before a negative number?"""
    return _NEGATIVE.sub(MINUS, clean(text))


Text = Annotated[str, AfterValidator(printed)]


class Cell(Noun):
    """One entry of a table: its words, and the number or interval behind them.

    JSON has no infinite numbers: an open end of an interval is in `text` only.
    """

    text: Text
    value: float | int | None = None
    lower: float | None = None
    upper: float | None = None
    tone: Tone | None = None

    @field_validator("value", "lower", "upper")
    @classmethod
    def _finite_or_absent(cls, value: float | int | None) -> float | int | None:
        return value if value is not None and math.isfinite(value) else None


class Column(Noun):
    """One column of a table: the key its cells are kept under, its heading, and whether it holds numbers."""

    key: Text
    title: Text
    numeric: bool = False


class Table(Noun):
    """A table of the memo: `empty` is said where there are no rows, `section` is its part of the appendix."""

    key: Text
    title: Text
    columns: tuple[Column, ...]
    rows: tuple[dict[str, Cell], ...]
    note: Text = ""
    empty: Text = "No rows."
    section: Text = ""


class Figure(Noun):
    """A plot: its title, what it shows in words, and the table of its numbers."""

    key: Text
    title: Text
    description: Text
    table: Table


class Effect(Noun):
    """One metric in one arm against control, for the first page and for the tables."""

    metric: Text
    title: Text
    role: Role
    arm: Text
    control: Text
    segment: Text | None = None
    segment_value: Text | None = None
    shown: bool
    reason: Text = ""
    sentence: Text
    detail: Text
    favourable: bool | None = None
    confirmatory: bool = True
    interval_level: float
    method: Text
    window_days: int | None = None
    n_control: Cell
    n_treatment: Cell
    waiting: Cell
    clusters: Cell
    mean_control: Cell
    mean_treatment: Cell
    absolute: Cell
    interval: Cell
    always_valid: Cell
    relative: Cell
    relative_interval: Cell
    p_value: Cell
    p_adjusted: Cell
    variance_reduction: Cell
    notes: tuple[Text, ...] = ()


class GuardrailView(Noun):
    """One guardrail in one arm, with its harm, the bound on harm and the margin."""

    metric: Text
    title: Text
    arm: Text
    status: GuardrailStatus
    label: Text
    tone: Tone
    sentence: Text
    basis: Literal["interval", "point"]
    harm: Cell
    bound: Cell
    margin: Cell
    margin_used: Cell
    bound_used: Cell
    p_value: Cell
    kill: Text
    reason: Text


class ArmVerdict(Noun):
    """The decision on one arm, in a word and in a sentence."""

    arm: Text
    outcome: Outcome
    label: Text
    tone: Tone
    because: Text
    decided_by: Text = ""


class DecisionView(Noun):
    """What is decided, what was asked, and by whom."""

    outcome: Outcome
    label: Text
    tone: Tone
    arm: Text | None = None
    sentence: Text
    asked: Text
    owner: Text
    arms: tuple[ArmVerdict, ...]
    choice: Text = ""

    @property
    def differs_by_arm(self) -> bool:
        """Whether arms were decided on for reasons of their own; what holds of all alike is said once."""
        return len({(arm.label, arm.because) for arm in self.arms}) > 1


class BlindingView(Noun):
    """Whether effects are hidden, why, and when they will be looked at."""

    hidden: bool
    reason: Text
    next_look: date | None = None
    next_look_sentence: Text
    unblinded_because: Text


class ImpactView(Noun):
    """What full rollout of one arm would be worth."""

    arm: Text
    sentence: Text
    value: Cell
    assumptions: tuple[Text, ...]
    details: tuple[Text, ...] = ()


class Glance(Noun):
    """One tile of the line that says the whole in a few words: what it is of, the answer, and a detail."""

    key: Text
    title: Text
    text: Text
    detail: Text = ""
    tone: Tone


class MemoDocument(Noun):
    """A decision memo, version 1.1 of its schema.

    1.1 added what has a default: `method_line`, `glance`, `monitoring`, sections of tables, details of the
    impact, and more tables and figures. A memo of 1.0 is still read.
    """

    schema_version: Literal["1.0", "1.1"] = "1.1"
    kind: Literal["exp-pipeline/memo"] = "exp-pipeline/memo"
    experiment: Text
    title: Text
    as_of: date
    start: date
    end: date
    horizon_reached: bool
    owner: Text
    on_call: Text
    risk_class: Text
    minimum_cell: int
    hypothesis: Text
    headline: Text
    decision: DecisionView
    blinding: BlindingView
    method: tuple[Text, ...]
    method_line: Text = ""
    glance: tuple[Glance, ...] = ()
    primary: tuple[Effect, ...]
    secondary: tuple[Effect, ...]
    segments: tuple[Effect, ...]
    segment_notes: tuple[Text, ...]
    guardrails: tuple[GuardrailView, ...]
    impact: tuple[ImpactView, ...]
    limits: tuple[Text, ...]
    next_steps: tuple[Text, ...]
    monitoring: tuple[Text, ...] = ()
    rollback_triggers: tuple[Text, ...]
    integrity_summary: Text
    integrity_tone: Tone
    first_page: dict[str, Table]
    appendix: tuple[Table, ...]
    figures: dict[str, Figure]
    snapshot: Text
    run_id: Text
