"""Who is held out: the bucket of every unit met, drawn at the door from its raw id, kept by pseudonym.

Assignments tell the bucket of units that are in an experiment; units that are held out never are in one.
"""

from __future__ import annotations

import time
from datetime import date

import polars as pl

from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.model.layers import Layer
from exp_pipeline.steps.context import Workbench, received_day
from exp_pipeline.store.engine import quote
from exp_pipeline.store.lake import NewFile
from exp_pipeline.transform.layers import buckets_in

TABLE = "holdout_units"
DRAWS = "draws"
_MET = "holdout_units_met"
_COLUMN = {"learner": "learner_id", "class": "class_id"}


class HoldoutUnits:
    """The units of one received day with their buckets, gathered batch by batch, each unit once a holdout.

    Does nothing where the catalog has no holdout.
    """

    def __init__(self, bench: Workbench, received: date) -> None:
        self.bench, self.received = bench, received
        self.layers = bench.catalog.holdouts()
        if self.layers:
            typed = ", ".join(f"null::{kind} as {quote(name)}" for name, kind in table_columns(TABLE).items())
            bench.engine.build(_MET, f"select {typed} where false")

    def take(self) -> None:
        """Note the units of table `typed` (named in table `identities`) that were not met before."""
        if not self.layers:
            return
        engine = self.bench.engine
        there = {str(row[0]) for row in engine.connection.execute("describe typed").fetchall()}
        for layer in self.layers:
            column = _COLUMN[layer.unit]
            if column not in there:
                continue
            new = engine.frame(
                "select i.raw_id, i.pseudonym from identities as i "
                f"inner join (select distinct {column} as raw_id from typed) as t on i.raw_id = t.raw_id "
                f"where i.pseudonym not in (select unit_id from {_MET} where layer = $layer) "
                "order by i.pseudonym",
                {"layer": layer.name},
            )
            if not new.is_empty():
                engine.offer_frame("holdout_units_new", self._rows(layer, new))
                engine.connection.execute(f"insert into {_MET} by name select * from holdout_units_new")
                engine.drop("holdout_units_new")

    def _rows(self, layer: Layer, units: pl.DataFrame) -> pl.DataFrame:
        """Their rows of the table; raw ids go no further than here."""
        return units.select(
            pl.lit(layer.name).alias("layer"),
            pl.lit(layer.draw()).alias("draw"),
            pl.lit(layer.unit).alias("unit_type"),
            pl.col("pseudonym").alias("unit_id"),
            pl.Series("bucket", buckets_in(layer, units["raw_id"].to_list()), dtype=pl.Int64),
            pl.lit(self.received).alias("received_date"),
        )

    def commit(self, started: float | None = None) -> int | None:
        """Make what was noted the content of the received day; how many rows, None without a holdout."""
        if not self.layers:
            return None
        partition = received_day(self.received)
        columns = ", ".join(quote(name) for name in table_columns(TABLE))
        with self.bench.staged(TABLE, partition) as path:
            rows = self.bench.engine.write(f"select {columns} from {_MET} order by layer, unit_id", path)
            self.bench.commit(
                TABLE,
                partition,
                [NewFile(path, "all", rows)],
                time.monotonic() if started is None else started,
                facts={DRAWS: {layer.name: layer.draw() for layer in self.layers}},
            )
        return rows

    def close(self) -> None:
        """Forget the table."""
        if self.layers:
            self.bench.engine.drop(_MET)
