"""`ramp`: where ramps stand and what people do to them; `life`: where an experiment is in its life."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exp_pipeline.cli.terminal import AsJson, HomeDir, home_of, print_json, say, show_table
from exp_pipeline.model.errors import ExpError

if TYPE_CHECKING:
    from exp_pipeline.model.ramps import RampEntry
    from exp_pipeline.steps.context import Workbench
    from exp_pipeline.steps.operating.ramp_round import Sent
    from exp_pipeline.steps.operating.ramps import Judged
    from exp_pipeline.store.home import Home

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Ramps: where they stand and why, approving a stage, pausing, resuming, rolling back, shipping.",
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The experiment's name.")]
SomeName = Annotated[str | None, typer.Argument(metavar="[NAME]", help="One experiment. Default: all.")]
By = Annotated[str, typer.Option("--by", metavar="TEAM", help="Who does this: a team or an on-call name.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; the log keeps it.")]


@app.command("status")
def status(name: SomeName = None, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Tell where ramps stand, what the next tick would do and every reason; changes nothing."""
    from exp_pipeline.steps.operating.ramps import judge, ramped_briefs

    place, now = home_of(home), datetime.now(UTC)
    with _bench(place) as bench:
        briefs = [one for one in ramped_briefs(bench) if name in (None, one.name)]
        if name is not None and not briefs:
            _no_ramp(bench, name)
        found = [judge(bench, one, now) for one in briefs]
    flags = _flags(place)
    if as_json:
        print_json({"ramps": [_plain(one) for one in found], "flags": flags})
        return
    if not found:
        say("No brief has a ramp: arms are hashed by no scheme, or there are no briefs.")
    for one in found:
        state = one.state
        say(f"{one.experiment}  {_where(one)}")
        say(f"  next tick: {one.decision.verb.replace('_', ' ')}")
        for reason in one.decision.reasons:
            say(f"    - {reason}")
        if state.sequence == 0 and one.facts.gaps is None:
            say("    - readiness was not judged yet: `exp plan` or the start's tick does it")
    say()
    say(_flags_line(flags))


@app.command("history")
def history(name: Name, home: HomeDir = None, as_json: AsJson = False) -> None:
    """List every transition and approval of an experiment, oldest first."""
    from exp_pipeline.steps.operating.ramp_log import approvals_of, entries_of
    from exp_pipeline.store.state import state_log

    place = home_of(home)
    with _bench(place) as bench:
        brief = _brief(bench, name)
        log = state_log(place)
        entries, approvals = entries_of(log, brief), approvals_of(log, brief)
    if as_json:
        print_json(
            {
                "transitions": [one.model_dump(mode="json") for one in entries],
                "approvals": [one.model_dump(mode="json") for one in approvals],
            }
        )
        return
    rows = [(one.at, _row(one)) for one in entries]
    for one in approvals:
        what = "approve A/A" if one.stage == 0 else f"approve {one.phase} {one.stage}"
        rows.append((one.at, (f"{one.at:%Y-%m-%d %H:%M}", "", what, "", "", one.by, one.reason)))
    if not rows:
        say(f"Nothing has happened to the ramp of {name} yet.")
        return
    rows.sort(key=lambda pair: pair[0])
    show_table(("when (UTC)", "no.", "what", "stage", "traffic", "by", "because"), [row for _, row in rows])


@app.command("approve")
def approve(
    name: Name,
    by: By,
    reason: Reason,
    stage: Annotated[
        int | None, typer.Option("--stage", min=1, metavar="N", help="The stage that may be entered.")
    ] = None,
    aa: Annotated[bool, typer.Option("--aa", help="The A/A result is good (where logging is new).")] = False,
    rollout: Annotated[bool, typer.Option("--rollout", help="A stage of the rollout, not the ramp.")] = False,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Let an experiment enter a stage; the tick does so once everything else holds too."""
    from exp_pipeline.steps.operating import ramps

    if aa == (stage is not None) or (aa and rollout):
        raise ExpError("give either --stage N (with --rollout, if it is one of the rollout) or --aa")
    now, number = datetime.now(UTC), 0 if stage is None else stage
    with _bench(home_of(home)) as bench:
        new = ramps.approve(
            bench,
            name,
            stage=number,
            by=by,
            reason=reason,
            now=now,
            phase="rollout" if rollout else "ramp",
        )
    if as_json:
        print_json({"experiment": name, "stage": number, "new": new})
        return
    what = "Its A/A result" if aa else f"Stage {number} of the {'rollout' if rollout else 'ramp'}"
    say(f"{what} is approved by {by}." if new else f"{what} had been approved by {by} before.")


@app.command("pause")
def pause(name: Name, by: By, reason: Reason, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Give everybody control's experience until somebody resumes; publishes at once."""
    from exp_pipeline.steps.operating import ramps

    _act(home_of(home), as_json, lambda bench, now: ramps.pause(bench, name, by=by, reason=reason, now=now))


@app.command("resume")
def resume(name: Name, by: By, reason: Reason, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Go on at the stage that it was paused at, everybody in their arm; publishes at once."""
    from exp_pipeline.steps.operating import ramps

    _act(home_of(home), as_json, lambda bench, now: ramps.resume(bench, name, by=by, reason=reason, now=now))


@app.command("roll-back")
def roll_back(name: Name, by: By, reason: Reason, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Give everybody control's experience for good; publishes at once."""
    from exp_pipeline.steps.operating import ramps

    _act(
        home_of(home), as_json, lambda bench, now: ramps.roll_back(bench, name, by=by, reason=reason, now=now)
    )


@app.command("ship")
def ship(
    name: Name,
    arm: Annotated[str, typer.Option("--arm", metavar="ARM", help="The arm that everybody shall get.")],
    by: By,
    reason: Reason,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Begin the rollout of an arm after a decision to ship; publishes at once."""
    from exp_pipeline.steps.operating import ramps

    _act(
        home_of(home),
        as_json,
        lambda bench, now: ramps.ship(bench, name, arm=arm, by=by, reason=reason, now=now),
    )


@app.command("close")
def close(name: Name, by: By, reason: Reason, home: HomeDir = None, as_json: AsJson = False) -> None:
    """End an experiment for good; a shipped arm stays where it is. Publishes at once."""
    from exp_pipeline.steps.operating import ramps

    _act(home_of(home), as_json, lambda bench, now: ramps.close(bench, name, by=by, reason=reason, now=now))


@app.command("tick")
def tick(home: HomeDir = None, as_json: AsJson = False) -> None:
    """Do what the hourly schedule does, now: judge every ramp, write, publish, send."""
    from exp_pipeline.steps.operating import ramps

    place, now = home_of(home), datetime.now(UTC)
    with _bench(place) as bench:
        found = ramps.tick(bench, now)
        sent = _send(bench, now)
    if as_json:
        print_json({"ramps": [_plain(one) for one in found], "flags": _flags(place), "sent": _sent(sent)})
        return
    for one in found:
        mark = "" if one.written is None else " (written)"
        say(f"{one.experiment}: {one.decision.verb.replace('_', ' ')}{mark}")
        for reason in one.decision.reasons:
            say(f"  - {reason}")
    say(_flags_line(_flags(place)))


def life(name: SomeName = None, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Tell where an experiment is in its life, since when, and what comes next."""
    from exp_pipeline.steps.operating.life import life as life_now

    now = datetime.now(UTC)
    with _bench(home_of(home)) as bench:
        if name is not None:
            _brief(bench, name)
        briefs = [one for _, one in sorted(bench.catalog.briefs.items()) if name in (None, one.name)]
        lives = {one.name: life_now(bench, one, now) for one in briefs}
    if as_json:
        print_json([{"experiment": key, **asdict(found)} for key, found in lives.items()])
        return
    if name is None:
        rows = []
        for key, found in lives.items():
            coming = found.next
            after = "" if coming is None else f"{coming.at:%Y-%m-%d %H:%M} {coming.what}"
            rows.append((key, found.now.label, _since(found.now.since), after))
        show_table(("experiment", "state", "since (UTC)", "next"), rows)
        return
    found = lives[name]
    say(f"{name}: {found.now.label}" + (f" (since {_since(found.now.since)})" if found.now.since else ""))
    show_table(
        ("since (UTC)", "state", "because"),
        [(_since(step.since), step.label, step.because) for step in found.steps],
    )
    if found.coming:
        say()
        show_table(
            ("when (UTC)", "to come", ""),
            [
                (f"{one.at:%Y-%m-%d %H:%M}", one.what, "" if one.by_itself else "once people have acted")
                for one in found.coming
            ],
        )


def _act(place: Home, as_json: bool, change: Callable[[Workbench, datetime], RampEntry]) -> None:
    """Let a person's transition be written, published and sent, and tell of it."""
    now = datetime.now(UTC)
    with _bench(place) as bench:
        entry = change(bench, now)
        sent = _send(bench, now)
    flags = _flags(place)
    if as_json:
        print_json({"transition": entry.model_dump(mode="json"), "flags": flags, "sent": _sent(sent)})
        return
    done = {"roll_back": "rolled back", "ship": "shipping", "close": "closed"}
    what = done.get(entry.action, f"{entry.action}d")
    say(f"{entry.experiment} is {what} (transition {entry.sequence}).")
    say(_flags_line(flags))


def _bench(place: Home) -> Any:
    from exp_pipeline.cli.runs import open_bench

    return open_bench(place)


def _send(bench: Workbench, now: datetime) -> Sent:
    from exp_pipeline.steps.operating.ramp_round import send_flags

    return send_flags(bench, now, os.environ)


def _sent(sent: Sent) -> dict[str, object]:
    return {
        "messages": sent.messages,
        "webhook": None if sent.receiver is None else {"name": sent.receiver, **asdict(sent.delivery)},
        "made": sent.published.made,
    }


def _flags(place: Home) -> dict[str, object]:
    from exp_pipeline.notify.webhook import webhook_from
    from exp_pipeline.steps.operating.flag_delivery import pending_versions
    from exp_pipeline.steps.operating.flags import FLAGD_FILE, file_version, newest
    from exp_pipeline.store.state import state_log

    log = state_log(place)
    last = newest(log)
    receiver = webhook_from(os.environ)
    return {
        "version": None if last is None else last.version,
        "published_at": None if last is None else last.published_at.isoformat(),
        "file": str(place.flags / FLAGD_FILE),
        "file_version": file_version(place),
        "webhook": None if receiver is None else receiver.name,
        "webhook_waiting": 0 if receiver is None else len(pending_versions(log, receiver)),
    }


def _flags_line(flags: dict[str, object]) -> str:
    if flags["version"] is None:
        return "Flags: nothing is published; no ramp has begun."
    behind = "" if flags["version"] == flags["file_version"] else f", its file at {flags['file_version']}"
    waiting = f"; {flags['webhook_waiting']} wait for the webhook" if flags["webhook_waiting"] else ""
    return f"Flags: version {flags['version']} of {flags['published_at']}{behind}, {flags['file']}{waiting}"


def _brief(bench: Workbench, name: str) -> Any:
    from exp_pipeline.cli.runs import brief_named

    return brief_named(bench.catalog, name)


def _no_ramp(bench: Workbench, name: str) -> None:
    brief = _brief(bench, name)
    why = (
        "it is over a unit table"
        if brief.table is not None
        else f"assignment {brief.assignment}, hash_scheme {brief.hash_scheme}"
    )
    raise ExpError(f"{name} has no ramp: no flag can carry its arms ({why})")


def _where(one: Judged) -> str:
    state = one.state
    if state.status == "not_started":
        return "not started"
    name = "rollout" if state.phase == "rollout" else "stage"
    told = f"{name} {state.stage}, {100 * state.traffic:g} % of units"
    return told if state.status == "on" else f"{state.status.replace('_', ' ')} at {told}"


def _row(entry: RampEntry) -> tuple[str, ...]:
    return (
        f"{entry.at:%Y-%m-%d %H:%M}",
        str(entry.sequence),
        entry.action.replace("_", " ") + (f" {entry.arm}" if entry.action == "ship" else ""),
        f"{entry.phase} {entry.stage} of {entry.stages}",
        f"{100 * entry.traffic:g} %",
        entry.by,
        "; ".join(entry.reasons),
    )


def _plain(one: Judged) -> dict[str, object]:
    return {
        "experiment": one.experiment,
        "version": one.version,
        "state": asdict(one.state),
        "decision": asdict(one.decision),
        "newest_day": one.facts.newest_day,
        "units": one.facts.units,
        "written": None if one.written is None else one.written.sequence,
    }


def _since(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M}"
