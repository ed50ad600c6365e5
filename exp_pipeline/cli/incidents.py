"""`incidents`: what is broken, for whom, since when; taking it on, silencing it, asking what happened."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exp_pipeline.cli.terminal import AsJson, HomeDir, home_of, print_json, say, show_table
from exp_pipeline.model.errors import ExpError

if TYPE_CHECKING:
    from exp_pipeline.model.incidents import Incident, RuleName
    from exp_pipeline.notify.channels import Channel
    from exp_pipeline.store.home import Home
    from exp_pipeline.store.state import StateLog

app = typer.Typer(
    no_args_is_help=False,
    add_completion=False,
    help="What is broken: list incidents, explain one, take it on, silence it, send what waits.",
)

Which = Annotated[
    str, typer.Argument(metavar="ID", help="The incident's id as listed, or its first characters.")
]
By = Annotated[str, typer.Option("--by", metavar="TEAM", help="Who does this: a team or an on-call name.")]
_FOR = re.compile(r"(\d{1,4})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
LONGEST_SILENCE = timedelta(days=30)


@app.callback(invoke_without_command=True)
def root(context: typer.Context, home: HomeDir = None, as_json: AsJson = False) -> None:
    """What is broken: list incidents, explain one, take it on, silence it, send what waits."""
    if context.invoked_subcommand is None:
        list_incidents(home=home, as_json=as_json)


@app.command("list")
def list_incidents(
    everything: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    experiment: Annotated[
        str | None, typer.Option("--experiment", metavar="NAME", help="Of one experiment only.")
    ] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """List what is open, worst first, and how the channels do."""
    from exp_pipeline.steps.operating.delivery import channel_health
    from exp_pipeline.steps.operating.incidents import incidents, open_incidents, silences

    place = home_of(home)
    state, now = _log(place), datetime.now(UTC)
    found = list(open_incidents(state, experiment=experiment))
    if everything:
        over = [one for one in incidents(state) if one.status == "resolved"]
        found += [one for one in reversed(over) if experiment in (None, one.experiment)]
    quiet = silences(state, now)
    health = channel_health(state, _channels(place), now)
    if as_json:
        print_json(
            {
                "incidents": [one.model_dump(mode="json") for one in found],
                "silences": [
                    {"rule": rule, "subject": subject, "until": until.isoformat()}
                    for (rule, subject), until in quiet.items()
                ],
                "channels": [
                    {"channel": one.channel, "delivered": one.delivered, "waiting": one.waiting}
                    | ({"last_error": one.last_error} if one.last_error else {})
                    for one in health
                ],
            }
        )
        return
    if found:
        show_table(
            ("id", "", "what", "subject", "since", "state", "owner"),
            [
                (
                    one.id[:8],
                    one.severity,
                    one.rule,
                    one.subject,
                    one.since,
                    _state_of(one, quiet.get((one.rule, one.subject))),
                    one.owner,
                )
                for one in found
            ],
        )
        say("\nMore on one: exp incidents explain ID")
    else:
        say("Nothing is open." if not everything else "There has been no incident.")
    for one in health:
        if one.waiting:
            why = f", last answer: {one.last_error}" if one.last_error else ""
            since = f" since {one.failing_since:%Y-%m-%d %H:%M}" if one.failing_since else ""
            say(f"\nChannel {one.channel} has not taken {one.waiting} messages{since}{why}")


@app.command()
def explain(which: Which, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Tell all of one incident: what was seen, when it changed, who heard of it, what to do first."""
    from exp_pipeline.steps.operating.delivery import OUTBOX
    from exp_pipeline.steps.operating.incidents import changes

    state = _log(home_of(home))
    incident = _incident(state, which)
    history = [change for change in changes(state) if change.incident.id == incident.id]
    keys = {change.key for change in history}
    heard = [entry for entry in state.entries(OUTBOX.delivered) if entry.subject in keys]
    if as_json:
        print_json(
            {
                "incident": incident.model_dump(mode="json"),
                "history": [change.model_dump(mode="json") for change in history],
                "delivered": [{"at": one.at, "message": one.subject, **one.content} for one in heard],
            }
        )
        return
    from exp_pipeline.model.incidents import RULES

    say(f"{incident.severity.upper()} {RULES[incident.rule].title}: {incident.subject}")
    say(f"  {incident.evidence}")
    say(f"  Since {incident.since}, newest failing day {incident.last_day}; hurts {incident.hurt}.")
    taken = f", taken by {incident.acknowledged_by}" if incident.acknowledged_by else ""
    say(f"  It is {incident.status}{taken}. Owner: {incident.owner}.")
    if incident.status != "resolved":
        say(f"  First: {incident.first_action}.")
    say(f"  Runbook: {incident.runbook}\n")
    for change in history:
        told = sorted({str(one.content["channel"]) for one in heard if one.subject == change.key})
        silent = "nobody was told" if not change.notify else "not sent yet"
        sent = f"told by {', '.join(told)}" if told else silent
        say(f"  {change.at:%Y-%m-%d %H:%M}  {change.change:<13}{sent}")


@app.command()
def ack(which: Which, by: By, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Take an incident on: it is not told again unless it gets worse."""
    from exp_pipeline.steps.operating.incidents import acknowledge

    state = _log(home_of(home))
    incident = _incident(state, which)
    taken = acknowledge(state, incident.rule, incident.subject, who=_named(by), now=datetime.now(UTC))
    if as_json:
        print_json(taken.model_dump(mode="json"))
    else:
        say(f"{taken.rule} on {taken.subject} is taken by {taken.acknowledged_by}.")


@app.command()
def silence(
    rule: Annotated[str, typer.Argument(help="The rule, or an incident's id.")],
    subject: Annotated[
        str | None, typer.Argument(help="What it is about, as listed. Not needed with an id.")
    ] = None,
    duration: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long: 30m, 8h, 2d; at most 30d. 0m ends it.")
    ] = "8h",
    by: By = "",
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why: the log keeps it.")] = "",
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Send no messages of failures for a while; the incident goes on being followed."""
    from exp_pipeline.steps.operating.incidents import silence as quieten

    state, now = _log(home_of(home)), datetime.now(UTC)
    name, about = _rule_and_subject(state, rule, subject)
    until = now + _length(duration)
    quieten(state, name, about, until=until, who=_named(by), reason=reason, now=now)
    if as_json:
        print_json({"rule": name, "subject": about, "until": until.isoformat(), "reason": reason})
    else:
        say(f"{name} on {about} is silent until {until:%Y-%m-%d %H:%M} UTC.")


@app.command()
def send(home: HomeDir = None, as_json: AsJson = False) -> None:
    """Send now what waits, and say again what nobody took in time. The daemon does this every half minute."""
    from exp_pipeline.steps.opening import open_catalog
    from exp_pipeline.steps.operating.watch import tell

    place = home_of(home)
    policy = open_catalog(place.catalog).policies.incidents
    done = tell(_log(place), _channels(place), policy, datetime.now(UTC))
    if as_json:
        print_json(done)
    else:
        say(", ".join(f"{count} {name}" for name, count in done.items()))


@app.command("test")
def try_channels(home: HomeDir = None, as_json: AsJson = False) -> None:
    """Send a test message to every channel that the environment names; nothing is recorded."""
    from exp_pipeline.model.incidents import Message
    from exp_pipeline.notify.channels import ChannelError
    from exp_pipeline.notify.routing import VARIABLES

    place, now = home_of(home), datetime.now(UTC)
    named = [one for one in _channels(place) if one.name != "file"]
    if not named:
        raise ExpError(f"no channel is named: set {VARIABLES[0]} (others: {', '.join(VARIABLES[1:])})")
    message = Message(
        key=f"test:{now.isoformat()}",
        incident="test",
        change="resolved",
        severity="warn",
        rule="freshness",
        subject="test",
        experiment=None,
        owner="nobody",
        at=now,
        runbook="docs/runbooks/freshness.md",
        text="This is a test of the channel. Nothing is broken, nothing is to be done.",
    )
    answers = {}
    for channel in named:
        try:
            channel.send(message)
            answers[channel.name] = "taken"
        except ChannelError as error:
            answers[channel.name] = str(error)
    if as_json:
        print_json(answers)
    else:
        for name, answer in answers.items():
            say(f"{name}: {answer}")
    if any(answer != "taken" for answer in answers.values()):
        raise typer.Exit(1)


def _log(home: Home) -> StateLog:
    from exp_pipeline.store.state import state_log

    return state_log(home)


def _channels(home: Home) -> tuple[Channel, ...]:
    from exp_pipeline.notify.routing import channels_from

    return channels_from(os.environ, home.notifications)


def _state_of(incident: Incident, quiet: datetime | None) -> str:
    told: str = incident.status
    if incident.acknowledged_by:
        told = f"taken by {incident.acknowledged_by}"
    return f"{told}, silent until {quiet:%m-%d %H:%M}" if quiet else told


def _incident(state: StateLog, which: str) -> Incident:
    """The one incident whose id starts so. Raises ExpError where there is none, or more than one."""
    from exp_pipeline.steps.operating.incidents import incidents

    found = [one for one in incidents(state) if one.id.startswith(which)]
    if len(found) != 1:
        count = "no incident" if not found else f"{len(found)} incidents"
        raise ExpError(f"{count} with an id that starts with {which!r}: see `exp incidents list --all`")
    return found[0]


def _rule_and_subject(state: StateLog, rule: str, subject: str | None) -> tuple[RuleName, str]:
    from exp_pipeline.model.incidents import RULES

    if subject is None:
        incident = _incident(state, rule)
        return incident.rule, incident.subject
    for name in RULES:
        if name == rule:
            return name, subject
    raise ExpError(f"rule {rule!r} is unknown; allowed: {', '.join(RULES)}")


def _length(text: str) -> timedelta:
    match = _FOR.fullmatch(text.strip())
    length: Any = timedelta(**{_UNITS[match.group(2)]: int(match.group(1))}) if match else None
    if length is None or length > LONGEST_SILENCE:
        raise ExpError(f"--for {text!r}: give a number and m, h or d, at most 30d (30m, 8h, 2d)")
    return timedelta(seconds=length.total_seconds())


def _named(by: str) -> str:
    name = " ".join(by.split())
    if not name:
        raise ExpError("--by is empty: say which team does this")
    return name
