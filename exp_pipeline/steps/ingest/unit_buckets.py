"""Buckets at the door: computed where raw unit ids are last seen, so that arms can be checked later."""

from __future__ import annotations

import polars as pl

from exp_pipeline.catalog import Catalog
from exp_pipeline.model.layers import Limits
from exp_pipeline.transform.hashing import bucket_columns, hash_of_scheme
from exp_pipeline.transform.layers import buckets_in

# The scheme of an experiment whose brief is not there yet.
DEFAULT_SCHEME = "sha256-v1"
UNITS_AT_THE_DOOR = (
    "select distinct experiment, experiment_version, unit_id from typed "
    "where experiment is not null and experiment_version is not null and unit_id is not null"
)
SCHEMA: dict[str, pl.DataType] = {
    "experiment": pl.String(),
    "experiment_version": pl.Int64(),
    "unit_id": pl.String(),
    "arm_bucket": pl.Int64(),
    "traffic_bucket": pl.Int64(),
    "bucket_scheme": pl.String(),
    "layer_bucket": pl.Int64(),
    "holdout_bucket": pl.Int64(),
    "layer_draws": pl.String(),
}


def unit_buckets(catalog: Catalog, units: pl.DataFrame) -> pl.DataFrame:
    """Which buckets does each unit fall into, by the scheme, layer and holdout of its experiment?

    units: experiment, experiment_version, unit_id (as the product hashes it), each triple once. Gives the
    columns of `SCHEMA`. An experiment without a brief is drawn by `sha256-v1`; one whose brief says `none`
    has no buckets.
    """
    parts = [pl.DataFrame(schema=SCHEMA)]
    keys = units.cast({"experiment_version": pl.Int64}).partition_by(
        "experiment", "experiment_version", as_dict=True, maintain_order=True
    )
    for (name, version), mine in keys.items():
        brief = catalog.briefs.get(str(name))
        scheme = DEFAULT_SCHEME if brief is None else brief.hash_scheme
        limits = Limits() if brief is None else catalog.limits_of(brief)
        ids = mine["unit_id"].to_list()
        columns: dict[str, object] = {}
        if scheme != "none":
            drawn = bucket_columns(scheme, str(name), int(str(version)), ids)
            columns |= {"arm_bucket": drawn.arm, "traffic_bucket": drawn.traffic}
            columns["bucket_scheme"] = [hash_of_scheme(scheme)] * len(ids)
        if limits.layer is not None:
            columns["layer_bucket"] = buckets_in(limits.layer, ids)
        if limits.holdout is not None:
            columns["holdout_bucket"] = buckets_in(limits.holdout, ids)
        if limits.draws() is not None:
            columns["layer_draws"] = [limits.draws()] * len(ids)
        known = {column: mine[column] for column in ("experiment", "experiment_version", "unit_id")}
        whole = {column: columns.get(column, known.get(column, [None] * len(ids))) for column in SCHEMA}
        parts.append(pl.DataFrame(whole, schema=SCHEMA))
    return pl.concat(parts)
