"""`assign` and `simulate`: which arm a unit is in, and made-up worlds with known truth."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from exp_pipeline.cli.terminal import AsJson, HomeDir, home_of, print_json, say, show_table
from exp_pipeline.model.errors import ExpError


def assign(
    experiment: Annotated[str, typer.Argument(help="The experiment's name, which is part of the hash.")],
    unit: Annotated[
        list[str] | None, typer.Argument(metavar="UNIT_ID...", help="Ids as the product hashes them.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Ids, one a line.")] = None,
    scheme: Annotated[
        Literal["sha256-v1", "percent-v1", "flagd", "flagd-v2", "flagd-v1"] | None,
        typer.Option("--scheme", help="Hash scheme, instead of a brief's. Needs --arms."),
    ] = None,
    arms: Annotated[
        str | None,
        typer.Option("--arms", metavar="a=0.5,b=0.5", help="Arms with shares, instead of a brief's."),
    ] = None,
    version: Annotated[
        int | None,
        typer.Option("--version", min=1, help="Version of the experiment. Default: the brief's, or 1."),
    ] = None,
    traffic: Annotated[
        float | None,
        typer.Option("--traffic", help="Share of units in the experiment. Default: the brief's, or 1."),
    ] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell which arm each unit is in, by the brief's own hash; no data is read."""
    from exp_pipeline.transform.assignment import arm_of

    ids = [*(unit or ()), *(_ids(file) if file else ())]
    if not ids:
        raise ExpError(
            "no unit to assign: give ids after the experiment's name, or --file with one id a line"
        )
    if arms is not None:
        shares, number = shares_of(arms), version or 1
        used, share = scheme or "sha256-v1", 1.0 if traffic is None else traffic
    elif scheme is not None:
        raise ExpError("--scheme needs --arms, for example --arms control=0.5,treatment=0.5")
    else:
        from exp_pipeline.cli.runs import brief_named
        from exp_pipeline.steps.opening import open_catalog

        brief = brief_named(open_catalog(home_of(home).catalog), experiment)
        if brief.hash_scheme == "none":
            raise ExpError(f"experiment {experiment} has hash_scheme none: no hash tells its arms")
        shares, used = brief.shares(), brief.hash_scheme
        number, share = version or brief.version, brief.traffic if traffic is None else traffic
    found = [(one, arm_of(experiment, number, one, shares, scheme=used, traffic=share)) for one in ids]
    if as_json:
        print_json([{"unit_id": one, "arm": arm} for one, arm in found])
        return
    for one, arm in found:
        say(f"{one}\t{arm or '(not in the experiment)'}")


def shares_of(text: str) -> dict[str, float]:
    """Arms with their planned shares out of `a=0.5,b=0.5`, in the order given."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = part.partition("=")
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if not equals or not name.strip() or not 0 < share <= 1 or name.strip() in shares:
            raise ExpError(
                f"--arms {text!r}: {part!r} is not an arm with its share; write them as a=0.5,b=0.5"
            )
        shares[name.strip()] = share
    return shares


def _ids(file: Path) -> list[str]:
    if not file.is_file():
        raise ExpError(f"--file {file}: there is no such file")
    return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def simulate(
    plan: Annotated[Literal["demo", "bench"], typer.Option("--plan", help="Which world.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A landing folder to write to.")],
    format: Annotated[
        Literal["ndjson", "parquet"], typer.Option("--format", help="Kind of files.")
    ] = "ndjson",
    events: Annotated[
        int | None, typer.Option("--events", help="About how many events (bench only; at least 10000).")
    ] = None,
    days: Annotated[
        int | None, typer.Option("--days", help="How many days (bench only; at least 14).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a made-up world as landing files, and tell what is true in it."""
    if plan == "demo" and (events is not None or days is not None):
        raise ExpError("--events and --days belong to --plan bench; the demo's world is fixed")
    from exp_pipeline.simulate.landing import write_landing
    from exp_pipeline.simulate.plans import bench_plan, demo_plan
    from exp_pipeline.simulate.truth import truth

    world = (
        demo_plan()
        if plan == "demo"
        else bench_plan(10_000_000 if events is None else events, 28 if days is None else days)
    )
    files = write_landing(world, out, format=format)
    known = truth(world)
    size = sum(file.bytes for file in files)
    if as_json:
        print_json({"out": str(out), "files": len(files), "bytes": size, "truth": asdict(known)})
        return
    say(f"{len(files)} files, {size / 1e6:.1f} MB, in {out}")
    say(
        f"{known.rows:,} rows: {known.kept:,} events to keep, {known.retries:,} sent again, "
        f"{known.quarantined:,} broken, {known.excluded:,} of staff and test accounts"
    )
    say(f"{known.sessions:,} sessions; {len(known.contaminated)} units in two arms\n")
    show_table(
        ("experiment", "arm", "assigned", "exposed", "mastery seen", "mastery expected"),
        [
            (
                arm.experiment,
                arm.arm,
                arm.assigned,
                arm.exposed,
                f"{arm.observed_mastery_share:.1%}",
                f"{arm.expected_mastery_share:.1%}",
            )
            for arm in known.arms
        ],
        right=("assigned", "exposed", "mastery seen", "mastery expected"),
    )
