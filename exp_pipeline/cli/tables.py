"""`analyze`: a readout on a unit table from elsewhere; no Dagster, no events."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exp_pipeline.cli.terminal import DAY, AsJson, print_json, say, show_table
from exp_pipeline.model.errors import ExpError

if TYPE_CHECKING:
    import polars as pl

    from exp_pipeline.model.readout import Estimate, Readout

_UNLOCKED = (
    "The brief was not locked before the data were seen, so every effect is marked exploratory. "
    "If it was written before anybody saw them, say so with --locked."
)


def analyze(
    brief: Annotated[
        Path, typer.Option("--brief", metavar="FILE", help="The brief, with a `table` section.")
    ],
    table: Annotated[
        Path,
        typer.Option("--table", metavar="FILE", help="The unit table: .parquet or .csv, one row a unit."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the memo goes.")],
    locked: Annotated[
        bool, typer.Option("--locked", help="Declare that the brief was written before the data were seen.")
    ] = False,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            "--as-of",
            formats=DAY,
            metavar="DAY",
            help="Last day to which the table is complete. Default: its newest date, or the brief's last.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read out an experiment on your own unit table: the same memo, without events."""
    from exp_pipeline.analysis.from_table import exclusions_of_table, mad_from_table
    from exp_pipeline.analysis.readout import ReadoutInputs
    from exp_pipeline.catalog import digest_of_metrics, load_brief
    from exp_pipeline.model.readout import LockState, Provenance
    from exp_pipeline.steps.opening import code_version
    from exp_pipeline.steps.readouts import analyse_table
    from exp_pipeline.store.files import digest_of_file

    contract = load_brief(existing(brief, "brief"), None)
    frame = read_table(table)
    mad, metrics = mad_from_table(frame, contract)
    newest = mad["assigned_date"].max()
    last_day = contract.end - timedelta(days=1)
    complete = as_of.date() if as_of else min(newest, last_day) if isinstance(newest, date) else last_day
    snapshot = digest_of_file(table)
    said = (
        "declared as written before the data were seen" if locked else "not locked before the data were seen"
    )
    readout, page = analyse_table(
        ReadoutInputs(
            brief=contract,
            metrics=metrics,
            mad=mad,
            days=None,
            as_of=complete,
            lock=LockState(
                locked_digest=contract.analysis_digest() if locked else None,
                current_digest=contract.analysis_digest(),
            ),
            provenance=Provenance(
                snapshot=snapshot[:16],
                brief_digest=contract.digest(),
                metrics_digest=digest_of_metrics(contract, metrics, {}),
                code_version=code_version(),
                run_id="exp analyze",
                as_of=complete,
                source=f"unit table {table.name}; brief {said}",
                inputs={"table": snapshot},
            ),
            exclusions=exclusions_of_table(frame, contract),
        ),
        out,
    )
    if as_json:
        print_json(
            {
                "experiment": readout.experiment,
                "locked": locked,
                "blinded": readout.blinded,
                "as_of": complete.isoformat(),
                "decision": readout.decision.model_dump(mode="json"),
                "estimates": [row.model_dump(mode="json") for row in readout.estimates],
                "unadjusted": [row.model_dump(mode="json") for row in readout.unadjusted],
                "memo": str(page),
                "readout": str(out / "readout.json"),
            }
        )
        return
    _tell(readout, complete, locked=locked)
    say(f"\nMemo: {page}")


def _tell(readout: Readout, complete: date, *, locked: bool) -> None:
    if not locked:
        say(_UNLOCKED + "\n")
    for check in readout.integrity:
        if check.verdict in ("fail", "warn"):
            say(f"{check.verdict}: {check.title}: {check.evidence}")
    if readout.blinded:
        say(readout.blinding_reason)
        if not readout.horizon_reached:
            say(f"The table's newest date is {complete}; if it is complete to a later day, say --as-of DAY.")
    rows = [(_effect(row), row) for row in (*readout.estimates, *readout.unadjusted)]
    if rows:
        show_table(
            ("metric", "arm", "n", "effect", "95 % interval", "se", "p", "method"),
            [
                (
                    row.title,
                    row.arm,
                    f"{row.n_treatment} / {row.n_control}",
                    effect[0],
                    effect[1],
                    effect[2],
                    "" if row.p_value is None else f"{row.p_value:.3g}",
                    "adjusted" if row.adjusted else "plain",
                )
                for effect, row in rows
            ],
        )
    say(f"\n{readout.decision.outcome.replace('_', ' ')}: {readout.decision.summary}")


def _effect(row: Estimate) -> tuple[str, str, str]:
    """Effect, interval and standard error as text, shares in percentage points."""
    if row.absolute is None or row.se is None:
        return row.reason or "cannot be estimated", "", ""
    scale, unit = (100.0, " pp") if row.display == "share" else (1.0, "")
    interval = (
        ""
        if row.ci_lower is None or row.ci_upper is None
        else (f"{row.ci_lower * scale:+.2f} to {row.ci_upper * scale:+.2f}")
    )
    return f"{row.absolute * scale:+.2f}{unit}", interval, f"{row.se * scale:.2f}"


def existing(path: Path, what: str) -> Path:
    """The path, if there is a file. Raises ExpError where there is none."""
    if not path.is_file():
        raise ExpError(f"{what} {path}: there is no such file")
    return path


def read_table(path: Path) -> pl.DataFrame:
    """A unit table from Parquet or CSV. Raises ExpError for what cannot be read as one."""
    import polars as pl

    existing(path, "table")
    suffix = path.suffix.lower()
    if suffix not in (".parquet", ".csv"):
        raise ExpError(f"table {path}: the name must end in .parquet or .csv")
    try:
        frame = pl.read_parquet(path) if suffix == ".parquet" else pl.read_csv(path, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise ExpError(f"table {path} cannot be read as {suffix[1:]}: {error}") from error
    if frame.is_empty():
        raise ExpError(f"table {path} has no rows")
    return frame
