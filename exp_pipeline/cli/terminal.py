"""What every command shares: its options, how it prints, and how it explains an error."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from unicodedata import category

import typer
from typer.core import TyperGroup

from exp_pipeline.model.errors import ExpError, SpecError

if TYPE_CHECKING:
    from exp_pipeline.defs.running import Progress
    from exp_pipeline.store.home import Home

JSON, VERBOSE = "exp.json", "exp.verbose"
# A caller's mistake; a run or check that failed is 1.
MISTAKE = 2
DAY = ["%Y-%m-%d"]
_PLAIN_WIDTH = 110


def _note(context: typer.Context, key: str, value: bool) -> bool:
    # Stored for the whole command line, so that the handler of errors knows how to print.
    context.meta[key] = value or bool(context.meta.get(key))
    return value


def _note_json(context: typer.Context, value: bool) -> bool:
    return _note(context, JSON, value)


def _note_verbose(context: typer.Context, value: bool) -> bool:
    return _note(context, VERBOSE, value)


HomeDir = Annotated[
    Path | None,
    typer.Option("--home", metavar="DIR", help="The data folder. Default: EXP_HOME, or ./data."),
]
AsJson = Annotated[bool, typer.Option("--json", callback=_note_json, help="Print JSON for machines.")]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", callback=_note_verbose, help="Show Dagster's log, and tracebacks of errors."),
]


class ExplainedGroup(TyperGroup):
    """Commands whose errors are text on stderr and exit code 2; a traceback only where it is asked for."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; tell of errors that are the caller's to mend."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (ExpError, ValueError, OSError) as error:
            if ctx.meta.get(VERBOSE) or os.environ.get("EXP_DEBUG") == "1":
                traceback.print_exc()
            complain(error, as_json=bool(ctx.meta.get(JSON)))
            raise typer.Exit(MISTAKE) from error


def complain(error: Exception, *, as_json: bool) -> None:
    """Print an error as text to stderr and, for machines, as JSON to stdout."""
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror or text}"
    typer.echo(clean(f"error: {text}"), err=True)
    if as_json:
        found: dict[str, object] = {"error": text}
        if isinstance(error, SpecError):
            found["problems"] = [
                {name: getattr(problem, name) for name in problem.__slots__} for problem in error.problems
            ]
        print_json(found)


def clean(text: str) -> str:
    """Text without control characters, so that names from files cannot steer a terminal."""
    return "".join("�" if _steers(char) else char for char in text)


def _steers(char: str) -> bool:
    # Control characters, halves of pairs, and those that turn the direction of what follows.
    return char not in "\n\t" and (
        category(char) in ("Cc", "Cs") or "\u202a" <= char <= "\u202e" or "\u2066" <= char <= "\u2069"
    )


def say(text: str = "") -> None:
    """Print lines for people."""
    typer.echo(clean(text))


def print_json(value: Mapping[str, object] | Sequence[object]) -> None:
    """Print one JSON value for machines."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def show_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()
) -> None:
    """Print a table; numbers in the columns named in `right` stand right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in columns:
        shown.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(clean("" if value is None else str(value))) for value in row))
    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    Console(file=sys.stdout, width=width, highlight=False).print(shown)


def home_of(given: Path | None) -> Home:
    """The data folder that a command works on; also named to Dagster, which reads EXP_HOME.

    Raises ExpError where it is not there.
    """
    from exp_pipeline.store.home import Home

    root = given or Path(os.environ.get("EXP_HOME") or "data")
    if not root.is_dir():
        raise ExpError(
            f"there is no data folder {root}: name one with --home DIR or EXP_HOME, "
            f"or make one with `exp init {root}`"
        )
    os.environ["EXP_HOME"] = str(root.resolve())
    return Home(root, os.environ.get("EXP_STATE_URL") or None)


@contextmanager
def progress_of(*, quiet: bool) -> Iterator[Progress]:
    """One line for each finished step, with its seconds; on a terminal also what is being done now.

    `quiet` prints nothing, because stdout is for a machine.
    """
    if quiet:
        yield lambda step, seconds: None
        return
    if not sys.stdout.isatty():

        def line(step: str, seconds: float | None) -> None:
            if seconds is not None:
                typer.echo(f"  {step:<24}{seconds:6.1f} s")
                sys.stdout.flush()

        yield line
        return
    from rich.console import Console

    console = Console(highlight=False)
    with console.status("starting") as status:

        def lively(step: str, seconds: float | None) -> None:
            if seconds is None:
                status.update(step.replace("_", " "))
            else:
                console.print(f"  [green]✓[/green] {step:<22}{seconds:6.1f} s")

        yield lively


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds so far, to the tenth."""
        return round(time.monotonic() - self._start, 1)
