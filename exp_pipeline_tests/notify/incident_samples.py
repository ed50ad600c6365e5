"""Findings and incidents for the tests of messages and incidents."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from exp_pipeline.model.incidents import Finding, Incident
from exp_pipeline.notify.transitions import Track, after_finding

NOON = datetime(2026, 3, 6, 12, tzinfo=UTC)
FIRST_DAY = date(2026, 3, 5)


def finding(verdict: str = "fail", *, day: int = 0, **fields: Any) -> Finding:
    """A finding on `day` days after the first; an SRM of one experiment unless told otherwise."""
    known: dict[str, Any] = {
        "rule": "srm",
        "subject": "hint-ladder",
        "day": FIRST_DAY + timedelta(days=day),
        "verdict": verdict,
        "evidence": "p 1.2e-09 (below 0.001): arms 52.0/48.0 %, planned 50.0/50.0 %, 10,000 units",
        "number": 1.2e-9,
        "threshold": 0.001,
        "badness": 5.9 if verdict in ("warn", "fail") else 0.0,
        "owner": "learning-platform@example.org",
        "experiment": "hint-ladder",
    }
    return Finding.model_validate(known | fields)


def incident(**fields: Any) -> Incident:
    """The incident that one finding opens."""
    change = after_finding(Track(), finding(**fields), NOON)[1]
    assert change is not None
    return change.incident
