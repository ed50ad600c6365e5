"""A data folder: `init` makes one, `validate` checks what people wrote in it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exp_pipeline.cli.bundle import BRIEF_TEMPLATE, IGNORED, sample_root
from exp_pipeline.cli.terminal import AsJson, HomeDir, clean, home_of, print_json, say
from exp_pipeline.model.errors import ExpError, Problem

if TYPE_CHECKING:
    from exp_pipeline.analysis.planning.gaps import Gap
    from exp_pipeline.catalog import Catalog
    from exp_pipeline.store.home import Home

# What the sample's catalog has that any product can begin with. Its experiments are its own.
_SHARED = ("metrics", "policies", "sources")


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The new data folder.")] = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Make a new data folder: a catalog to fill in, and a landing folder for events."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExpError(
            f"{folder} is there already and is not empty; init overwrites nothing: name a new folder"
        )
    experiments = folder / "catalog" / "experiments"
    experiments.mkdir(parents=True)
    (experiments / "template.yaml.example").write_text(BRIEF_TEMPLATE)
    bundled = sample_root()
    for name in _SHARED:
        if bundled is not None and (bundled / "catalog" / name).is_dir():
            shutil.copytree(bundled / "catalog" / name, folder / "catalog" / name)
        else:
            (folder / "catalog" / name).mkdir()
    (folder / "landing").mkdir()
    (folder / ".gitignore").write_text(IGNORED)
    if as_json:
        print_json({"home": str(folder.resolve()), "metrics_copied": bundled is not None})
        return
    say(f"Made {folder}. Next:")
    if bundled is None:
        say(
            "  - write metrics in catalog/metrics and a source in catalog/sources: this installation has none"
        )
        say("    to copy (a checkout of the repository has them in data/catalog)")
    say(f"  - exp new my-experiment --home {folder}: asks what a brief must say, and writes it")
    say("    (with --table FILE where you have a table of units and no events: `exp analyze` reads that)")
    say(f"  - exp validate --home {folder}")
    say(f"  - put event files into {folder / 'landing'}/received_date=YYYY-MM-DD/")
    say(f"  - exp run --all --home {folder}")


def validate(
    readiness: Annotated[
        bool, typer.Option("--readiness", help="Also list what keeps each draft from starting.")
    ] = False,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Check every brief, metric, source and policy; all problems at once, file by file."""
    from exp_pipeline.model.errors import SpecError
    from exp_pipeline.steps.opening import open_catalog

    place = home_of(home)
    try:
        catalog = open_catalog(place.catalog, strict=True)
    except SpecError as error:
        if as_json:
            print_json(
                {
                    "valid": False,
                    "problems": [
                        {name: getattr(problem, name) for name in problem.__slots__}
                        for problem in error.problems
                    ],
                }
            )
        else:
            typer.echo(clean(by_file(error.problems)), err=True)
        raise typer.Exit(1) from error
    drafts = _unready(place, catalog) if readiness else {}
    counts = {
        "experiments": len(catalog.briefs),
        "metrics": len(catalog.metrics),
        "measures": len(catalog.measures),
        "sources": len(catalog.sources),
    }
    if as_json:
        gaps = {name: [asdict(gap) for gap in found] for name, found in drafts.items()}
        print_json({"valid": True, **counts, **({"gaps": gaps} if readiness else {})})
    else:
        say(
            f"{place.catalog} is valid: "
            + ", ".join(f"{count} {name}" for name, count in counts.items())
            + "."
        )
        for name, found in drafts.items():
            say(f"{name} is ready to start." if not found else f"{name} is not ready to start:")
            for gap in found:
                say(f"  {gap}")
    if any(drafts.values()):
        raise typer.Exit(1)


def by_file(problems: Sequence[Problem]) -> str:
    """All problems of a catalog as text: file by file, line by line."""
    files: dict[str, list[Problem]] = {}
    for one in sorted(problems, key=lambda one: (one.file, one.line or 0)):
        files.setdefault(one.file, []).append(one)
    lines = [f"{_so_many(len(problems))} in the catalog:"]
    for file, found in files.items():
        lines += ["", f"{file}: {_so_many(len(found))}"]
        for one in found:
            place = f"line {one.line}" if one.line else "file"
            value = f" (value: {one.value})" if one.value else ""
            allowed = f"; allowed: {one.allowed}" if one.allowed else ""
            lines.append(f"  {place:<9} {one.field}: {one.message}{value}{allowed}")
    return "\n".join(lines)


def _so_many(count: int) -> str:
    return f"{count} problem{'s' if count != 1 else ''}"


def _unready(home: Home, catalog: Catalog) -> dict[str, tuple[Gap, ...]]:
    """What keeps each brief that has not started from starting."""
    from exp_pipeline.cli.runs import open_bench
    from exp_pipeline.steps.experiments.locking import locked_of
    from exp_pipeline.steps.experiments.planning import check_readiness

    with open_bench(home, catalog) as bench:
        return {
            name: check_readiness(bench, name).gaps
            for name, brief in sorted(catalog.briefs.items())
            if brief.table is None and locked_of(home, brief) is None
        }
