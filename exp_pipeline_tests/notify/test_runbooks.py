"""Every rule has a runbook that says what it must."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest

from exp_pipeline.model.incidents import RULES, RuleName
from exp_pipeline.model.quality_rules import QUALITY_RULES, QualityRuleName

ROOT = Path(__file__).parents[2]


def test_every_rule_name_is_described() -> None:
    assert set(RULES) == set(get_args(RuleName))
    assert all(rule.name == name for name, rule in RULES.items())


def test_every_page_belongs_to_a_rule() -> None:
    pages = {str(page.relative_to(ROOT)) for page in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert pages == {rule.runbook for rule in RULES.values()}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_runbook_has_its_parts(rule: RuleName) -> None:
    text = (ROOT / RULES[rule].runbook).read_text()
    assert f"Rule `{rule}`" in text
    parts = re.split(r"^## ", text, flags=re.MULTILINE)
    assert [part.splitlines()[0] for part in parts[1:]] == [
        "First look",
        "Likely causes",
        "Mitigation",
        "Silence",
    ]
    assert all(len(part.splitlines()) > 3 for part in parts[1:])


def test_every_quality_rule_has_a_page_and_every_page_a_rule() -> None:
    pages = {str(page.relative_to(ROOT)) for page in (ROOT / "docs" / "runbooks" / "quality").glob("*.md")}
    assert pages == {rule.runbook for rule in QUALITY_RULES.values()}


@pytest.mark.parametrize("name", sorted(QUALITY_RULES))
def test_a_quality_rule_s_page_has_its_parts(name: QualityRuleName) -> None:
    rule = QUALITY_RULES[name]
    text = (ROOT / rule.runbook).read_text()
    assert f"Quality rule `{name}`, on table `{rule.subject}`." in text
    assert f"`{name}:{rule.subject}`" in text
    parts = re.split(r"^## ", text, flags=re.MULTILINE)
    assert [part.splitlines()[0] for part in parts[1:]] == [
        "First look",
        "Likely causes",
        "Mitigation",
        "Silence",
    ]
    assert all(len(part.splitlines()) > 3 for part in parts[1:])


@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_silence_of_a_runbook_works_as_written(
    rule: RuleName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exp_pipeline.model.incidents import Finding
    from exp_pipeline.steps.operating.incidents import pending_notifications, record_findings
    from exp_pipeline.store.state import StateLog

    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / RULES[rule].runbook).read_text(), flags=re.DOTALL)
    (subject,) = re.findall(rf'"{rule}",\n    "(.*)",', code)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, RULES[rule].runbook, "exec"), {})
    state = StateLog(Path("data/state/state.sqlite"))
    now = datetime.now(UTC)
    failed = Finding(rule=rule, subject=subject, day=now.date(), verdict="fail", evidence="seen", owner="us")
    assert [change.notify for change in record_findings(state, [failed], now)] == [False]
    assert pending_notifications(state) == ()
    loud = failed.model_copy(update={"subject": "another"})
    record_findings(state, [loud], now)
    assert [message.subject for message in pending_notifications(state)] == ["another"]
