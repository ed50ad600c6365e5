"""A data folder: `init` makes one, `validate` checks what people wrote in it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from exp_pipeline.cli.bundle import BRIEF_TEMPLATE, IGNORED, sample_root
from exp_pipeline.cli.terminal import AsJson, HomeDir, home_of, print_json, say
from exp_pipeline.model.errors import ExpError

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
    say(f"  - copy {experiments / 'template.yaml.example'} to your-experiment.yaml and fill it in")
    say(f"  - exp validate --home {folder}")
    say(f"  - put event files into {folder / 'landing'}/received_date=YYYY-MM-DD/")
    say(f"  - exp run --all --home {folder}")


def validate(home: HomeDir = None, as_json: AsJson = False) -> None:
    """Check every brief, metric, source and policy; all problems at once."""
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
            typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    counts = {
        "experiments": len(catalog.briefs),
        "metrics": len(catalog.metrics),
        "measures": len(catalog.measures),
        "sources": len(catalog.sources),
    }
    if as_json:
        print_json({"valid": True, **counts})
    else:
        say(
            f"{place.catalog} is valid: "
            + ", ".join(f"{count} {name}" for name, count in counts.items())
            + "."
        )
