"""The metrics in words: how each is calculated, the tree of what drives what, and the library as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from exp_pipeline.model.metrics import Metric, Score

Place = Literal["tree", "guardrail", "apart"]
KINDS = ("north-star", "output", "input", "guardrail")
ARROWS = {"increase": "↑", "decrease": "↓"}
# What is written between them is drawn from the catalog.
MARKS = ("<!-- library: exp metrics --markdown -->", "<!-- end of library -->")
_WIDTH = 80
_HEADS = {
    "tree": "What is believed to move what (below each metric, those that drive it)",
    "guardrail": "Guardrails: must not get worse",
    "apart": "Apart: leads to no north star",
}


@dataclass(frozen=True, slots=True)
class Branch:
    """One metric's place in the KPI tree.

    `stem` is what is drawn before its name, `below` what is drawn before further lines of it. `place` says
    whether it hangs in the tree, guards it, or stands apart (its drive leads to no north star).
    """

    metric: Metric
    place: Place
    depth: int
    stem: str
    below: str


def kpi_tree(metrics: Mapping[str, Metric]) -> tuple[Branch, ...]:
    """The KPI tree: north stars, below each metric those that drive it; then guardrails; then others.

    Below one parent, outputs stand before inputs, each by name. A metric whose parent is not among `metrics`
    stands apart. Every metric stands in it once.
    """
    children: dict[str, list[Metric]] = {}
    for metric in metrics.values():
        if metric.drives in metrics:
            children.setdefault(metric.drives or "", []).append(metric)
    found: list[Branch] = []

    def grow(metric: Metric, place: Place, depth: int, stem: str, below: str) -> None:
        own = sorted(children.get(metric.name, ()), key=lambda one: (KINDS.index(one.kind), one.name))
        found.append(Branch(metric, place, depth, stem, f"{below}{'│' if own else ' '}  "))
        for position, child in enumerate(own, start=1):
            last = position == len(own)
            grow(
                child,
                place,
                depth + 1,
                f"{below}{'└─ ' if last else '├─ '}",
                f"{below}{'   ' if last else '│  '}",
            )

    roots = sorted((one for one in metrics.values() if one.drives not in metrics), key=lambda one: one.name)
    for place in ("tree", "guardrail", "apart"):
        for root in roots:
            if _place_of(root) == place:
                grow(root, place, 0, "", "")
    return tuple(found)


def _place_of(root: Metric) -> Place:
    if root.kind == "guardrail":
        return "guardrail"
    return "tree" if root.kind == "north-star" else "apart"


def tree_lines(branches: Iterable[Branch]) -> list[str]:
    """The KPI tree as text in 80 columns, a line for each metric, with its counter-metric."""
    lines: list[str] = []
    last = None
    for one in branches:
        if one.place != last:
            lines += [*([""] if last else []), _HEADS[one.place], ""]
            last = one.place
        lines += _drawn(one)
    return [
        *lines,
        "",
        "↑ more is better, ↓ less is better.",
        "<> its counter-metric: look there when it improves too well.",
    ]


def _drawn(branch: Branch) -> list[str]:
    metric = branch.metric
    kind = {"north-star": "north star", "guardrail": ""}.get(metric.kind, metric.kind)
    kind += ", distal" if kind and metric.proximity == "distal" else ""
    line = f"{branch.stem}{metric.name} {ARROWS[metric.direction]}{f'  {kind}' if kind else ''}"
    watched = f"<> {metric.counter_metric}" if metric.counter_metric else ""
    if watched and len(line) + 2 + len(watched) <= _WIDTH:
        return [f"{line}  {watched}"]
    return [line, f"{branch.below}  {watched}"] if watched else [line]


def calculation(metric: Metric) -> str:
    """How a metric is made of its measures, in a line."""
    over = f"{metric.numerator} / {metric.denominator}"
    if metric.per != 1.0:
        over += f" x {metric.per:,.6g}"
    if metric.type == "mean":
        return f"mean of {metric.numerator} over learners"
    if metric.type == "proportion":
        return f"share of learners with {metric.numerator} above 0"
    if metric.type == "quantile":
        return f"{100 * (metric.quantile or 0):g}th percentile of all {metric.numerator}"
    if metric.type == "retention":
        return f"share of learners with {metric.numerator} above 0 on any such day"
    if metric.type == "funnel":
        return f"share of learners with {', then '.join(metric.steps)}"
    if metric.type == "first_time_to":
        return f"mean {metric.time_unit} from assignment to {metric.numerator}, at most the window"
    if metric.type == "gain":
        return f"mean of (post - pre) / ({metric.highest:g} - pre); {_scores(metric)}"
    if metric.type == "composite":
        return "weighted mean of " + ", ".join(f"{part.weight:g} x {part.metric}" for part in metric.parts)
    return f"sum of {over}"


def _scores(metric: Metric) -> str:
    def told(score: Score | None) -> str:
        if score is None:
            return ""
        return score.points if score.out_of is None else f"{score.points} / {score.out_of}"

    when = f"from the {metric.pre_days} days before assignment"
    before = f"{told(metric.pre)}, {when}" if metric.pre_taken == "before" else told(metric.pre)
    return f"pre: {before}; post: {told(metric.post)}"


def window(metric: Metric) -> str:
    """Which days since assignment count, in a few words."""
    if metric.parts:
        return "as its parts"
    if metric.window_days is None:
        return "all days"
    return f"days {metric.from_day or 0}-{metric.window_days - 1}"


def library_markdown(metrics: Iterable[Metric]) -> str:
    """The metrics as Markdown: the tree, and a table for each kind with what every metric says and how."""
    known = sorted(metrics, key=lambda one: one.name)
    drawn = tree_lines(kpi_tree({one.name: one for one in known}))
    lines = ["```text", *drawn, "```", ""]
    for kind in KINDS:
        mine = [one for one in known if one.kind == kind]
        if not mine:
            continue
        title = {"north-star": "North star", "output": "Outputs", "input": "Inputs"}.get(kind, "Guardrails")
        lines += [f"### {title}", "", "| metric | what it says | how | better | drives | counter-metric |"]
        lines.append("|---|---|---|---|---|---|")
        for one in mine:
            counted = f"{one.type}: {calculation(one)}; {window(one)}"
            better = "higher" if one.direction == "increase" else "lower"
            cells = (
                f"`{one.name}`",
                one.definition,
                counted,
                better,
                _code(one.drives),
                _code(one.counter_metric),
            )
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _code(name: str | None) -> str:
    return f"`{name}`" if name else ""
