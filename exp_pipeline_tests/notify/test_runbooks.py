"""Every rule has a runbook that says what it must."""

from __future__ import annotations

import re
import shlex
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
def test_the_silence_of_a_runbook_works_as_written(rule: RuleName, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from exp_pipeline.cli.app import app
    from exp_pipeline.model.incidents import Finding
    from exp_pipeline.notify.channels import FileChannel
    from exp_pipeline.steps.operating.delivery import pending_notifications
    from exp_pipeline.steps.operating.incidents import record_findings
    from exp_pipeline.store.state import StateLog

    (line,) = re.findall(r"```\n(exp incidents silence .*)\n```", (ROOT / RULES[rule].runbook).read_text())
    words = shlex.split(line)[1:]
    assert words[2] == rule
    done = CliRunner().invoke(app, [*words, "--home", str(tmp_path)])
    assert done.exit_code == 0, done.output
    state, channel = StateLog(tmp_path / "state" / "state.sqlite"), FileChannel(tmp_path / "told")
    now = datetime.now(UTC)
    failed = Finding(rule=rule, subject=words[3], day=now.date(), verdict="fail", evidence="seen", owner="us")
    assert [change.notify for change in record_findings(state, [failed], now)] == [False]
    assert pending_notifications(state, channel, now) == ()
    loud = failed.model_copy(update={"subject": "another"})
    record_findings(state, [loud], now)
    assert [message.subject for message in pending_notifications(state, channel, now)] == ["another"]
