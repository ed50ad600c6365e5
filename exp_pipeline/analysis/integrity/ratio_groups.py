"""Units by arm in every platform, stratum and segment, for a reader who asks where a mismatch sits."""

from __future__ import annotations

import polars as pl

from exp_pipeline.analysis.effects.suppression import withheld_values
from exp_pipeline.analysis.integrity.sample_ratios import randomised
from exp_pipeline.analysis.unit_sums import UNKNOWN
from exp_pipeline.analysis.units import SEGMENT, Units
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import SampleRatioGroup
from exp_pipeline.stats.gates.srm import sample_ratio
from exp_pipeline.stats.multiplicity import holm

# A context column with more values than this tells of places one by one, not of groups.
_MOST_VALUES = 24


def sample_ratio_groups(units: Units, brief: Brief) -> tuple[SampleRatioGroup, ...]:
    """Does each group known at assignment have its planned shares? Ordered by column and value.

    Where clusters were randomised, clusters are counted. Units without a value are one group. Columns with
    more than 24 values are left out; groups below the brief's minimum cell, and those from which they would
    follow, are named without counts.
    """
    rows = randomised(units, units.frame)
    arms = list(brief.shares())
    named = {"stratum": "stratum"} if "stratum" in rows.columns else {}
    named |= {name.removeprefix(SEGMENT): name for name in sorted(rows.columns) if name.startswith(SEGMENT)}
    columns = {title: column for title, column in named.items() if 1 < _values(rows, column) <= _MOST_VALUES}
    hidden = withheld_values(rows, columns, arms, brief.minimum_cell)
    counted: dict[tuple[str, str], dict[str, int]] = {}
    for title, column in columns.items():
        told = rows.select("arm", pl.col(column).cast(pl.String).fill_null(UNKNOWN).alias("value"))
        for value, arm, count in told.group_by("value", "arm").len().sort("value", "arm").iter_rows():
            counts = counted.setdefault((title, value), dict.fromkeys(arms, 0))
            if arm in counts:
                counts[arm] = int(count)
    p_values = {
        place: sample_ratio(counts, brief.shares()).p_value
        for place, counts in counted.items()
        if place not in hidden
    }
    tested = {" ".join(place): p for place, p in p_values.items() if p is not None}
    corrected = holm(tested)
    return tuple(
        SampleRatioGroup(column=place[0], value=place[1], counts={}, suppressed=True)
        if place in hidden
        else SampleRatioGroup(
            column=place[0],
            value=place[1],
            counts=counts,
            p_value=p_values[place],
            p_adjusted=corrected.get(" ".join(place)),
        )
        for place, counts in sorted(counted.items())
    )


def _values(rows: pl.DataFrame, column: str) -> int:
    return rows[column].n_unique() if rows[column].count() else 0
