"""`assign` and `simulate`: which arm a unit is in, and made-up worlds with known truth."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from exp_pipeline.cli.terminal import AsJson, HomeDir, home_of, print_json, say, show_table
from exp_pipeline.model.errors import ExpError

if TYPE_CHECKING:
    from exp_pipeline.store.home import Home


def assign(
    experiment: Annotated[str, typer.Argument(help="The experiment's name, which is part of the hash.")],
    unit: Annotated[
        list[str] | None, typer.Argument(metavar="UNIT_ID...", help="Ids as the product hashes them.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Ids, one a line.")] = None,
    scheme: Annotated[
        Literal["sha256-v1", "percent-v1", "flagd", "flagd-v2", "flagd-v1", "growthbook"] | None,
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
    units: Annotated[
        Path | None,
        typer.Option("--units", metavar="FILE", help="A list (CSV, Parquet) to draw arms for, once."),
    ] = None,
    strata: Annotated[
        list[str] | None,
        typer.Option("--strata", metavar="COL", help="With --units: balance the arms within each value."),
    ] = None,
    clusters: Annotated[
        str | None,
        typer.Option("--clusters", metavar="COL", help="With --units: draw these, not the rows."),
    ] = None,
    blocks: Annotated[
        int | None, typer.Option("--blocks", metavar="N", help="With --units: permuted blocks of N units.")
    ] = None,
    match: Annotated[
        list[str] | None,
        typer.Option("--match", metavar="COL", help="With --units: sets of units with like numbers."),
    ] = None,
    simple: Annotated[
        bool, typer.Option("--simple", help="With --units: draw each unit for itself.")
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="With --units: the seed. Default: one is made, and stored."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="With --units: write the arms as .csv or .json."),
    ] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell which arm each unit is in by the brief's own rules, or draw a table of arms once (--units)."""
    if units is not None:
        from exp_pipeline.cli.draws import design_of, draw_units

        if unit or file or scheme or arms or version or traffic is not None:
            raise ExpError(
                "--units draws a list by the brief; ids, --file, --scheme, --arms, --version and "
                "--traffic do not go with it"
            )
        design = design_of(strata=strata, clusters=clusters, blocks=blocks, match=match, simple=simple)
        draw_units(home_of(home), experiment, units, design, seed=seed, out=out, as_json=as_json)
        return
    if strata or clusters or blocks or match or simple or seed is not None or out is not None:
        raise ExpError(
            "--strata, --clusters, --blocks, --match, --simple, --seed and --out need --units FILE"
        )
    ids = [*(unit or ()), *(_ids(file) if file else ())]
    if not ids:
        raise ExpError(
            "no unit to assign: give ids after the experiment's name, or --file with one id a line"
        )
    if arms is not None:
        from exp_pipeline.transform.assignment import arm_of

        shares, number = shares_of(arms), version or 1
        used, share = scheme or "sha256-v1", 1.0 if traffic is None else traffic
        found = [
            {"unit_id": one, "arm": arm_of(experiment, number, one, shares, scheme=used, traffic=share)}
            for one in ids
        ]
    elif scheme is not None:
        raise ExpError("--scheme needs --arms, for example --arms control=0.5,treatment=0.5")
    else:
        found = _by_brief(home_of(home), experiment, ids, version=version, traffic=traffic)
    if as_json:
        print_json(found)
        return
    from exp_pipeline.cli.draws import reason_in_words

    for row in found:
        late = "\t(late: by the hash)" if row.get("late") else ""
        say(f"{row['unit_id']}\t{row['arm'] or reason_in_words(row.get('outside'))}{late}")


def _by_brief(
    home: Home, experiment: str, ids: list[str], *, version: int | None, traffic: float | None
) -> list[dict[str, Any]]:
    """Each unit with its arm by the brief, `outside` where it has none, `late` where it was not drawn."""
    from exp_pipeline.cli.runs import brief_named, open_bench
    from exp_pipeline.steps.opening import open_catalog
    from exp_pipeline.transform.layers import placed

    catalog = open_catalog(home.catalog)
    brief = brief_named(catalog, experiment)
    if brief.hash_scheme == "none":
        raise ExpError(f"experiment {experiment} has hash_scheme none: no hash tells its arms")
    if traffic is not None and not 0 < traffic <= 1:
        raise ExpError(f"--traffic {traffic}: must be more than 0 and at most 1")
    asked = brief if version is None else brief.model_copy(update={"version": version})
    places = placed(asked, catalog.limits_of(brief), ids, traffic=traffic)
    found: list[dict[str, Any]] = [
        {"unit_id": one, "arm": place.arm, **({"outside": place.outside} if place.outside else {})}
        for one, place in zip(ids, places, strict=True)
    ]
    if brief.assignment == "table":
        from exp_pipeline.steps.assignment.drawn import arms_by_id

        with open_bench(home, catalog) as bench:
            known = arms_by_id(bench, asked, ids)
        found = [
            {"unit_id": row["unit_id"], "arm": known[row["unit_id"]], "late": False}
            if row["unit_id"] in known
            else {**row, "late": True}
            for row in found
        ]
    return found


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
