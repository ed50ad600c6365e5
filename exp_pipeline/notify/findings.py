"""What do the daily tables of verdicts say, as findings?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from typing import Any, cast

import polars as pl

from exp_pipeline.model.incidents import RULES, Finding, RuleName, Severity
from exp_pipeline.model.quality_rules import QUALITY_RULES, QualityRuleName
from exp_pipeline.model.readout import Verdict

UNOWNED = "nobody"
# Shares of so few units are not shown: they would tell on single learners.
FEWEST_SHOWN = 10
_TINIEST_P = 1e-300
_CONDITIONS: Mapping[str, Verdict] = {"pass": "pass", "fail": "fail"}


def findings_of_day(
    srm: pl.DataFrame,
    guardrails: pl.DataFrame,
    quality: pl.DataFrame,
    *,
    owners: Mapping[str, str],
    srm_alpha: Mapping[str, float],
) -> tuple[Finding, ...]:
    """What do the rows of srm_daily, guardrails_daily and data_quality say, by day, then rule and subject?

    owners: by experiment and by data quality subject; "*" owns what is not named. srm_alpha: by experiment.

    SRM fails where the p-value that may be looked at daily is below the experiment's alpha; without an alpha
    (no usable brief) it cannot be told. A guardrail fails where its kill rule acts, which is a page, or its
    status is "fail", which is a warning, since that status is not made for daily looks. "underpowered"
    neither opens nor closes. A data quality row under the name of an incident rule is that rule's; any other
    is `data_quality`, with its own rule in the subject. Of versions of an experiment a day's newest counts.
    """
    found = [*_srm(srm, owners, srm_alpha), *_guardrails(guardrails, owners), *_quality(quality, owners)]
    return tuple(sorted(found, key=lambda finding: (finding.day, finding.rule, finding.subject)))


def _newest_version(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("version") == pl.col("version").max().over("experiment", "event_date"))


def _owner(owners: Mapping[str, str], name: str) -> str:
    return owners.get(name) or owners.get("*") or UNOWNED


def _srm(frame: pl.DataFrame, owners: Mapping[str, str], alphas: Mapping[str, float]) -> list[Finding]:
    found = []
    ordered = _newest_version(frame).sort("experiment", "event_date", "arm")
    for (experiment, day), arms in ordered.group_by(["experiment", "event_date"], maintain_order=True):
        name = str(experiment)
        alpha, p_value = alphas.get(name), arms["sequential_p_value"][0]
        verdict: Verdict = "cannot_tell"
        badness = 0.0
        if alpha is not None and p_value is not None:
            verdict = "fail" if p_value < alpha else "pass"
            badness = max(math.log10(alpha / max(p_value, _TINIEST_P)), 0.0)
        found.append(
            Finding(
                rule="srm",
                subject=name,
                day=_day(day),
                verdict=verdict,
                evidence=_srm_evidence(arms, alpha, p_value),
                number=p_value,
                threshold=alpha,
                badness=badness,
                owner=_owner(owners, name),
                experiment=name,
            )
        )
    return found


def _srm_evidence(arms: pl.DataFrame, alpha: float | None, p_value: float | None) -> str:
    total = int(arms["units"].sum())
    if alpha is None:
        return "no usable brief says which p-value is too small"
    if p_value is None or total == 0:
        return "no units yet"
    against = f"p {p_value:.2g} ({'below' if p_value < alpha else 'at least'} {alpha:g})"
    if any(units < FEWEST_SHOWN for units in arms["units"]):
        return f"{against}, an arm has fewer than {FEWEST_SHOWN} units"
    seen = "/".join(f"{100 * units / total:.1f}" for units in arms["units"])
    planned = "/".join(f"{100 * share:.1f}" for share in arms["planned_share"])
    return f"{against}: arms {seen} %, planned {planned} %, {total:,} units"


def _guardrails(frame: pl.DataFrame, owners: Mapping[str, str]) -> list[Finding]:
    found = []
    for row in _newest_version(frame).sort("experiment", "event_date", "metric", "arm").iter_rows(named=True):
        failed = row["kill_triggered"] or row["status"] == "fail"
        harm, margin = row["harm"], row["margin"]
        past = (harm - margin) / margin if failed and harm is not None and margin > 0 else 0.0
        severity: Severity = "page" if row["kill_triggered"] else "warn"
        found.append(
            Finding(
                rule="guardrail",
                subject=f"{row['experiment']}:{row['metric']}:{row['arm']}",
                day=row["event_date"],
                verdict="fail" if failed else _CONDITIONS.get(row["status"], "cannot_tell"),
                severity=severity,
                evidence=_guardrail_evidence(row),
                number=harm,
                threshold=margin,
                badness=max(past, 0.0) if math.isfinite(past) else 0.0,
                owner=_owner(owners, row["experiment"]),
                experiment=row["experiment"],
            )
        )
    return found


def _guardrail_evidence(row: Mapping[str, Any]) -> str:
    if row["harm"] is None:
        said = f"harm cannot be told, margin {row['margin']:.4g}"
    else:
        bound = "" if row["harm_bound"] is None else f", up to {row['harm_bound']:.4g}"
        said = f"harm {row['harm']:.4g}{bound}, margin {row['margin']:.4g}"
    return f"kill rule acts: {said}" if row["kill_triggered"] else f"{row['status']}: {said}"


def _quality(frame: pl.DataFrame, owners: Mapping[str, str]) -> list[Finding]:
    found = []
    for row in frame.sort("event_date", "rule", "subject").iter_rows(named=True):
        own = RULES.get(row["rule"])
        rule: RuleName = "data_quality" if own is None else own.name
        subject = row["subject"] if own is not None else f"{row['rule']}:{row['subject']}"
        value, threshold = row["value"], row["threshold"]
        failed = row["verdict"] in ("warn", "fail")
        past = abs(value - threshold) / abs(threshold) if failed and value is not None and threshold else 0.0
        found.append(
            Finding(
                rule=rule,
                subject=_subject(f"{subject}@{row['event_date']}" if RULES[rule].per_day else subject),
                day=row["event_date"],
                verdict="cannot_tell" if failed and row["opens"] == "none" else row["verdict"],
                severity="warn" if row["opens"] == "warn" else "page",
                evidence=row["evidence"],
                number=value,
                threshold=threshold,
                badness=past if math.isfinite(past) else 0.0,
                owner=row["owner"] or _owner(owners, row["subject"]),
                runbook=_runbook(row["rule"]),
            )
        )
    return found


def _runbook(rule: str) -> str | None:
    known = QUALITY_RULES.get(cast("QualityRuleName", rule))
    return None if known is None else known.runbook


def _subject(text: str) -> str:
    """The text as visible ASCII: names of events and files come from outside."""
    return "".join(sign if "!" <= sign <= "~" else "_" for sign in text)[:200]


def _day(value: object) -> date:
    if not isinstance(value, date):
        raise ValueError(f"event_date must be a date, got {value!r}")
    return value
