"""Privacy: `erase` takes a person out of everything, `keys` shows and turns the identity keys."""

from __future__ import annotations

import getpass
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from exp_pipeline.cli.runs import open_bench
from exp_pipeline.cli.terminal import AsJson, ExplainedGroup, HomeDir, home_of, print_json, say, show_table
from exp_pipeline.model.errors import ExpError

keys = typer.Typer(
    name="keys",
    cls=ExplainedGroup,
    invoke_without_command=True,
    help="Show the identity keys this data folder has met; link people while two keys are set.",
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

    from exp_pipeline.steps.erasure import erase as erase_person

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


def _counted(rows: dict[str, int]) -> str:
    return ", ".join(f"{count:,} rows of {table}" for table, count in rows.items())


@keys.callback()
def listed(context: typer.Context, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Show the identity keys this data folder has met, and the links between them."""
    if context.invoked_subcommand is not None:
        return
    from exp_pipeline.steps.identity import ERASED, LINKS, identity_rows
    from exp_pipeline.steps.identity_keys import known_keys

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
    from exp_pipeline.steps.linking import link_everybody

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
    from exp_pipeline.steps.identity_keys import known_keys, note_key

    place = home_of(home)
    known = known_keys(place)
    if name not in known:
        raise ExpError(f"no key {name!r} was used here; there are: {', '.join(known) or 'none'}")
    note_key(place, name, known[name].fingerprint, "lost")
    say(f"Key {name} counts as lost. People who were not linked to a newer key start anew.")
