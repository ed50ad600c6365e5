"""Mistakes in decision rules, with the words an author reads: the kind of a rule is no step of its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from exp_pipeline_tests.catalog.folders import BRIEF, lines_of, write_catalog

MISTAKES = {
    "unknown kind": (
        "{kind: valu}",
        "decision.rules[0].kind: is not one of the choices; did you mean `value`? (value: valu); allowed: "
        "equity, guardrails, integrity, lasting, lock, primary, value",
    ),
    "no kind": ("{must: surely_gain}", "decision.rules[0].kind: is required and missing"),
    "typo in a field": (
        "{kind: value, atleast: 3}",
        "decision.rules[0].atleast: is not a field; did you mean `at_least`? (value: 3); allowed: "
        "at_least, kind, must, off",
    ),
    "wrong choice": (
        "{kind: value, must: win}",
        "decision.rules[0].must: is not one of the choices (value: win); allowed: not_lose, surely_gain",
    ),
    "out of range": (
        "{kind: value, at_least: -3}",
        "decision.rules[0].at_least: is out of range (value: -3); allowed: at least 0",
    ),
    "a safeguard switched off": (
        "{kind: guardrails, off: true}",
        "decision.rules: rules: guardrails cannot be switched off; only lasting and value can",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_in_a_rule_names_its_place(tmp_path: Path, mistake: str) -> None:
    rule, said = MISTAKES[mistake]
    root = write_catalog(
        tmp_path, **{"experiments__quick-hints": f"{BRIEF}\ndecision:\n  rules:\n    - {rule}\n"}
    )
    [line] = lines_of(root)
    assert line.startswith("experiments/quick-hints.yaml:")
    assert line.partition(": ")[2] == said
