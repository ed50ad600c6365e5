"""The page for readers: which method may be trusted where, from the rows of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.calibration.cases import FaultyRow, IntervalRow, RateRow, Row
from bench.calibration.domains import DOMAINS


def page(rows: list[Row], about: dict[str, Any], programmes: Sequence[str] = ()) -> str:
    """The page, whole. programmes: the lines of the section on them."""
    intervals = [row for row in rows if isinstance(row, IntervalRow)]
    rules = [row for row in rows if isinstance(row, RateRow)]
    faulty = [row for row in rows if isinstance(row, FaultyRow)]
    lines = [
        "# How far the numbers may be trusted",
        "",
        "An interval that is called 95 % should hold the truth in 95 of 100 experiments, and err as often "
        "upwards "
        "as downwards. Whether it does depends on how many units there are, how skewed their values, how "
        "unequal "
        "the arms. This page says, for each method of the readout, where it does, how far off it was at "
        "worst, "
        "and what happens elsewhere. The numbers come from simulation: "
        f"{sum(row.runs for row in intervals):,} intervals in {len(intervals)} worlds, and "
        f"{len(rules)} runs of decision rules.",
        "",
        f"Written by `make calibrate` on {about['date']} (seed {about['seed']}, numpy {about['numpy']}, "
        f"scipy "
        f"{about['scipy']}). Every row, with its Monte Carlo error, is in `bench/results/calibration.md`, "
        f"and for "
        "machines in `calibration.json` beside it. The command fails when a method leaves its bounds on its "
        "domain, or when a method known to be wrong passes.",
        "",
        "The bounds on the stated domain: coverage 93.5-96.5 %, each tail 1.5-3.5 %. Monte Carlo error "
        "comes on "
        "top: a worst row is the worst of many, so it lies a little outside what is true.",
        "",
        "## Where each interval holds",
        "",
        "Tails: the share of intervals wholly above or below the truth; 2.5 % is meant.",
        "",
        "| method | holds for | worlds | coverage there | tails there | worst outside | and then |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for method in dict.fromkeys(row.method for row in intervals):
        lines.append(_method_line(method, [row for row in intervals if row.method == method]))
    lines += [
        "",
        "An arm is called small or large by its units of analysis, classes where classes were randomised. "
        "Skewness of a mean is that of the values over the root of the units.",
        "",
        "### Worlds beyond the bounds",
        "",
        "Documented limits: what the simulation saw outside the domains.",
        "",
        "| method | world | criterion | coverage | above | below | warned |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    for row in intervals:
        if not row.inside and row.problems():
            lines.append(
                f"| {row.method} | {row.world} | {row.criterion} | {row.coverage:.1%} | {row.above:.1%} "
                f"| {row.below:.1%} | {row.flagged:.0%} |"
            )
    beyond = [row for row in intervals if row.inside and row.problems()]
    if beyond:
        lines += ["", "Faults on the stated domain, not yet mended:", ""]
        lines += [f"- {row.method}, {row.world}: {'; '.join(row.problems())}" for row in beyond]
    lines += [
        "",
        "## What decision rules do",
        "",
        "Promised and found, over all looks, days or metrics together.",
        "",
        "| rule | world | what | promised | found |",
        "|---|---|---|--:|--:|",
    ]
    for rule in rules:
        promised = "" if rule.promise == "shown" else f"{rule.promise} {100 * rule.nominal:.3g} %"
        if not rule.inside:
            promised += " (outside the domain)"
        lines.append(
            f"| {rule.rule} | {rule.world} | {rule.what} | {promised} | {rule.rate:.2%} ± {rule.error:.2%} |"
        )
    lines += [
        "",
        "Guardrails judged from moments alone pass harm at the margin too often where values are skewed and "
        "arms as unequal as 95 to 5, and their verdict carries a flag that nobody looked at skewness. With "
        "third moments they keep their promise.",
        "",
        "Always-valid intervals, sequential sample ratios and kill rules stay far below their promise: "
        "they hold "
        "for looks without end, and a month of looks uses up only a part. The price is power: compare the "
        "rows.",
        "",
        "## Methods that must fail",
        "",
        "Faults that are met in the field, simulated on the same data as ours.",
        "",
        "| known fault | world | what goes wrong | sound | found | ours |",
        "|---|---|---|--:|--:|--:|",
    ]
    for one in faulty:
        lines.append(
            f"| {one.method} | {one.world} | {one.failure} | {one.nominal:.1%} | {one.rate:.1%} "
            f"| {one.our_rate:.1%} ({one.ours}) |"
        )
    lines += [
        "",
        *programmes,
        "## What this does not say",
        "",
        "- Outcomes here are independent between units (or classes). Learners who influence one another "
        "are not "
        "simulated.",
        "- Heavy tails are lognormal up to a log-sd of 1.5. A single value that dwarfs all others breaks "
        "any mean; "
        "cap it, or read a quantile.",
        "- Power planned against power found is in `bench/results/power.md`.",
        "",
    ]
    return "\n".join(lines)


def _method_line(method: str, rows: list[IntervalRow]) -> str:
    domain, outside = DOMAINS[method]
    inside = [row for row in rows if row.inside]
    beyond = [row for row in rows if not row.inside]
    covers = tails = worst = ""
    if inside:
        coverage = sorted(row.coverage for row in inside)
        ends = sorted(tail for row in inside for tail in (row.above, row.below))
        covers, tails = _span(coverage[0], coverage[-1]), _span(ends[0], ends[-1])
    if beyond:
        far = max(beyond, key=lambda row: abs(row.coverage - 0.95))
        tail = max(max(row.above, row.below) for row in beyond)
        worst = f"{far.coverage:.1%}, a tail {tail:.1%}"
    return f"| {method} | {domain} | {len(inside)} | {covers} | {tails} | {worst} | {outside} |"


def _span(low: float, high: float) -> str:
    if f"{low:.3f}" == f"{high:.3f}":
        return f"{100 * low:.1f} %"
    return f"{100 * low:.1f}-{100 * high:.1f} %"
