"""The page for readers: which method may be trusted where, from the rows of a run."""

from __future__ import annotations

from typing import Any

from bench.calibration.cases import FaultyRow, IntervalRow, RateRow, Row

# Method -> (stated domain, what happens outside it).
DOMAINS: dict[str, tuple[str, str]] = {
    "Welch, moments only": (
        "Skewness of the smaller arm's mean (skewness / √n) at most 0.5, and skewness of the difference at "
        "most "
        "0.1: equal arms from 8 normal units, 16 exponential ones or 150 lognormal ones each.",
        "Unequal arms of skewed values: one end of the interval errs far more than the other. Very skewed "
        "values "
        "in few units: the interval is too wide.",
    ),
    "Welch with third moments": (
        "Skewness of the smaller arm's mean at most 0.5, also where arms are unequal. This is what a "
        "readout from rows "
        "uses.",
        "Few units with rare large values, such as 80 % zeros at 40 + 360: the values that are missing from "
        "the small arm cannot be corrected for. Cap the values, or wait.",
    ),
    "winsorised mean": (
        "Five values or more above the cap.",
        "It answers for capped values only.",
    ),
    "relative effect of means": (
        "As Welch, and both means three standard errors from zero. Where one arm is far less sure than the "
        "other (3 (b² - a²) / √(a² + b²) beyond ± 0.3, where a and b are the relative standard errors of "
        "treatment and control) the log-ratio gives way to Fieller's interval.",
        "As Welch: skewed values in unequal arms make one end err more.",
    ),
    "relative effect of means, third moments": (
        "As Welch with third moments.",
        "As Welch with third moments.",
    ),
    "CUPED": (
        "Eight units of the smaller arm for each covariate; equal slopes in both arms, or equal arms.",
        "With slopes that differ and unequal arms coverage was still right here; Lin's form is more precise.",
    ),
    "CUPED, three covariates": ("Eight units of the smaller arm for each covariate.", "Power falls first."),
    "CUPED, three covariates with gaps": (
        "Eight units of an arm for each column, indicators of gaps counted.",
        "",
    ),
    "Lin (own slopes)": ("Twelve units in each arm for each covariate.", ""),
    "strata as fixed effects": ("Two strata or more with units of both arms; pairs too.", ""),
    "shares (Newcombe)": (
        "Ten successes and ten failures expected in each arm.",
        "Fewer: coverage swings with the counts, from too narrow at 8 + 8 to too wide for rare events, and "
        "the "
        "tails are uneven.",
    ),
    "relative effect of shares": (
        "Ten successes and ten failures expected in each arm. The log-ratio gives way to Newcombe's interval "
        "of a ratio as for means.",
        "A handful of events: one end errs more, and the code flags it. "
        "With less than about four events in control there is no relative effect at all.",
    ),
    "ratios (delta)": ("Thirty units in the smaller arm.", "Fewer: up to two points too narrow."),
    "relative effect of ratios": (
        "Thirty units in each arm, and arms no more uneven than four to one.",
        "A small arm beside a large one: one end errs more.",
    ),
    "rates of events": (
        "Equal arms with as much information as thirty independent events each (events / dispersion).",
        "A handful of events: far too wide. Bunched counts in few units: somewhat too narrow.",
    ),
    "quantiles": (
        "Units that stand for ten rows beyond the quantile in the smaller arm (units x the smaller of q "
        "and 1 - q).",
        "Few units beyond the quantile: too wide, and sometimes no bound at all; the method says so.",
    ),
    "CR2": (
        "Five degrees of freedom or more, and sizes of classes that vary by at most half their mean (or a "
        "hundred classes).",
        "Fewer degrees of freedom: too wide, almost without power. Sizes that vary by their mean with a high "
        "intraclass correlation in few classes: up to two points too narrow.",
    ),
    "CR2, two covariates": ("Eight classes in each arm.", ""),
    "CR1 with t(G - 1)": (
        "Fifty classes, twenty in the smaller arm, sizes that vary by at most half. The choice between CR1 "
        "and CR2 is "
        "made by itself.",
        "Few treated classes among many: far too narrow, which is why CR2 is taken there.",
    ),
    "wild cluster bootstrap": (
        "Ten classes in each arm.",
        "Three classes an arm: three and a half points too narrow; six: one and a half. Use shuffling there.",
    ),
    "randomisation inference": (
        "Any number of classes: it promises at least 95 % when the effect is the same for all.",
        "",
    ),
    "complier effect (2SLS)": (
        "A first-stage F of 50 or more.",
        "Weaker: lopsided, then far too wide. Read the Anderson-Rubin interval.",
    ),
    "complier effect (Anderson-Rubin)": ("Any first stage.", ""),
    "Lee bounds": (
        "Any share missing, where assignment moves nobody out of sight who would be seen otherwise. Here the "
        "truth is put at an end of the bounds, where all misses lie on one side.",
        "",
    ),
    "mean over segments": (
        "Nowhere within the bounds for sure: segments here have spreads from 1 to 6.5.",
        "One or two points too narrow where effects vary, for their variance is estimated from few.",
    ),
    "prediction-powered difference": (
        "Forty labelled units an arm for yes-or-no labels, twenty for normal scores.",
        "Fewer: up to two points too narrow.",
    ),
    "Cohen's kappa": (
        "A hundred units of the rarer label.",
        "Fewer: agreement close to full is overstated at the lower end (intervals wholly above the truth).",
    ),
    "Gwet's AC1": (
        "A hundred units of the rarer label, for coverage; its tails stay uneven longest.",
        "At 20 to 60 units intervals lie wholly above the truth in 6-8 % of samples.",
    ),
}


def page(rows: list[Row], about: dict[str, Any]) -> str:
    """The page, whole."""
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
        "arms as unequal as 95 to 5.",
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
