"""How a brief's stopping rule is called: by the statistics, and in words."""

from __future__ import annotations

from collections.abc import Mapping

from exp_pipeline.stats.looks.spending import Family

# Rules that spend alpha over planned looks; a rule that is not here holds at any look.
SPENDING: Mapping[str, Family] = {
    "obrien_fleming": "obrien-fleming",
    "pocock": "pocock",
    "kim_demets": "kim-demets",
}
STOPPING_NAMES: Mapping[str, str] = {
    "always_valid": "always-valid intervals",
    "obrien_fleming": "O'Brien-Fleming spending",
    "pocock": "Pocock spending",
    "kim_demets": "Kim-DeMets spending",
}
