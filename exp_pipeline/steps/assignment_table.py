"""The assignment table: every randomised unit of an experiment, the arm logged and the arm its hash gives."""

from __future__ import annotations

import time
from pathlib import Path

import polars as pl

from exp_pipeline.model.brief import Brief
from exp_pipeline.steps.context import Window, Workbench, Written
from exp_pipeline.steps.experiment import brief_of
from exp_pipeline.store.files import digest_of_file, replace_file, temporary_beside
from exp_pipeline.transform.assignment import BUCKETS, arm_at

TABLE = "assignment_table"
COLUMNS: dict[str, pl.DataType] = {
    "experiment": pl.String(),
    "version": pl.Int64(),
    "unit_type": pl.String(),
    "unit_id": pl.String(),
    "arm": pl.String(),
    "assigned_at": pl.Datetime("us"),
    "stratum": pl.String(),
    "source": pl.String(),
    "arm_bucket": pl.Int64(),
    "traffic_bucket": pl.Int64(),
    "hash_arm": pl.String(),
    "agrees": pl.Boolean(),
    "contaminated": pl.Boolean(),
}


def assignment_table(bench: Workbench, experiment: str) -> pl.DataFrame:
    """Which arm is every randomised unit in, and is it the arm that the brief's own hash gives?

    One row per unit of the brief's kind (learner or class) with an assignment in the experiment's window,
    ordered by unit; columns as in `COLUMNS`. `arm` and `assigned_at` are of the first assignment logged, ids
    are pseudonyms, and a unit logged in two arms is `contaminated`. `hash_arm` is null where the traffic
    share leaves the unit out, and where it cannot be computed: no bucket logged, or a scheme of buckets we do
    not know. `agrees` compares logged arms only, and is null where nothing can be compared. Raises ExpError
    for an unknown experiment.
    """
    brief = brief_of(bench, experiment)
    bench.read_days("logged_assignments", "assignments", Window(brief.start, brief.end))
    first = bench.engine.frame(
        "select experiment, version, unit_type, unit_id, arm, assigned_at, stratum, source, arm_bucket, "
        "traffic_bucket, lowest_arm <> highest_arm as contaminated from (select *, "
        "row_number() over (partition by unit_id order by assigned_at, arm) as place, "
        "min(arm) over (partition by unit_id) as lowest_arm, "
        "max(arm) over (partition by unit_id) as highest_arm "
        "from logged_assignments where experiment = $experiment and version = $version "
        "and unit_type = $unit_type and assigned_at >= $start and assigned_at < $end) "
        "where place = 1 order by unit_id",
        {
            "experiment": brief.name,
            "version": brief.version,
            "unit_type": brief.randomisation_unit,
            "start": brief.start,
            "end": brief.end,
        },
    )
    return with_hash(brief, first)


def with_hash(brief: Brief, units: pl.DataFrame) -> pl.DataFrame:
    """The units with `hash_arm` and `agrees`, from their buckets by the brief's scheme.

    units: the columns of `COLUMNS` but those two, one row per randomised unit.
    """
    known = pl.all_horizontal(pl.col("arm_bucket", "traffic_bucket").is_not_null())
    if brief.hash_scheme == "none":
        return units.with_columns(
            pl.lit(None, pl.String).alias("hash_arm"), pl.lit(None, pl.Boolean).alias("agrees")
        ).select(pl.col(name).cast(kind) for name, kind in COLUMNS.items())
    buckets = pl.DataFrame(
        {"arm_bucket": range(BUCKETS), "bucket_arm": _arms_of_buckets(brief)},
        schema={"arm_bucket": pl.Int64, "bucket_arm": pl.String},
    )
    inside = pl.col("traffic_bucket") < brief.traffic * BUCKETS - 1e-9
    logged = pl.col("source") == "logged"
    return (
        units.with_columns(pl.col("arm_bucket").cast(pl.Int64))
        .join(buckets, on="arm_bucket", how="left", maintain_order="left")
        .with_columns(pl.when(known & inside).then("bucket_arm").alias("hash_arm"))
        .with_columns(
            pl.when(known & logged).then(pl.col("hash_arm").eq_missing(pl.col("arm"))).alias("agrees")
        )
        .select(pl.col(name).cast(kind) for name, kind in COLUMNS.items())
    )


def _arms_of_buckets(brief: Brief) -> list[str]:
    """The arm of each of the 10,000 buckets by the brief's scheme."""
    shares = brief.shares()
    if brief.hash_scheme == "percent-v1":
        turned = dict(reversed(list(shares.items())))
        return [arm_at((bucket % 100) / 100, turned) for bucket in range(BUCKETS)]
    return [arm_at(bucket / BUCKETS, shares) for bucket in range(BUCKETS)]


def path_of(bench: Workbench, experiment: str) -> Path:
    """Where an experiment's assignment table lies."""
    return bench.home.marts / TABLE / f"experiment={experiment}" / f"{TABLE}.parquet"


def write_assignment_table(bench: Workbench, experiment: str) -> Written:
    """Write the assignment table as Parquet; the same assignments give the same bytes.

    The file is replaced at once: a reader sees the old table or the new one.
    """
    started = time.monotonic()
    frame = assignment_table(bench, experiment)
    path = path_of(bench, experiment)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        frame.write_parquet(temporary, compression="zstd")
        digest = digest_of_file(temporary)
        if not (path.is_file() and digest_of_file(path) == digest):
            replace_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    compared = frame["agrees"].drop_nulls()
    return Written(
        table=TABLE,
        partition=f"experiment={experiment}",
        rows=frame.height,
        bytes=path.stat().st_size,
        seconds=round(time.monotonic() - started, 3),
        digest=digest,
        facts={
            "compared_with_hash": compared.len(),
            "not_as_hashed": int((~compared).sum()),
            "contaminated": int(frame["contaminated"].sum()),
        },
    )
