"""Fidelity: is every randomised unit where the brief's own rules put it, and if not, where do they part?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import polars as pl

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.evidence import FAULTS, UNCOMPARED, Fidelity, FidelityGroup
from exp_pipeline.model.layers import Limits
from exp_pipeline.model.ramps import RampEntry, traffic_at
from exp_pipeline.steps.assignment.drawn import drawn_arms
from exp_pipeline.steps.context import DAY, Window, Workbench
from exp_pipeline.steps.ingest.unit_buckets import DEFAULT_SCHEME
from exp_pipeline.steps.operating.ramp_log import entries_of
from exp_pipeline.store.state import state_log
from exp_pipeline.transform import queries
from exp_pipeline.transform.assignment import arms_of_buckets
from exp_pipeline.transform.hashing import BUCKETS, hash_of_scheme

# For so long after a change of its flags a product may still serve what they said before.
FLAG_LAG = timedelta(hours=1)
# Of each column, so many groups with mismatches are kept: enough to see a pattern.
GROUPS_KEPT = 10
_PERCENT = re.compile(r"^(\d+(?:\.\d+)?) ?(?:%|pct|percent)$")
_SHARE = re.compile(r"^(?:0?\.\d+|1\.0+)$")
_NUMBER = re.compile(r"^(?:stage[-_ ]?)?(\d+)$")


COLUMNS: dict[str, pl.DataType] = {
    "experiment": pl.String(),
    "version": pl.Int64(),
    "unit_type": pl.String(),
    "unit_id": pl.String(),
    "arm": pl.String(),
    "assigned_at": pl.Datetime("us"),
    "stratum": pl.String(),
    "ramp_stage": pl.String(),
    "source": pl.String(),
    "platform": pl.String(),
    "app_version": pl.String(),
    "arm_bucket": pl.Int64(),
    "traffic_bucket": pl.Int64(),
    "bucket_scheme": pl.String(),
    "layer_bucket": pl.Int64(),
    "holdout_bucket": pl.Int64(),
    "hash_arm": pl.String(),
    "agrees": pl.Boolean(),
    "fault": pl.String(),
    "not_compared": pl.String(),
    "layer_known": pl.Boolean(),
    "late": pl.Boolean(),
    "arms_seen": pl.Int64(),
    "contaminated": pl.Boolean(),
}


def assigned_units(bench: Workbench, brief: Brief, *, until: date | None = None) -> pl.DataFrame:
    """Every randomised unit of an experiment by its first assignment, and how it stands to the brief's rules.

    The columns of `COLUMNS`, one row per unit of the brief's kind, ordered by unit. Only assignments in the
    experiment's window count, and before `until` if given. Units of a table drawn once that nobody logged
    stand there too, with source `computed`, no moment of assignment, and `never_logged`.
    """
    end = brief.end if until is None else max(min(until, brief.end), brief.start + DAY)
    bench.read_days("assignments", "assignments", Window(brief.start, end))
    first = bench.engine.frame(
        queries.text_of("first_assignments"),
        {
            "experiment": brief.name,
            "version": brief.version,
            "unit_type": brief.randomisation_unit,
            "window_start": brief.start,
            "window_end": end,
        },
    )
    drawn = drawn_arms(bench, brief)
    ramp = entries_of(state_log(bench.home), brief)
    table = with_hash(brief, first, bench.catalog.limits_of(brief), drawn, ramp)
    logged = table.select(pl.col(name).cast(kind) for name, kind in COLUMNS.items())
    return (
        logged if drawn is None else pl.concat([logged, _never_logged(brief, drawn, logged)]).sort("unit_id")
    )


def _never_logged(brief: Brief, drawn: pl.DataFrame, logged: pl.DataFrame) -> pl.DataFrame:
    missing = drawn.join(logged.select("unit_id"), on="unit_id", how="anti")
    known = {
        "experiment": pl.lit(brief.name),
        "version": pl.lit(brief.version),
        "unit_type": pl.lit(brief.randomisation_unit),
        "unit_id": pl.col("unit_id"),
        "arm": pl.col("drawn_arm"),
        "source": pl.lit("computed"),
        "hash_arm": pl.col("drawn_arm"),
        "not_compared": pl.lit("never_logged"),
        "layer_known": pl.lit(True),
        "late": pl.lit(False),
        "arms_seen": pl.lit(0),
        "contaminated": pl.lit(False),
    }
    return missing.select(
        known.get(name, pl.lit(None)).cast(kind).alias(name) for name, kind in COLUMNS.items()
    )


def traffic_of_stage(brief: Brief, stage: str | None) -> float | None:
    """Which share of traffic was in force at a logged ramp stage; None where its text does not tell.

    Read are a percentage (`10pct`, `10 %`), a share (`0.1`), and the number of a stage of the brief's ramp,
    from 1 (`2`, `stage-2`). Without a stage the brief's own traffic was in force.
    """
    if stage is None:
        return brief.traffic
    text = stage.strip().lower()
    percent, number = _PERCENT.match(text), _NUMBER.match(text)
    if percent is not None:
        share = float(percent.group(1)) / 100
        return share if 0 < share <= 1 else None
    if _SHARE.match(text) is not None:
        return float(text) or None
    if number is not None and 1 <= int(number.group(1)) <= len(brief.ramp):
        return brief.ramp[int(number.group(1)) - 1].traffic
    return None


def shares_in_force(ramp: Sequence[RampEntry]) -> pl.DataFrame:
    """Which share of traffic could be in force from each moment on, by a ramp's log?

    Columns since (ordered) and share. A share goes on for `FLAG_LAG` after a lower one was published, because
    products read flags now and then, not at once.
    """
    changes = [(entry.at.astimezone(UTC).replace(tzinfo=None), entry) for entry in ramp]
    moments = sorted({at for at, _ in changes} | {at + FLAG_LAG for at, _ in changes})
    shares = [
        max(traffic_at(ramp, one.replace(tzinfo=UTC)) for one in (*_between(moments, at - FLAG_LAG, at), at))
        for at in moments
    ]
    return pl.DataFrame(
        {"since": moments, "share": shares}, schema={"since": pl.Datetime("us"), "share": pl.Float64}
    )


def _between(moments: Sequence[datetime], first: datetime, last: datetime) -> list[datetime]:
    """The moments after `first` and up to `last`, and the one before them, whose share still held then."""
    held = [one for one in moments if one <= first]
    return [*held[-1:], *(one for one in moments if first < one <= last)]


def with_hash(
    brief: Brief,
    units: pl.DataFrame,
    limits: Limits | None = None,
    drawn: pl.DataFrame | None = None,
    ramp: Sequence[RampEntry] = (),
) -> pl.DataFrame:
    """The units with `hash_arm`, `agrees`, `fault`, `not_compared`, `layer_known` and `late`.

    units: one row per randomised unit with arm, source, ramp_stage, arm_bucket, traffic_bucket,
    bucket_scheme, layer_bucket, holdout_bucket and layer_draws. `hash_arm` is null where the brief's rules
    leave the unit out, and where they cannot be computed. `agrees` is null where nothing can be compared,
    and `not_compared` then says why; `fault` is the first rule that a compared unit breaks. drawn: unit_id
    and drawn_arm of a table drawn once, which goes before hash, traffic and layers; units that are not in it
    are `late`, and the hash holds for them. ramp: the transitions of the experiment's ramp; where there are
    any, they say which share was in force when a unit was assigned, whatever stage was logged with it.
    """
    bounds = limits or Limits()
    if brief.hash_scheme == "none":
        return units.with_columns(
            pl.lit(None, pl.String).alias("hash_arm"),
            pl.lit(None, pl.Boolean).alias("agrees"),
            pl.lit(None, pl.String).alias("fault"),
            pl.lit("no_bucket").alias("not_compared"),
            pl.lit(True).alias("layer_known"),
            pl.lit(False).alias("late"),
        )
    table = pl.DataFrame(schema={"unit_id": pl.String, "drawn_arm": pl.String}) if drawn is None else drawn
    arms = pl.DataFrame(
        {"arm_bucket": range(BUCKETS), "bucket_arm": arms_of_buckets(brief.hash_scheme, brief.shares())},
        schema={"arm_bucket": pl.Int64, "bucket_arm": pl.String},
    )
    same_hash = pl.col("bucket_scheme").fill_null(DEFAULT_SCHEME) == hash_of_scheme(brief.hash_scheme)
    known = pl.all_horizontal(pl.col("arm_bucket", "traffic_bucket").is_not_null()) & same_hash
    in_table = pl.col("drawn_arm").is_not_null()
    stages = units["ramp_stage"].unique().to_list()
    shares = {stage: traffic_of_stage(brief, stage) for stage in stages}
    traffic = {stage: brief.traffic if share is None else share for stage, share in shares.items()}
    in_force = pl.DataFrame(
        {"ramp_stage": list(traffic), "share": list(traffic.values())},
        schema={"ramp_stage": pl.String, "share": pl.Float64},
    )
    layer_fault, layer_known = _layer_faults(brief, bounds)
    outside = pl.col("traffic_bucket") >= pl.col("share") * BUCKETS - 1e-9
    whole = (
        units.with_columns(pl.col("arm_bucket").cast(pl.Int64), pl.col("ramp_stage").cast(pl.String))
        .join(arms, on="arm_bucket", how="left", maintain_order="left")
        .pipe(_with_share, in_force, ramp)
        .join(table, on="unit_id", how="left", maintain_order="left")
        .with_columns(
            pl.when(~in_table)
            .then(pl.coalesce(layer_fault, pl.when(outside).then(pl.lit("outside_traffic"))))
            .alias("left_out"),
            (layer_known | in_table).alias("layer_known"),
            pl.coalesce("drawn_arm", "bucket_arm").alias("bucket_arm"),
            (pl.lit(drawn is not None) & ~in_table).alias("late"),
        )
    )
    hash_arm = pl.when((known | in_table) & pl.col("left_out").is_null()).then("bucket_arm")
    not_compared = (
        pl.when(pl.col("source") != "logged")
        .then(pl.lit("computed"))
        .when(~in_table & pl.any_horizontal(pl.col("arm_bucket", "traffic_bucket").is_null()))
        .then(pl.lit("no_bucket"))
        .when(~in_table & ~same_hash)
        .then(pl.lit("other_scheme"))
    )
    other = pl.when(pl.col("bucket_arm") != pl.col("arm")).then(pl.lit("other_arm"))
    return (
        whole.with_columns(hash_arm.alias("hash_arm"), not_compared.alias("not_compared"))
        .with_columns(
            pl.when(pl.col("not_compared").is_null()).then(pl.coalesce("left_out", other)).alias("fault")
        )
        .with_columns(
            pl.when(pl.col("not_compared").is_null()).then(pl.col("fault").is_null()).alias("agrees")
        )
        .drop("bucket_arm", "share", "left_out", "drawn_arm")
    )


def _with_share(units: pl.DataFrame, by_stage: pl.DataFrame, ramp: Sequence[RampEntry]) -> pl.DataFrame:
    """The units with the share of traffic in force for each: by the ramp's log, or by its logged stage."""
    if not ramp:
        return units.join(by_stage, on="ramp_stage", how="left", maintain_order="left", nulls_equal=True)
    places = units.select(pl.col("assigned_at").cast(pl.Datetime("us"))).with_row_index("place")
    known = places.drop_nulls("assigned_at").sort("assigned_at", maintain_order=True)
    found = known.join_asof(
        shares_in_force(ramp), left_on="assigned_at", right_on="since", strategy="backward"
    )
    shares = places.join(found.select("place", "share"), on="place", how="left", maintain_order="left")
    return units.with_columns(shares["share"].fill_null(0.0).alias("share"))


def _layer_faults(brief: Brief, limits: Limits) -> tuple[pl.Expr, pl.Expr]:
    """What layer and holdout say of a unit, and whether its buckets were drawn as they draw today."""
    parts = pl.col("layer_draws").str.split("|")
    fault, known = pl.lit(None, pl.String), pl.lit(True)
    found = limits.layer_range(brief.name)
    if limits.layer is not None and found is not None:
        same = (parts.list.get(0, null_on_oob=True) == limits.layer.draw()).fill_null(False)
        same &= pl.col("layer_bucket").is_not_null()
        beyond = (pl.col("layer_bucket") < found[0]) | (pl.col("layer_bucket") >= found[1])
        fault = pl.when(same & beyond).then(pl.lit("outside_layer"))
        known &= same
    if limits.holdout is not None:
        same = (parts.list.get(1, null_on_oob=True) == limits.holdout.draw()).fill_null(False)
        same &= pl.col("holdout_bucket").is_not_null()
        held = pl.col("holdout_bucket") < limits.holdout.held_out()
        fault = pl.coalesce(pl.when(same & held).then(pl.lit("held_out")), fault)
        known &= same
    return fault, known


def fidelity_of(brief: Brief, table: pl.DataFrame) -> Fidelity | None:
    """How the logged arms stand against the brief's rules; None where the brief's scheme cannot tell.

    table: the assignment table (see `steps.assignment_table`), one row per randomised unit.
    """
    if brief.hash_scheme == "none":
        return None
    compared = table.filter(pl.col("not_compared").is_null())
    wrong = compared.filter(pl.col("fault").is_not_null())
    faults = dict(wrong.group_by("fault").len().iter_rows())
    uncompared = dict(table.drop_nulls("not_compared").group_by("not_compared").len().iter_rows())
    unknown = {
        stage for stage in table["ramp_stage"].unique().to_list() if traffic_of_stage(brief, stage) is None
    }
    return Fidelity(
        checked=compared.height,
        mismatched=wrong.height,
        faults={fault: faults[fault] for fault in FAULTS if fault in faults},
        not_compared={why: uncompared[why] for why in UNCOMPARED if why in uncompared},
        layer_unknown=compared.filter(~pl.col("layer_known")).height,
        stage_unknown=compared.filter(pl.col("ramp_stage").is_in(sorted(filter(None, unknown)))).height,
        groups=(
            *_groups(compared, "platform"),
            *_groups(compared, "app_version"),
            *_groups(compared.with_columns(pl.col("assigned_at").dt.date().alias("day")), "day"),
        ),
    )


def _groups(compared: pl.DataFrame, column: str) -> list[FidelityGroup]:
    counted = (
        compared.with_columns(pl.col(column).cast(pl.String).fill_null("(unknown)").alias("value"))
        .group_by("value")
        .agg(pl.len().alias("checked"), pl.col("fault").is_not_null().sum().alias("mismatched"))
        .filter(pl.col("mismatched") > 0)
        .sort(["mismatched", "checked", "value"], descending=[True, False, False])
    )
    name = "assigned_date" if column == "day" else column
    return [
        FidelityGroup.model_validate(
            {"column": name, "value": value, "checked": checked, "mismatched": mismatched}
        )
        for value, checked, mismatched in counted.head(GROUPS_KEPT).iter_rows()
    ]
