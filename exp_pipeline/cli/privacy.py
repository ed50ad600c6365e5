"""Privacy: `erase` takes a person out of everything, `keys` turns keys, `debug` reads the sample of texts."""

from __future__ import annotations

import getpass
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from exp_pipeline.cli.runs import open_bench
from exp_pipeline.cli.terminal import (
    DAY,
    AsJson,
    ExplainedGroup,
    HomeDir,
    home_of,
    print_json,
    say,
    show_table,
)
from exp_pipeline.model.errors import ExpError

keys = typer.Typer(
    name="keys",
    cls=ExplainedGroup,
    invoke_without_command=True,
    help="Show the identity keys this data folder has met; link people while two keys are set.",
)

debug = typer.Typer(
    name="debug",
    cls=ExplainedGroup,
    no_args_is_help=True,
    help="The debug envelope: a redacted sample of raw texts, kept for some days outside the data folder.",
)


def _people(learner: str, pseudonyms: list[str]) -> list[str]:
    """The people asked for: from options, else from stdin, else from a prompt that shows nothing."""
    from exp_pipeline.transform.identity import PSEUDONYM

    for one in pseudonyms:
        if not PSEUDONYM.fullmatch(one):
            raise ValueError("--pseudonym takes 32 hex digits, as in the column learner_id")
    if pseudonyms:
        return pseudonyms
    if learner != "-":
        return [learner]
    if sys.stdin.isatty():
        return [typer.prompt("Learner id as in the events (not shown)", hide_input=True)]
    return [line.strip() for line in sys.stdin if line.strip()]


def erase(
    learner: Annotated[
        str,
        typer.Option(
            "--learner",
            metavar="ID",
            help="The id as in the events. Default: one a line from stdin, else a prompt, so that no shell "
            "history keeps it.",
        ),
    ] = "-",
    pseudonym: Annotated[
        list[str] | None,
        typer.Option("--pseudonym", metavar="HEX", help="A pseudonym (learner_id in the tables) instead."),
    ] = None,
    by: Annotated[
        str, typer.Option("--by", metavar="NAME", help="Who asks; kept in the receipt. Default: you.")
    ] = "",
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Erase a person: rows leave every table and do not come back; a receipt without identity stays."""
    import duckdb

    from exp_pipeline.steps.people.erasure import erase as erase_person

    people = _people(learner, pseudonym or [])
    if not people:
        raise ValueError("name the person to erase: stdin was empty")
    done = []
    with open_bench(home_of(home)) as bench:
        for person in people:
            done.append(
                erase_person(
                    bench, [person], by or getpass.getuser(), at=datetime.now(UTC), connect=duckdb.connect
                )
            )
    if as_json:
        print_json([asdict(one) for one in done])
        return
    for one in done:
        if not one.new:
            say(f"Erased already on {one.at} (receipt {one.erasure}); nothing was left to do.")
            continue
        say(
            f"Receipt {one.erasure}: " + (_counted(one.rows) or "no row was found; a tombstone is kept") + "."
        )
        if one.days:
            say(f"  days settled again: {', '.join(one.days)}")
        if one.snapshots:
            say(f"  snapshots removed: {', '.join(one.snapshots)}")
        if one.remade:
            say(f"  read out again: {', '.join(one.remade)}")
        for name, why in one.not_remade.items():
            say(f"  not read out again: {name}: {why}")
        if one.landing_files:
            say("  these landing files still hold the id; their rows are refused as `erased` from now on:")
            for name, rows in sorted(one.landing_files.items()):
                say(f"    {name} ({rows} rows)")
    if os.environ.get("EXP_LAKE_MIRROR", "").strip() and any(one.new for one in done):
        say("The mirror in the object store follows with its next push: `exp mirror push` does it now.")


def _counted(rows: dict[str, int]) -> str:
    return ", ".join(f"{count:,} rows of {table}" for table, count in rows.items())


@keys.callback()
def listed(context: typer.Context, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Show the identity keys this data folder has met, and the links between them."""
    if context.invoked_subcommand is not None:
        return
    from exp_pipeline.steps.people.identity import ERASED, LINKS, identity_rows
    from exp_pipeline.steps.people.identity_keys import known_keys

    place = home_of(home)
    with open_bench(place) as bench:
        given = [key.key_id for key in ((bench.key, *bench.newer_keys) if bench.key else ())]
        known = list(known_keys(place).values())
        links, erased = identity_rows(bench, LINKS), identity_rows(bench, ERASED).height
    if as_json:
        print_json(
            {
                "environment": given,
                "known": [asdict(one) for one in known],
                "links": links.height,
                "erased": erased,
            }
        )
        return
    say(f"In the environment: {', '.join(given) or 'none'} (the first is in force)")
    if known:
        counts = dict(links.group_by("key_id").len().iter_rows())
        show_table(
            ("key", "standing", "since", "links"),
            [
                (one.key_id, one.standing.replace("_", " "), one.since, counts.get(one.key_id, 0))
                for one in known
            ],
            right=("links",),
        )
    else:
        say("No key was used here yet.")
    say(f"{erased} pseudonyms are erased.")


@keys.command()
def link(home: HomeDir = None, as_json: AsJson = False) -> None:
    """Land every file again while two keys are set, so that everybody is linked and the old key may go."""
    from exp_pipeline.steps.people.linking import link_everybody

    with open_bench(home_of(home)) as bench:
        done = link_everybody(bench)
    if as_json:
        print_json(asdict(done))
        return
    say(f"{done.days} received days were landed again; {done.links:,} links are kept.")
    if done.event_days:
        say(f"People changed on {', '.join(done.event_days)}: run these days again.")


@keys.command()
def lost(
    name: Annotated[str, typer.Argument(metavar="KEY", help="The key's name, as `exp keys` shows it.")],
    home: HomeDir = None,
) -> None:
    """Tell that a key is gone for good: whoever was not linked becomes somebody new from now on."""
    from exp_pipeline.steps.people.identity_keys import known_keys, note_key

    place = home_of(home)
    known = known_keys(place)
    if name not in known:
        raise ExpError(f"no key {name!r} was used here; there are: {', '.join(known) or 'none'}")
    note_key(place, name, known[name].fingerprint, "lost")
    say(f"Key {name} counts as lost. People who were not linked to a newer key start anew.")


@debug.command("list")
def list_entries(home: HomeDir = None, as_json: AsJson = False) -> None:
    """Show what the debug envelope holds by received day, without any text."""
    from exp_pipeline.steps.people.debug_envelope import envelope_days, utc_today

    with open_bench(home_of(home)) as bench:
        policy = bench.catalog.policies.debug_envelope
        days = envelope_days(bench, utc_today())
    if as_json:
        print_json({"policy": policy.model_dump(mode="json"), "days": [asdict(one) for one in days]})
        return
    if policy.is_on:
        say(
            f"The policy keeps {policy.share:.3g} of turns ({', '.join(policy.fields)}) "
            f"for {policy.days} days."
        )
    else:
        say("The debug envelope is off: debug_envelope.share in the policies is 0.")
    if days:
        show_table(
            ("received", "deleted on", "entries", "turns", "bytes"),
            [(one.received, one.expires_on, one.entries, one.turns, one.bytes) for one in days],
            right=("entries", "turns", "bytes"),
        )
    else:
        say("It holds nothing.")


@debug.command("read")
def read_entries(
    day: Annotated[
        datetime | None,
        typer.Option("--day", formats=DAY, metavar="DAY", help="Received day, YYYY-MM-DD. Default: all."),
    ] = None,
    turn: Annotated[
        str | None, typer.Option("--turn", metavar="ID", help="Only this turn, as turn_id in the tables.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many entries.")] = 20,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Read entries; who read how many, and when, is kept in the state log."""
    from exp_pipeline.steps.people.debug_envelope import read_debug_envelope

    received = day.date() if day is not None else None
    who = getpass.getuser()
    with open_bench(home_of(home)) as bench:
        found = read_debug_envelope(
            bench, who, at=datetime.now(UTC), received=received, turn=turn, limit=limit
        )
    typer.echo(
        "These are texts of learners. Redaction knows forms (addresses, numbers, links), not names: treat "
        f"them as personal, do not copy them. It is on record that {who} read {len(found)} entries.",
        err=True,
    )
    if as_json:
        print_json(found)
        return
    for entry in found:
        named = f"{entry['received_date']} {entry['event_name']} turn {entry['turn_id'] or '-'}"
        say(f"{named} event {entry['event_id']} learner {entry['learner_id']} (until {entry['expires_on']})")
        say(f"  {entry['field']}: {entry['text']}")
    if not found:
        say("Nothing was found.")


@debug.command()
def expire(home: HomeDir = None, as_json: AsJson = False) -> None:
    """Delete what is past its day (all, where the policy is off); Dagster does so every day."""
    from exp_pipeline.steps.people.debug_envelope import expire_debug_envelopes, utc_today

    with open_bench(home_of(home)) as bench:
        done = expire_debug_envelopes(bench, utc_today())
    if as_json:
        print_json(asdict(done))
    elif done.files:
        say(f"Deleted {done.files} files of the received days {', '.join(done.received_days)}.")
    else:
        say("Nothing was past its day.")
    if done.missing_folders:
        raise ExpError(
            f"{', '.join(done.missing_folders)} may hold entries and is not there: mount it and run this "
            "again; if it was deleted for good, make an empty folder of that name"
        )
