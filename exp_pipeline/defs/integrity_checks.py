"""The integrity panel of an experiment as asset checks: one a line of it, with its numbers and causes."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from exp_pipeline.defs.result_tables import causes_table, shortened, spoken, verdicts_table
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import IntegrityCheck, Readout, Verdict

ASSET = "integrity"
# Asset check -> the panel's checks that it speaks for, and what it asks.
PANEL: dict[str, tuple[tuple[str, ...], str]] = {
    "lock": (("lock",), "The brief stands as it was locked, and was locked before the data were seen."),
    "receipt": (("receipt",), "Pinned versions differ between arms only where the brief lets them."),
    "srm": (
        ("sample_ratio_assigned", "sample_ratio_exposed", "sample_ratio_analysed", "sample_ratio_groups"),
        "Arms got their planned shares: assigned, exposed, analysed, and group by group.",
    ),
    "fidelity": (("fidelity",), "Each unit is in the arm that the brief's own rules give it."),
    "contamination": (("contamination",), "No unit was seen in two arms."),
    "exposure": (("exposure",), "Units were exposed after their assignment, to their own arm."),
    "completeness": (("completeness",), "Each kind of event arrives from every arm."),
    "freshness": (("freshness",), "Events reach the day that they are said to reach, and came in time."),
    "attrition": (("attrition",), "As many units are lost in each arm."),
    "covariate_balance": (("covariate_balance",), "The arms were alike before they were assigned."),
    "equal_arms": (("equal_arms",), "An A/A found nothing, where logging or bucketing is new."),
}
_ORDER: tuple[Verdict, ...] = ("fail", "warn", "cannot_tell", "pass")


def specs() -> list[dg.AssetCheckSpec]:
    """One check a line of the panel; an error in any stops the effects in the same run."""
    return [
        dg.AssetCheckSpec(name, asset=ASSET, description=asks, blocking=True)
        for name, (_, asks) in PANEL.items()
    ]


def results(readout: Readout) -> Iterator[dg.AssetCheckResult]:
    """What each check of the panel found in a readout."""
    found = {check.name: check for check in readout.integrity}
    known = {one for names, _ in PANEL.values() for one in names}
    strange = sorted(found.keys() - known)
    if strange:
        raise ValueError(f"integrity checks without an asset check: {', '.join(strange)}; add them to PANEL")
    for name, (members, _) in PANEL.items():
        yield _result(readout, name, [found[member] for member in members if member in found])


def verdict(readout: Readout) -> str:
    """The panel in a line: what fails, what warns, how many checks there are."""
    told = []
    for kind, words in (("fail", "fails"), ("warn", "warns"), ("cannot_tell", "cannot be told")):
        titles = [check.title for check in readout.integrity if check.verdict == kind]
        if titles:
            told.append(f"{words}: {', '.join(titles)}")
    passed = sum(check.verdict == "pass" for check in readout.integrity)
    return "; ".join([*told, f"{passed} of {len(readout.integrity)} checks pass"])


def _result(readout: Readout, name: str, found: list[IntegrityCheck]) -> dg.AssetCheckResult:
    verdict = next((one for one in _ORDER if any(check.verdict == one for check in found)), None)
    worst = [check for check in found if check.verdict == verdict]
    metadata: dict[str, dg.RawMetadataValue] = {
        "experiment": readout.experiment,
        "snapshot": readout.provenance.snapshot,
        "verdict": "not asked for" if verdict is None else spoken(verdict),
        "evidence": dg.MetadataValue.md("\n".join(f"- {check.evidence}" for check in worst) or "None."),
        **_numbers(found),
        **_threshold(name, readout.brief),
    }
    if len(found) > 1:
        metadata["verdicts"] = verdicts_table(found)
    causes = causes_table(found)
    if causes is not None:
        metadata["causes"] = causes
    return dg.AssetCheckResult(
        asset_key=ASSET,
        check_name=name,
        passed=verdict not in ("warn", "fail"),
        severity=dg.AssetCheckSeverity.ERROR if verdict == "fail" else dg.AssetCheckSeverity.WARN,
        description=shortened(" ".join(check.evidence for check in worst)) or "Not asked for.",
        metadata=metadata,
    )


def _numbers(found: list[IntegrityCheck]) -> dict[str, dg.RawMetadataValue]:
    """The numbers of one check as they are; of several, each under the last word of its check's name.

    A check of many groups gives the p-value of its worst one, corrected for how many there are.
    """
    several = len(found) > 1
    numbers: dict[str, dg.RawMetadataValue] = {}
    for check in found:
        for name, value in check.numbers.items():
            if not several:
                numbers[name] = _rounded(value)
            elif name in ("p_value", "worst_p_adjusted"):
                numbers[f"p_value_{check.name.rpartition('_')[2]}"] = _rounded(value)
    p_values = [value for name, value in numbers.items() if name.startswith("p_value")]
    smallest = min((value for value in p_values if isinstance(value, float)), default=None)
    return numbers | ({"smallest_p_value": smallest} if smallest is not None else {})


def _rounded(value: float | str) -> float | str:
    """A number as people compare it; the exact one is in the readout."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _threshold(name: str, brief: Brief) -> dict[str, dg.RawMetadataValue]:
    if name in ("srm", "attrition", "covariate_balance", "completeness", "equal_arms"):
        return {"p_value_limit": brief.srm_alpha}
    if name in ("fidelity", "contamination", "exposure"):
        return {"share_limit": brief.contamination_limit}
    return {}
