"""The text of a page: everything that somebody woken at night needs first, short enough for a phone."""

from __future__ import annotations

from exp_pipeline.model.incidents import RULES, Change, Incident, Message, Transition

PAGE_LENGTH = 300

_HEADS: dict[Change, str] = {
    "opened": "",
    "worsened": " WORSE",
    "escalated": " AGAIN, NOBODY HAS IT",
    "acknowledged": " TAKEN",
    "resolved": "",
}
# What gives way first when a text is too long, and the least that stays of it (characters).
_SHORTEN = (
    ("evidence", 60),
    ("subject", 60),
    ("owner", 40),
    ("hurt", 20),
    ("action", 36),
    ("owner", 20),
    ("evidence", 20),
)


def page_text(incident: Incident, change: Change = "opened") -> str:
    """What broke, for whom, since when, how bad, what to do first, who owns it, and where to read on?

    One line of at most 300 characters. The runbook's path is always whole; where the text is too long, the
    evidence gives way first. A resolved incident asks for nothing.
    """
    resolved = incident.status == "resolved"
    head = "RESOLVED" if resolved else f"{incident.severity.upper()}{_HEADS[change]}"
    parts = {
        "subject": one_line(incident.subject),
        "evidence": one_line(incident.evidence),
        "hurt": one_line(incident.hurt),
        "action": one_line(incident.first_action),
        "owner": one_line(incident.owner),
    }

    def text() -> str:
        days = f"Since {incident.since.isoformat()}"
        if resolved:
            known = (
                f"{days}, over on {incident.resolved_at:%Y-%m-%d}" if incident.resolved_at else days
            ) + "."
            asked = ""
        else:
            known = f"{days}. Hurts {parts['hurt']}."
            asked = f" First: {parts['action']}."
        title = f"{head} {RULES[incident.rule].title}: {parts['subject']}."
        return f"{title} {parts['evidence']}. {known}{asked} Owner {parts['owner']}. {incident.runbook}"

    for name, least in _SHORTEN:
        excess = len(text()) - PAGE_LENGTH
        if excess <= 0:
            break
        parts[name] = shortened(parts[name], max(least, len(parts[name]) - excess))
    return text()


def head_of(message: Message) -> str:
    """The subject line of a mail, or the first line of a chat message: how urgent, what, where."""
    urgency = "RESOLVED" if message.change == "resolved" else message.severity.upper()
    return f"{urgency} {RULES[message.rule].title}: {one_line(message.subject)}"


def message_of(transition: Transition) -> Message:
    """What leaves for the channels when an incident changes?"""
    incident = transition.incident
    return Message(
        key=transition.key,
        incident=incident.id,
        change=transition.change,
        severity=incident.severity,
        rule=incident.rule,
        subject=incident.subject,
        experiment=incident.experiment,
        owner=incident.owner,
        at=transition.at,
        runbook=incident.runbook,
        text=page_text(incident, transition.change),
        escalations=incident.escalations,
    )


def one_line(text: str) -> str:
    """The text as one printable line without its last full stop, so that it cannot forge a second line."""
    printable = "".join(sign if sign.isprintable() else " " for sign in text)
    return " ".join(printable.split()).rstrip(".")


def shortened(text: str, length: int) -> str:
    """The first signs of a text, at most `length`, with an ellipsis where something is missing."""
    return text if len(text) <= length else text[: max(length - 1, 0)].rstrip() + "…"
