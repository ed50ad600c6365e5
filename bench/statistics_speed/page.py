"""From measured tasks to what was promised: one page for people, the numbers beside it as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.statistics_speed.tasks import PROMISES, Promise

Found = Mapping[str, Any]


def agrees(side: Found) -> bool:
    """Were all of a side's results within what is allowed? True where nothing was to be compared."""
    return all(one["agrees"] for one in side.get("checks", []))


def _side(tasks: Sequence[Found], task: str, name: str) -> Found | None:
    for one in tasks:
        if one["task"] == task:
            for side in one["sides"]:
                if side["side"] == name and "failed" not in side and agrees(side):
                    return dict(side)
    return None


def value_of(promise: Promise, tasks: Sequence[Found]) -> float | None:
    """What was measured of a promise; None where a side is missing, failed, or does not agree."""
    ours = _side(tasks, promise.task, promise.side)
    if ours is None or promise.measure not in ours:
        return None
    own = float(ours[promise.measure])
    if not promise.against:
        return own
    others = [_side(tasks, promise.task, name) for name in promise.against]
    times = [float(one[promise.measure]) for one in others if one is not None]
    return min(times) / own if times else None


def cpu_of(promise: Promise, tasks: Sequence[Found]) -> float | None:
    """The same in CPU seconds, which a busy machine disturbs less; None for memory."""
    measure = {"seconds": "cpu_seconds", "inner_seconds": "inner_cpu_seconds"}.get(promise.measure)
    if measure is None:
        return None
    ratio = Promise(promise.task, promise.text, promise.bound, measure, promise.side, promise.against)
    return value_of(ratio, tasks)


def met(promise: Promise, value: float | None) -> bool | None:
    """Was it kept? None where nothing was measured."""
    if value is None:
        return None
    return value >= promise.bound if promise.against else value <= promise.bound


def short(value: float | None) -> str:
    """Three digits are enough."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _plain(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}" if value < 1e-3 else f"{value:.3f}"


def told(task: Found) -> str:
    """One task for the terminal: first whether results agree, then the times."""
    lines = [f"{task['title']}"]
    for side in task["sides"]:
        checks = side.get("checks", [])
        if checks:
            bad = [one["what"] for one in checks if not one["agrees"]]
            compared = max(one["count"] for one in checks)
            said = f"{compared:,} compared, " + (f"DIFFERENT: {'; '.join(bad)}" if bad else "agree")
            lines.append(f"  {side['side']:30} {said}")
    for side in task["sides"]:
        if "failed" in side:
            lines.append(f"  {side['side']:30} {side['failed']}")
            continue
        inner = f"   {side['inner_seconds'] * 1e3:9,.1f} ms within" if "inner_seconds" in side else ""
        lines.append(
            f"  {side['side']:30} {side['seconds']:8.2f} s {side['cpu_seconds']:8.2f} CPU s "
            f"{side['peak_mb']:7,.0f} MB{inner}"
        )
    return "\n".join(lines)


def page(facts: Found, tasks: Sequence[Found]) -> str:
    """The whole page as Markdown."""
    lines = ["# Speed of the statistics", "", *_opening(facts, tasks), *_promises(tasks)]
    for task in tasks:
        lines += _task(task)
    lines += _agreement(tasks)
    lines += _method(facts)
    return "\n".join(lines) + "\n"


def _opening(facts: Found, tasks: Sequence[Found]) -> list[str]:
    lines = [
        f"Measured {facts['date']} on {facts['cores']} cores ({facts['cpu']}), {facts['memory_gib']} GiB, "
        f"at commit {facts['commit']}. Again: `make bench-statistics`.",
        "",
    ]
    sides = [side for task in tasks for side in task["sides"]]
    load = max([facts["load"][0], *(side.get("load_before", 0.0) for side in sides)])
    # Within a run its own work is part of the load, so only what came before tells of others.
    if facts["load"][0] > 0.5:
        lines += [
            f"**The machine was busy** (load {facts['load'][0]:.1f} before the run, up to {load:.1f} in it, "
            f"{facts['cores']} cores): seconds are too long, ratios rough. CPU seconds are disturbed less.",
            "",
        ]
    if facts["share"] != 1.0:
        lines += [f"**Only {facts['share']:.0%} of the rows**: not the numbers that were promised.", ""]
    return lines


def _promises(tasks: Sequence[Found]) -> list[str]:
    lines = ["| target | asked | measured | in CPU seconds | |", "|---|--:|--:|--:|---|"]
    present = {one["task"] for one in tasks}
    for promise in PROMISES:
        if promise.task not in present:
            continue
        value = value_of(promise, tasks)
        said = {True: "met", False: "**missed**", None: "not measured"}[met(promise, value)]
        sign = "at least" if promise.against else "at most"
        lines.append(
            f"| {promise.text} | {sign} {promise.bound:g} | {short(value)} "
            f"| {short(cpu_of(promise, tasks))} | {said} |"
        )
    lines += [
        "",
        "A ratio is that of medians over runs in turn. One counts only where the results agree.",
        "",
    ]
    return lines


def _task(task: Found) -> list[str]:
    sides = task["sides"]
    inner = any("inner_seconds" in side for side in sides)
    ours = next((side for side in sides if "failed" not in side), None)
    head = "| | seconds | CPU s | peak MB |" + (" within, ms | within, CPU ms |" if inner else "")
    lines = [f"## {task['title']}", "", head + " times ours |", "|---|" + "--:|" * (4 + 2 * inner)]
    for side in sides:
        if "failed" in side:
            lines.append(f"| {side['side']} | {side['failed']} |" + " |" * (3 + 2 * inner))
            continue
        cells = [side["seconds"], side["cpu_seconds"], side["peak_mb"]]
        row = f"| {side['side']} | " + " | ".join(short(cell) for cell in cells)
        if inner:
            for name in ("inner_seconds", "inner_cpu_seconds"):
                row += f" | {short(side[name] * 1e3) if name in side else ''}"
        measure = "inner_seconds" if inner and "inner_seconds" in side else "seconds"
        ratio = side[measure] / ours[measure] if ours and side["peer"] and measure in ours else None
        lines.append(f"{row} | {short(ratio)} |")
    lines.append("")
    if inner:
        lines += ["*Within*: in the process, after imports and reading; the ratio is of that.", ""]
    lines += [f"- **{side['side']}**: {side['did']}." for side in sides if side["did"]]
    lines += [""] * any(side["did"] for side in sides)
    return lines


def _agreement(tasks: Sequence[Found]) -> list[str]:
    lines = [
        "## Results, compared before times were shown",
        "",
        "| | compared | number | largest difference | allowed | |",
        "|---|---|--:|--:|--:|---|",
    ]
    reasons: list[str] = []
    for task in tasks:
        for side in task["sides"]:
            for one in side.get("checks", []):
                mark = ""
                if one["why"]:
                    if one["why"] not in reasons:
                        reasons.append(one["why"])
                    mark = f" ({reasons.index(one['why']) + 1})"
                lines.append(
                    f"| {side['side']} | {one['what']}{mark} | {one['count']:,} | {_plain(one['largest'])} "
                    f"| {_plain(one['allowed'])} | {'' if one['agrees'] else '**different**'} |"
                )
    lines += ["", "Where more than rounding is allowed:", ""]
    lines += [f"{place}. {reason[0].upper()}{reason[1:]}." for place, reason in enumerate(reasons, 1)]
    return [*lines, ""]


def _method(facts: Found) -> list[str]:
    def named(versions: Mapping[str, str]) -> str:
        return ", ".join(f"{name} {number}" for name, number in versions.items())

    warmed = " Files were read once before, so that all find them in memory." if facts.get("warmed") else ""
    lines = [
        "## How it was measured",
        "",
        "- Each run is a process of its own, from start to end: interpreter, imports, reading Parquet, "
        f"arithmetic, writing the estimates as JSON.{warmed} CPU seconds and "
        "peak memory are the kernel's own count for that process.",
        "- Sides take turns, and each number is the median of its runs (memory: the largest). "
        "mozanalysis and cluster-experiments run once, for they take long.",
        "- All read the same file, only the columns that they need. The data are made up, alike each time: "
        "normal, skewed count and yes-or-no metrics, each with its value before the start.",
        "- Each package is asked in the fastest way found in its public interface; what it left out is said "
        "above, and not added to its time.",
        f"- Ours: {named(facts['ours'])}.",
    ]
    lines += [
        f"- {peer}: {named(versions)}." if versions else f"- {peer}: not installed."
        for peer, versions in facts["peers"].items()
    ]
    return lines


def write(folder: Path, facts: Found, tasks: Sequence[Found]) -> str:
    """Write statistics.json and statistics.md; answer the page."""
    folder.mkdir(parents=True, exist_ok=True)
    judged = []
    for promise in PROMISES:
        value = value_of(promise, tasks)
        judged.append(
            {
                "target": promise.text, "bound": promise.bound, "at_least": bool(promise.against),
                "value": value, "cpu_value": cpu_of(promise, tasks), "met": met(promise, value),
            }
        )  # fmt: skip
    text = json.dumps({"machine": facts, "targets": judged, "tasks": tasks}, indent=1)
    (folder / "statistics.json").write_text(text + "\n", encoding="utf-8")
    found = page(facts, tasks)
    (folder / "statistics.md").write_text(found, encoding="utf-8")
    return found
