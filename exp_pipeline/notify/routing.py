"""Which channels there are, and which messages each takes: read from the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from exp_pipeline.model.incidents import Message
from exp_pipeline.notify.apprise_channel import AppriseChannel
from exp_pipeline.notify.channels import Channel, FileChannel, Takes, everything

ALL, PAGES, ESCALATED = "EXP_NOTIFY_URLS", "EXP_NOTIFY_PAGE_URLS", "EXP_NOTIFY_ESCALATION_URLS"
_OWNER = re.compile(r"EXP_NOTIFY_OWNER_([A-Z0-9_]+)_URLS")
VARIABLES = (ALL, PAGES, ESCALATED, "EXP_NOTIFY_OWNER_<TEAM>_URLS")


def channels_from(environment: Mapping[str, str], file: Path) -> tuple[Channel, ...]:
    """The file that is always there, and every address that the environment names, each once.

    Addresses are those of Apprise, several parted by white space. EXP_NOTIFY_URLS takes every message;
    EXP_NOTIFY_PAGE_URLS pages and what becomes of them; EXP_NOTIFY_ESCALATION_URLS pages that nobody took;
    EXP_NOTIFY_OWNER_TUTOR_PLATFORM_URLS what the team `tutor-platform` owns. An address in several variables
    takes what any of them lets through.
    """
    wanted: dict[str, list[Takes]] = {}
    for variable in sorted(environment):
        takes = _takes_of(variable)
        if takes is not None:
            for url in environment[variable].split():
                wanted.setdefault(url, []).append(takes)
    addressed = (AppriseChannel(url, _any_of(takes)) for url, takes in wanted.items())
    return (FileChannel(file), *addressed)


def unknown_variables(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Variables that look as if they named channels, and that nothing reads: mostly misspelt ones."""
    return tuple(
        name for name in sorted(environment) if name.startswith("EXP_NOTIFY_") and _takes_of(name) is None
    )


def _takes_of(variable: str) -> Takes | None:
    owner = _OWNER.fullmatch(variable)
    if owner is not None:
        team = owner.group(1)
        return lambda message: re.sub(r"[^A-Z0-9]", "_", message.owner.upper()) == team
    return {ALL: everything, PAGES: _is_page, ESCALATED: _is_escalated}.get(variable)


def _is_page(message: Message) -> bool:
    return message.severity == "page"


def _is_escalated(message: Message) -> bool:
    return message.escalations > 0


def _any_of(rules: list[Takes]) -> Takes:
    return lambda message: any(takes(message) for takes in rules)
