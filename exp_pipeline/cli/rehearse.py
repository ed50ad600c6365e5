"""`rehearse`: an experiment's whole life over simulated schools, before a student meets it."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from exp_pipeline.cli.terminal import DAY, AsJson, HomeDir, home_of, print_json, say

if TYPE_CHECKING:
    from exp_pipeline.steps.operating.rehearsal_told import Rehearsal, RehearsedDay


def rehearse(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The experiment's name.")],
    scenario: Annotated[
        Literal["well", "harm", "mismatch", "outage", "nothing"],
        typer.Option(
            "--scenario",
            help="well: the arms help. harm: they help, and one breaks a guardrail from a day on. mismatch: "
            "a platform stops logging one arm. outage: an event stops for two days. nothing: no effect.",
        ),
    ] = "well",
    days: Annotated[
        int | None,
        typer.Option("--days", metavar="N", help="Days of the term, at most 60. Default: the brief's own."),
    ] = None,
    learners: Annotated[
        int | None,
        typer.Option(
            "--learners", metavar="N", help="Simulated learners, 60 to 2000. Default: as the brief expects."
        ),
    ] = None,
    incident: Annotated[
        datetime | None,
        typer.Option(
            "--incident", formats=DAY, metavar="DAY", help="First day of the scenario's incident, YYYY-MM-DD."
        ),
    ] = None,
    approve: Annotated[
        Literal["granted", "none"],
        typer.Option("--approve", help="Whether people's approvals are taken for granted, or left waiting."),
    ] = "granted",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed, other learners.")] = 1,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="DIR", help="Keep the rehearsal's home in this new folder."),
    ] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Rehearse an experiment: a synthetic term with its ramp, days, an incident and the readout.

    The brief is taken as it stands. Nothing of your data folder is touched: everything happens in a folder of
    its own, which is removed again unless --keep names one.
    """
    from exp_pipeline.steps.opening import open_catalog
    from exp_pipeline.steps.operating.rehearsal import rehearse as live

    place = home_of(home)
    catalog = open_catalog(place.catalog)
    brief = catalog.briefs.get(name)
    timeline = _Timeline("classes" if brief is not None and brief.randomisation_unit == "class" else "units")
    with _scratch(keep) as folder, _quiet():
        if not as_json:
            say(f"Rehearsing {name}, scenario {scenario}. Each day is told by the morning after it.\n")
        found = live(
            place,
            catalog,
            name,
            folder,
            scenario=scenario,
            days=days,
            learners=learners,
            incident_day=incident.date() if incident is not None else None,
            approvals=approve,
            seed=seed,
            on=(lambda day: None) if as_json else timeline.tell,
        )
    if as_json:
        kept = {} if keep is not None else {"home": None, "memo": None}
        print_json(found.model_dump(mode="json") | kept)
    else:
        _tell(found, keep)


@contextmanager
def _scratch(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="exp-rehearsal-") as folder:
        yield Path(folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep rehearsed pages out of the log of real ones: they stand in the timeline."""
    log = logging.getLogger("exp_pipeline.notify")
    before = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = before


class _Timeline:
    """The days as they are lived; one on which nothing is new takes a single line."""

    def __init__(self, units: str) -> None:
        self._units = units
        self._before: RehearsedDay | None = None

    def tell(self, day: RehearsedDay) -> None:
        before, self._before = self._before, day
        arms = ", ".join(f"{arm} {count:,}" for arm, count in day.units.items())
        arms += "" if day.srm_p_value is None else f"  (SRM p {day.srm_p_value:.2g})"
        if before is not None and _quiet_day(before, day):
            say(f"{day.day:%a %Y-%m-%d}  nothing new; {self._units}: {arms}")
            return
        ramp = f"{day.status.replace('_', ' ')}, stage {day.stage}, {100 * day.traffic:g} % of units"
        say(f"{day.day:%a %Y-%m-%d}  then {ramp}, flags version {day.flag_version}")
        say(f"  {self._units:<9} {arms}")
        for verdict in day.verdicts:
            say(f"  verdict   {verdict}")
        for message in day.messages:
            say(f"  message   {message.text}")
        for note in day.notes:
            say(f"  people    {note}")
        say(f"  ramp      {day.verb.replace('_', ' ')}: {'; '.join(day.reasons)}")
        if day.look:
            say(f"  readout   {day.look}")


def _quiet_day(before: RehearsedDay, day: RehearsedDay) -> bool:
    """Whether a day brought nothing but units."""
    new = day.messages or day.notes or day.look or day.verb != "hold"
    same = ("status", "stage", "traffic", "flag_version", "verdicts", "reasons")
    return not new and all(getattr(before, name) == getattr(day, name) for name in same)


def _tell(found: Rehearsal, keep: Path | None) -> None:
    say(f"\nPlanted: {found.planted}.")
    say(f"Decision: {found.outcome.replace('_', ' ')}. {found.summary}")
    for arm in found.arms:
        because = "" if arm.because == found.summary else f" {arm.because}"
        say(f"  {arm.arm}: {arm.outcome.replace('_', ' ')}.{because} (Planted: {arm.planted}.)")
    met = "as it should be" if found.as_planted else "NOT as it should be"
    say(f"Against the truth: {met}: {found.against}.")
    say(f"Pages: {found.pages}.")
    for title, lines in (
        (f"What the brief lacks for {found.learners:,} such learners (let pass here):", found.gaps),
        ("What the units a day that the brief expects mean for its ramp:", found.findings),
        ("Where the rehearsal is not the brief as it stands:", found.changes),
    ):
        if lines:
            say(f"\n{title}")
            for line in lines:
                say(f"  - {line}")
    where = (
        f"Memo: {found.memo}" if keep is not None else "The memo was not kept: --keep DIR keeps everything."
    )
    say(f"\n{where}")
    say(f"{found.learners:,} learners, {(found.end - found.start).days} days, {found.seconds:g} s.")
