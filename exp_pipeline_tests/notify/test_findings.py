"""What the daily tables say, as findings."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest

from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.contracts.validation import validate_table
from exp_pipeline.model.incidents import Finding
from exp_pipeline.notify.findings import findings_of_day
from exp_pipeline.notify.transitions import Track, after_finding
from exp_pipeline_tests.notify.incident_samples import NOON

DAY = date(2026, 3, 5)
KINDS = {
    "VARCHAR": pl.String,
    "BIGINT": pl.Int64,
    "DOUBLE": pl.Float64,
    "BOOLEAN": pl.Boolean,
    "DATE": pl.Date,
}
EXPERIMENT = {"experiment": "hint-ladder", "version": 1, "event_date": DAY}


def table(name: str, *rows: dict[str, Any]) -> pl.DataFrame:
    """Rows as the published table holds them, checked against its contract."""
    schema = {column: KINDS[kind] for column, kind in table_columns(name).items()}
    frame = pl.DataFrame([{column: row.get(column) for column in schema} for row in rows], schema=schema)
    return validate_table(name, frame, "event_date=2026-03-05")


def srm(p_value: float | None, units: tuple[int, int] = (5_200, 4_800), **fields: Any) -> pl.DataFrame:
    shared = EXPERIMENT | {"planned_share": 0.5, "p_value": p_value, "sequential_p_value": p_value} | fields
    arms = zip(("control", "ladder"), units, strict=True)
    return table("srm_daily", *(shared | {"arm": arm, "units": count} for arm, count in arms))


def guardrail(status: str, *, kill: bool = False, harm: float | None = 0.03) -> pl.DataFrame:
    bound = None if harm is None else harm + 0.01
    row = {"metric": "escalation_rate", "arm": "ladder", "status": status, "harm": harm, "harm_bound": bound}
    return table("guardrails_daily", EXPERIMENT | row | {"margin": 0.01, "kill_triggered": kill})


def quality(rule: str, verdict: str, **fields: Any) -> pl.DataFrame:
    row = {"event_date": DAY, "rule": rule, "subject": "all sources", "verdict": verdict, "evidence": "seen"}
    return table("data_quality", row | {"value": 0.9, "threshold": 0.95} | fields)


def found(**tables: pl.DataFrame) -> tuple[Finding, ...]:
    empty = {"srm": "srm_daily", "guardrails": "guardrails_daily", "quality": "data_quality"}
    frames = {key: tables.get(key, table(name)) for key, name in empty.items()}
    owners = {"hint-ladder": "tutor-team", "*": "data-platform"}
    return findings_of_day(**frames, owners=owners, srm_alpha={"hint-ladder": 0.001})


def test_empty_tables_say_nothing() -> None:
    assert found() == ()


@pytest.mark.parametrize(
    ("p_value", "verdict"), [(1e-9, "fail"), (0.00099, "fail"), (0.001, "pass"), (1.0, "pass"), (0.0, "fail")]
)
def test_srm_fails_below_the_alpha_of_the_brief(p_value: float, verdict: str) -> None:
    (one,) = found(srm=srm(p_value))
    assert (one.rule, one.subject, one.verdict) == ("srm", "hint-ladder", verdict)
    assert (one.number, one.threshold, one.owner) == (p_value, 0.001, "tutor-team")
    assert (one.badness > 0) is (verdict == "fail")
    assert "52.0/48.0 %" in one.evidence


def test_srm_that_cannot_be_told() -> None:
    assert found(srm=srm(None, (0, 0)))[0].verdict == "cannot_tell"
    (unknown,) = found(srm=srm(1e-9, experiment="no-brief"))
    assert (unknown.verdict, unknown.owner) == ("cannot_tell", "data-platform")


def test_few_units_are_not_shown() -> None:
    (one,) = found(srm=srm(1e-9, (50, 9)))
    assert "an arm has fewer than 10 units" in one.evidence
    assert "%" not in one.evidence
    assert "59" not in one.evidence


def test_the_newest_version_of_a_day_counts() -> None:
    both = pl.concat([srm(1e-9), srm(0.5, version=2)])
    (one,) = found(srm=both)
    assert one.verdict == "pass"


@pytest.mark.parametrize(
    ("status", "kill", "verdict", "severity"),
    [
        ("fail", True, "fail", "page"),
        ("fail", False, "fail", "warn"),
        ("underpowered", True, "fail", "page"),
        ("underpowered", False, "cannot_tell", "warn"),
        ("cannot_tell", False, "cannot_tell", "warn"),
        ("pass", False, "pass", "warn"),
    ],
)
def test_guardrails(status: str, kill: bool, verdict: str, severity: str) -> None:
    (one,) = found(guardrails=guardrail(status, kill=kill))
    assert (one.subject, one.verdict) == ("hint-ladder:escalation_rate:ladder", verdict)
    if verdict == "fail":
        assert one.severity == severity
        assert one.badness == pytest.approx(2.0)
    assert one.evidence.startswith("kill rule acts" if kill else status)


def test_a_guardrail_without_an_estimate() -> None:
    (one,) = found(guardrails=guardrail("cannot_tell", harm=None))
    assert (one.verdict, one.number) == ("cannot_tell", None)
    assert "cannot be told" in one.evidence


@pytest.mark.parametrize(
    ("rule", "name", "subject"),
    [
        ("late_share", "data_quality", "late_share:all_sources"),
        ("freshness", "freshness", "all_sources"),
        ("conservation", "conservation", "all_sources@2026-03-05"),
        ("contract", "contract", "all_sources@2026-03-05"),
    ],
)
def test_quality_rows_keep_their_rule_and_days(rule: str, name: str, subject: str) -> None:
    (one,) = found(quality=quality(rule, "warn"))
    assert (one.rule, one.subject, one.verdict, one.owner) == (name, subject, "warn", "data-platform")
    change = after_finding(Track(), one, NOON)[1]
    assert change is not None
    assert change.incident.severity == "warn"


@pytest.mark.parametrize("verdict", ["pass", "cannot_tell"])
def test_good_and_unknown_quality(verdict: str) -> None:
    (one,) = found(quality=quality("late_share", verdict, value=None, threshold=None))
    assert (one.verdict, one.badness) == (verdict, 0.0)


def test_a_foreign_subject_cannot_forge_a_line() -> None:
    (one,) = found(quality=quality("late_share", "fail", subject="a\nPAGE é" + "x" * 300))
    assert one.subject.startswith("late_share:a_PAGE__x")
    assert len(one.subject) == 200


def test_the_order_is_by_day_rule_and_subject() -> None:
    every = found(srm=srm(1e-9), guardrails=guardrail("fail"), quality=quality("late_share", "warn"))
    assert [one.rule for one in every] == ["data_quality", "guardrail", "srm"]


@pytest.mark.parametrize(
    ("verdict", "opens", "seen", "severity"),
    [
        ("warn", "none", "cannot_tell", "page"),
        ("warn", "warn", "warn", "warn"),
        ("fail", "warn", "fail", "warn"),
        ("fail", "page", "fail", "page"),
        ("fail", "none", "cannot_tell", "page"),
        ("pass", "none", "pass", "page"),
    ],
)
def test_a_quality_rule_opens_what_its_policy_says(
    verdict: str, opens: str, seen: str, severity: str
) -> None:
    row = {"opens": opens, "owner": "tutor-platform", "subject": "turns", "unit": "share"}
    (one,) = found(quality=quality("answered_turns", verdict, **row))
    assert (one.subject, one.verdict, one.owner) == ("answered_turns:turns", seen, "tutor-platform")
    assert one.runbook == "docs/runbooks/quality/answered-turns.md"
    change = after_finding(Track(), one, NOON)[1]
    if seen in ("warn", "fail"):
        assert change is not None
        assert (change.incident.severity, change.incident.runbook) == (severity, one.runbook)
    else:
        assert change is None


def test_a_warning_that_opens_nothing_leaves_an_open_incident_open() -> None:
    row = {"owner": "tutor-platform", "subject": "turns", "unit": "share"}
    (failed,) = found(quality=quality("answered_turns", "fail", opens="page", **row))
    track = after_finding(Track(), failed, NOON)[0]
    (warned,) = found(quality=quality("answered_turns", "warn", opens="none", **row))
    assert after_finding(track, warned, NOON) == (track, None)
    (passed,) = found(quality=quality("answered_turns", "pass", opens="none", **row))
    change = after_finding(track, passed, NOON)[1]
    assert change is not None
    assert change.change == "resolved"
