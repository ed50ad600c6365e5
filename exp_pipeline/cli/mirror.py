"""`mirror`: the copy in an object store: what waits, push, verify, restore, and which files make a table."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from exp_pipeline.cli.terminal import DAY, AsJson, Clock, HomeDir, home_of, print_json, say
from exp_pipeline.model.errors import ExpError

if TYPE_CHECKING:
    from exp_pipeline.store.mirror_objects import Objects

app = typer.Typer(
    no_args_is_help=False,
    add_completion=False,
    help="The copy in an object store (EXP_LAKE_MIRROR): what waits; push, verify, restore; a table's files.",
)
_SHOWN = 10


@app.callback(invoke_without_command=True)
def root(context: typer.Context, home: HomeDir = None, as_json: AsJson = False) -> None:
    """The copy in an object store (EXP_LAKE_MIRROR): what waits; push, verify, restore; a table's files."""
    if context.invoked_subcommand is None:
        status(home=home, as_json=as_json)


@app.command()
def status(home: HomeDir = None, as_json: AsJson = False) -> None:
    """Tell whose mirror it is, what waits to be copied, and for how long."""
    from exp_pipeline.steps.operating.mirror import owner_of, standing

    place, mirror = home_of(home), _mirror()
    owner, own = owner_of(mirror, place)
    stand = standing(place, mirror.name, datetime.now(UTC))
    mine = owner is not None and owner == own
    if as_json:
        print_json({**asdict(stand), "owner": owner, "home": own, "ours": mine})
        return
    if owner is None:
        say(f"{mirror.name} is empty: `exp mirror push` makes the mirror.")
    elif not mine:
        say(f"{mirror.name} is the mirror of another data folder ({owner}).")
    elif stand.pushed_at is None:
        say(f"{mirror.name}: not pushed from this machine yet.")
    else:
        say(f"{mirror.name}: pushed {stand.pushed_at:%Y-%m-%d %H:%M} UTC.")
    if stand.waiting:
        wait = "change waits" if stand.waiting == 1 else "changes wait"
        say(f"{stand.waiting:,} {wait}, the oldest for {stand.lag_seconds / 3600:.1f} h.")
    elif mine:
        say("Everything is there.")
    if stand.erasure_due:
        say("An erasure waits: the next push removes what it replaced.")


@app.command()
def push(
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take over the mirror of another data folder, for good.")
    ] = False,
    allow_removal: Annotated[
        bool,
        typer.Option("--allow-removal", help="Also where most of what the mirror holds is gone here."),
    ] = False,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Copy what is new, and take away there what is gone here."""
    from exp_pipeline.steps.operating.mirror_push import push as push_now

    clock = Clock()
    done = push_now(
        home_of(home), _mirror(), lambda: datetime.now(UTC), adopt=adopt, allow_removal=allow_removal
    )
    if as_json:
        print_json({**asdict(done), "seconds": clock.seconds})
        return
    say(
        f"{done.mirror}: {done.copied:,} files ({done.bytes / 1e6:,.1f} MB) copied, {done.partitions:,} "
        f"partitions replaced, {done.retired:,} taken away, in {clock.seconds} s"
    )
    say(
        f"{done.partitions_there:,} partitions are there; {done.removed:,} old files removed, "
        f"{done.leaving:,} leaving"
    )


@app.command()
def verify(
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove what is damaged there; the next push brings it again.")
    ] = False,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Read the whole mirror and compare digests; exit code 1 where something is missing or damaged."""
    from exp_pipeline.steps.operating.mirror_restore import verify as verify_now

    clock = Clock()
    found = verify_now(_mirror(), home_of(home), repair=repair)
    if as_json:
        print_json({**asdict(found), "whole": found.whole, "seconds": clock.seconds})
    else:
        say(
            f"{found.mirror}: {found.partitions:,} partitions, {found.files:,} files, "
            f"{found.bytes / 1e6:,.1f} MB read in {clock.seconds} s"
        )
        for name, keys in (
            ("missing", found.missing),
            ("damaged", found.damaged),
            ("other here", found.other),
        ):
            for key in keys[:_SHOWN]:
                say(f"  {name}: {key}")
            if len(keys) > _SHOWN:
                say(f"  {name}: and {len(keys) - _SHOWN:,} more")
        if found.other:
            say("What is other here comes with the next push.")
        say("Every file is what it is said to be." if found.whole else "The mirror is not whole.")
        if not found.whole:
            say(
                "`exp mirror push` brings what was removed."
                if repair
                else "`exp mirror verify --repair`, then push."
            )
    if not found.whole:
        raise typer.Exit(1)


@app.command()
def restore(home: HomeDir = None, as_json: AsJson = False) -> None:
    """Make lake, snapshots and readouts of an empty data folder again, out of the mirror."""
    from exp_pipeline.steps.operating.mirror_restore import restore as restore_now

    clock, place = Clock(), home_of(home)
    done = restore_now(_mirror(), place)
    if as_json:
        print_json({**asdict(done), "seconds": clock.seconds})
        return
    say(
        f"{done.partitions:,} partitions and {done.files:,} files ({done.bytes / 1e6:,.1f} MB) restored to "
        f"{place.root} in {clock.seconds} s" + (f"; {done.kept:,} were there already" if done.kept else "")
    )
    say("Not in a mirror: catalog, state/ and its database. Restore their backups before anything lands,")
    say("because state/identity knows who was erased. Then: exp doctor, exp affected, exp warehouse.")
    say("To go on pushing from here for good: exp mirror push --adopt")


@app.command()
def files(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A table of the lake, such as events.")],
    since: Annotated[
        datetime | None, typer.Option("--since", metavar="DAY", formats=DAY, help="First day.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--until", metavar="DAY", formats=DAY, help="Last day.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the addresses of the files that make a table now, for Spark, DuckDB or another reader."""
    from exp_pipeline.steps.operating.mirror_restore import files_of

    first, last = (one.date().isoformat() if one is not None else None for one in (since, until))

    def wanted(partition: str) -> bool:
        day = partition.partition("=")[2]
        return (first is None or day >= first) and (last is None or day <= last)

    found = files_of(_mirror(), table, wanted)
    if as_json:
        print_json(found)
    else:
        for address in found:
            say(address)


def _mirror() -> Objects:
    from exp_pipeline.steps.operating.mirror import VARIABLE, mirror_from

    found = mirror_from(os.environ)
    if found is None:
        raise ExpError(f"{VARIABLE} is not set: name the mirror's place, such as s3://bucket/prefix")
    return found
