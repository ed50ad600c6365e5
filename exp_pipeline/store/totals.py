"""Totals that somebody else counted: small tables that people put below the data folder."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

from exp_pipeline.model.errors import StoreError

if TYPE_CHECKING:
    import polars as pl

COLUMNS = ("day", "model_name", "tokens_in", "tokens_out")
LARGEST_BYTES = 50_000_000


def read_totals(root: Path, pattern: str) -> pl.DataFrame:
    """What did the gateway count by day and model? Columns day, model_name, tokens_in, tokens_out (tokens).

    Of two files (CSV or Parquet) that give the same day and model the later name counts, so that a correction
    is a further file. Raises StoreError naming the file where one is no such table; no file gives no row.
    """
    import polars as pl

    frames = []
    for path in sorted(root.glob(pattern)):
        try:
            frames.append(_read(path))
        except (pl.exceptions.PolarsError, OSError, UnicodeError, ValueError) as trouble:
            said = str(trouble).splitlines()[0].replace(str(path), path.name)
            raise StoreError(f"{path.relative_to(root)}: {said}") from trouble
    if not frames:
        kinds = {"day": pl.Date, "model_name": pl.String, "tokens_in": pl.Int64, "tokens_out": pl.Int64}
        return pl.DataFrame(schema=kinds)
    every = pl.concat(frames).unique(["day", "model_name"], keep="last", maintain_order=True)
    return every.sort("day", "model_name")


def _read(path: Path) -> pl.DataFrame:
    import polars as pl

    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no plain file (links are not followed)")
    if status.st_size > LARGEST_BYTES:
        raise ValueError(f"it has {status.st_size:,} bytes, at most {LARGEST_BYTES:,} are read")
    if path.suffix == ".parquet":
        frame = pl.read_parquet(path)
    elif path.suffix == ".csv":
        frame = pl.read_csv(path, infer_schema=False)
    else:
        raise ValueError("it must be a .csv or a .parquet file")
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise ValueError(f"it lacks column {', '.join(missing)}; its columns: {', '.join(frame.columns)}")
    day = (
        pl.col("day")
        if frame.schema["day"] == pl.Date
        else pl.col("day").cast(pl.String).str.to_date("%Y-%m-%d")
    )
    typed = frame.select(
        day,
        pl.col("model_name").cast(pl.String),
        pl.col("tokens_in").cast(pl.Int64),
        pl.col("tokens_out").cast(pl.Int64),
    )
    if sum(typed.null_count().row(0)):
        raise ValueError("it has empty cells in day, model_name, tokens_in or tokens_out")
    if typed.filter((pl.col("tokens_in") < 0) | (pl.col("tokens_out") < 0)).height:
        raise ValueError("it has negative tokens")
    return typed
