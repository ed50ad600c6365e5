"""The memo as Markdown for a pull request or a chat, with the same words and numbers as the page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from exp_pipeline.model.ramps import RampEntry
from exp_pipeline.model.readout import Readout
from exp_pipeline.report.document import Glance, MemoDocument, Table, printed
from exp_pipeline.report.facts import memo_document

SUMMARY_LIMIT = 900
_SPECIAL = re.compile(r"([\\`*\[\]<>|~#&!]|(?<![^\W_])_|_(?![^\W_]))")
_LIST_MARK = re.compile(r"^(\d+)([.)])")
_BLOCK_MARK = re.compile(r"^([-+=:])")


def escaped(text: str) -> str:
    """A foreign text as Markdown at the start of a line: as `inline`, and no list or heading either."""
    text = _LIST_MARK.sub(r"\1\\\2", inline(text))
    return _BLOCK_MARK.sub(r"\\\1", text)


def inline(text: str) -> str:
    """A foreign text as Markdown within a line that reads as it was written: no table bars, tags or links."""
    text = _SPECIAL.sub(r"\\\1", printed(text))
    # A bare address would become a link to wherever a brief's author likes.
    return text.replace("://", ":\u200b//").replace("www.", "www\u200b.").replace("@", "@\u200b")


def memo_markdown(readout: Readout, transitions: Sequence[RampEntry] = ()) -> str:
    """The memo as Markdown; `transitions` are the experiment's entries of the ramp log."""
    return markdown_of(memo_document(readout, transitions))


def markdown_of(memo: MemoDocument, notice: str = "") -> str:
    """The Markdown of a document that is already made."""
    out = [
        f"# {escaped(memo.title)}",
        *([f"**Note:** {escaped(notice)}"] if notice else []),
        f"**{escaped(memo.decision.label)}.** {escaped(memo.decision.sentence)}",
    ]
    if memo.decision.differs_by_arm:
        out.append(
            _list(
                f"**{arm.label}**, {escaped(arm.arm)}: {escaped(arm.because)}" for arm in memo.decision.arms
            )
        )
    if memo.decision.choice:
        out.append(escaped(memo.decision.choice))
    if memo.glance:
        out.append(_list(_tile(tile) for tile in memo.glance))
    ran = "Ran" if memo.horizon_reached else "Runs"
    out += [
        _list(
            [
                f"Decision asked: {escaped(memo.decision.asked)}",
                f"Decided by: {escaped(memo.decision.owner)}; on call: {escaped(memo.on_call)}; "
                f"risk: {memo.risk_class}",
                f"{ran} {memo.start} to {memo.end}; data to the end of {memo.as_of}",
            ]
        ),
        f"> {escaped(memo.hypothesis)}",
        escaped(memo.method_line),
        "## Result",
        *_result(memo),
        escaped(memo.integrity_summary),
        *_causes(memo),
        "## Guardrails",
    ]
    if memo.guardrails:
        out.append(
            _list(
                f"**{view.label}**: {escaped(view.title)} ({escaped(view.arm)}): {escaped(view.sentence)}"
                for view in memo.guardrails
            )
        )
    else:
        out.append("The brief names no guardrail, or none has data yet.")
    if memo.segments:
        out += ["## Who it helps", _table(memo.first_page["segments"])]
        out.append(_list(map(escaped, memo.segment_notes)))
    out.append("## Impact at full rollout")
    for row in memo.impact:
        out.append(" ".join([f"{escaped(row.sentence)}.", *map(escaped, row.details)]))
    assumed = list(dict.fromkeys(text for row in memo.impact for text in row.assumptions))
    if assumed:
        out += ["This assumes:", _list(map(escaped, assumed))]
    if not memo.impact:
        hidden = "Hidden with the effects."
        out.append(hidden if memo.blinding.hidden else "The brief has no value model, so no value is given.")
    out += ["## Limits", _list(map(escaped, memo.limits)) or "None was recorded."]
    out += ["## Next steps", _list(map(escaped, memo.next_steps)) or "None was recorded."]
    out += ["### What is watched", _list(map(escaped, memo.monitoring))]
    triggers = _list(map(escaped, memo.rollback_triggers)) or "The brief names no kill rule."
    out += ["### What takes it back", triggers]
    if memo.first_page["ramp"].rows:
        out += ["### Rollout stages", _table(memo.first_page["ramp"])]
    out.append("## Appendix for the engineer")
    if memo.method:
        out += ["### Method", _list(map(escaped, memo.method))]
    for section, tables in groupby(memo.appendix, lambda one: one.section):
        out.append(f"### {escaped(section)}")
        for table in tables:
            out += [f"#### {escaped(table.title)}", _table(table)]
    out.append(
        f"Counts and effects of fewer than {memo.minimum_cell} units in a group are not shown, nor those of "
        "groups from which they would follow."
    )
    return "\n\n".join(part for part in out if part) + "\n"


def summary_markdown(readout: Readout) -> str:
    """The memo in a few lines, under 900 characters, for the panel of a user interface."""
    memo = memo_document(readout)
    lines = [f"**{memo.decision.label}**: {_short(memo.decision.sentence, 180)}"]
    if memo.blinding.hidden:
        look = memo.blinding.next_look_sentence
        lines.append(f"- Effects hidden: {_short(memo.blinding.reason, 110)} {look}".rstrip())
    for effect in memo.primary:
        lines.append(f"- {_short(effect.arm, 30)}: {_short(effect.sentence, 140)}")
    for tone in ("bad", "warn", "calm", "good"):
        views = [view for view in memo.guardrails if view.tone == tone]
        for view in views if tone in ("bad", "warn") else []:
            words = _short(f"{view.title} ({view.arm}): {view.sentence}", 120)
            lines.append(f"- Guardrail {view.label.lower()}: {words}")
        if views and tone in ("calm", "good"):
            lines.append(f"- Guardrails {views[0].label.lower()}: {len(views)}")
    lines.append(f"- {_short(memo.integrity_summary, 150)}")
    lines.append(f"- Data to {memo.as_of}, snapshot {_short(memo.snapshot, 40)}")
    kept: list[str] = []
    for line in lines:
        if len("\n".join([*kept, line])) >= SUMMARY_LIMIT - 2:
            kept.append("\N{HORIZONTAL ELLIPSIS}")
            break
        kept.append(line)
    return "\n".join(kept)


def _tile(tile: Glance) -> str:
    detail = f" ({inline(tile.detail)})" if tile.detail else ""
    return f"{escaped(tile.title)}: **{inline(tile.text)}**{detail}"


def _causes(memo: MemoDocument) -> list[str]:
    found = [table for table in memo.appendix if table.key == "causes"]
    return ["### Where to look first", _table(found[0])] if found else []


def _result(memo: MemoDocument) -> list[str]:
    if memo.blinding.hidden:
        look = memo.blinding.next_look_sentence
        return [f"**Effects are hidden.** {escaped(memo.blinding.reason)} {look}".rstrip()]
    out = []
    if memo.blinding.unblinded_because:
        out.append(f"**Looked at before its time.** {escaped(memo.blinding.unblinded_because)}")
    several = len(memo.primary) > 1
    for effect in memo.primary:
        arm = f"**{escaped(effect.arm)}**: " if several else ""
        out.append(f"{arm}{escaped(effect.sentence)}.{'' if effect.confirmatory else ' (exploratory)'}")
    if not memo.primary:
        out.append(escaped(memo.headline))
    if "forest" in memo.figures:
        out.append(_table(memo.figures["forest"].table))
    if memo.secondary:
        out += ["### Secondary metrics", _table(memo.first_page["secondary"])]
    return out


def _table(table: Table) -> str:
    if not table.rows:
        return escaped(table.empty)
    lines = [
        "| " + " | ".join(inline(column.title) for column in table.columns) + " |",
        "|" + "|".join(" ---: " if column.numeric else " --- " for column in table.columns) + "|",
    ]
    for row in table.rows:
        lines.append("| " + " | ".join(inline(row[column.key].text) for column in table.columns) + " |")
    if table.note:
        lines += ["", escaped(table.note)]
    return "\n".join(lines)


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _short(text: str, limit: int) -> str:
    text = printed(text)
    if len(text) <= limit:
        return escaped(text)
    whole, space, _ = text[: limit - 1].rpartition(" ")
    return escaped((whole if space else text[: limit - 1]).rstrip(" ,;:(") + "\N{HORIZONTAL ELLIPSIS}")
