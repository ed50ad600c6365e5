"""The data-quality rules as asset checks: one a rule, with its number, line, groups and the days before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg

from exp_pipeline.defs.images import trend
from exp_pipeline.model.quality import QualityLine, QualityPage
from exp_pipeline.model.quality_rules import QUALITY_RULES, QualityRule
from exp_pipeline.report.quality import in_unit, quality_markdown, rule_view
from exp_pipeline.steps.context import Window, Workbench
from exp_pipeline.steps.quality.pages import PageFiles, newest_page, write_pages

ASSET = "data_quality"
SPECS = [
    dg.AssetCheckSpec(
        rule.name,
        asset=ASSET,
        description=f"{rule.question} Runbook: {rule.runbook}",
        metadata={"runbook": rule.runbook, "unit": rule.unit},
    )
    for rule in QUALITY_RULES.values()
]


def publish_pages(context: dg.AssetExecutionContext, bench: Workbench, window: Window) -> None:
    """Write the pages of the window's days and link them from their partitions."""
    for files in write_pages(bench, window):
        context.add_asset_metadata(
            metadata=_links(files),
            asset_key=dg.AssetKey(ASSET),
            partition_key=files.page.day.isoformat(),
        )


def _links(files: PageFiles) -> dict[str, Any]:
    failing = files.page.with_verdict("fail", "warn")
    lines = [
        f"- **{line.finding.verdict}** {QUALITY_RULES[line.finding.rule].title}: {line.finding.evidence}"
        for line in failing[:6]
    ]
    return {
        "page": dg.MetadataValue.path(str(files.html.resolve())),
        "all_days": dg.MetadataValue.path(str(files.html.with_name("index.html").resolve())),
        "failing": dg.MetadataValue.md("\n".join(lines) or "No rule fails."),
        "page_as_text": dg.MetadataValue.md(quality_markdown(files.page)),
    }


def check_results(bench: Workbench, window: Window) -> list[dg.AssetCheckResult]:
    """One result a rule: the newest day of the window, or for late data the newest that could be told."""
    page = newest_page(bench, window)
    lines = {} if page is None else {line.finding.rule: line for line in page.lines}
    results = []
    for name, rule in QUALITY_RULES.items():
        line = lines.get(name)
        if page is None or line is None:
            said = "no day of the run has events" if page is None else "switched off by the policy"
            results.append(
                dg.AssetCheckResult(check_name=name, asset_key=ASSET, passed=True, description=said)
            )
        else:
            results.append(_result(rule, line, page))
    return results


def _result(rule: QualityRule, line: QualityLine, page: QualityPage) -> dg.AssetCheckResult:
    found = line.finding
    view = rule_view(line, page)
    metadata: dict[str, Any] = {
        "verdict": view.label,
        "day": found.day.isoformat(),
        "line": view.line,
        "rows": found.rows,
        "owner": found.owner,
        "runbook": rule.runbook,
        "first_look": rule.first_look,
    }
    if found.value is not None:
        metadata["number"] = float(found.value)
    if found.threshold is not None:
        metadata["threshold"] = float(found.threshold)
    if view.since:
        metadata["failing_since"] = view.since
    if found.carriers:
        metadata["groups"] = dg.MetadataValue.table(_groups(line), schema=_GROUPS)
    told = [point for point in line.history if point.value is not None]
    if told:
        values = [(point.day.toordinal(), float(point.value or 0.0)) for point in told]
        metadata["trend"] = trend(rule.title, values, told[-1].threshold)
    metadata["by_day"] = dg.MetadataValue.table(_days(line), schema=_DAYS)
    return dg.AssetCheckResult(
        check_name=rule.name,
        asset_key=ASSET,
        passed=found.verdict not in ("warn", "fail"),
        severity=dg.AssetCheckSeverity.ERROR if found.verdict == "fail" else dg.AssetCheckSeverity.WARN,
        description=f"{view.label}: {found.evidence}",
        metadata=metadata,
    )


_GROUPS = dg.TableSchema(
    columns=[
        dg.TableColumn(name, type=kind)
        for name, kind in (
            ("group", "string"),
            ("number", "float"),
            ("counted", "float"),
            ("rows", "float"),
            ("usual", "float"),
            ("verdict", "string"),
        )
    ]
)
_DAYS = dg.TableSchema(
    columns=[dg.TableColumn(name, type="string") for name in ("day", "number", "line", "verdict")]
)


def _groups(line: QualityLine) -> list[dg.TableRecord]:
    return [
        dg.TableRecord(
            {
                "group": one.group,
                "number": round(one.value, 4),
                "counted": one.part,
                "rows": one.rows,
                "usual": one.usual,
                "verdict": one.verdict,
            }
        )
        for one in line.finding.carriers
    ]


def _days(line: QualityLine) -> Sequence[dg.TableRecord]:
    unit = line.finding.unit
    return [
        dg.TableRecord(
            {
                "day": point.day.isoformat(),
                "number": in_unit(point.value, unit),
                "line": in_unit(point.threshold, unit),
                "verdict": point.verdict,
            }
        )
        for point in reversed(line.history)
    ]
