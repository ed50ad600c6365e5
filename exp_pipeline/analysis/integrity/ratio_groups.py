"""Units by arm in every platform, stratum and segment, for a reader who asks where a mismatch sits."""

from __future__ import annotations

import polars as pl

from exp_pipeline.analysis.integrity.sample_ratios import randomised
from exp_pipeline.analysis.units import SEGMENT, Units
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import SampleRatioGroup
from exp_pipeline.stats.gates.srm import sample_ratio
from exp_pipeline.stats.multiplicity import holm

# A context column with more values than this tells of places one by one, not of groups.
_MOST_VALUES = 24


def sample_ratio_groups(units: Units, brief: Brief) -> tuple[SampleRatioGroup, ...]:
    """Does each group known at assignment have its planned shares? Ordered by column and value.

    Where clusters were randomised, clusters are counted. Columns with more than 24 values are left out.
    """
    rows = randomised(units, units.frame)
    columns = {"stratum": "stratum"} | {
        name: name.removeprefix(SEGMENT) for name in sorted(rows.columns) if name.startswith(SEGMENT)
    }
    counted: dict[tuple[str, str], dict[str, int]] = {}
    for column, title in columns.items():
        if column not in rows.columns:
            continue
        known = rows.drop_nulls(column).with_columns(pl.col(column).cast(pl.String))
        if not 1 < known[column].n_unique() <= _MOST_VALUES:
            continue
        found = known.group_by(column, "arm").len().sort(column, "arm")
        for value, arm, count in found.iter_rows():
            counted.setdefault((title, value), dict.fromkeys(brief.shares(), 0))
            if arm in counted[title, value]:
                counted[title, value][arm] = int(count)
    raw = {place: sample_ratio(counts, brief.shares()).p_value for place, counts in counted.items()}
    names = {" ".join(place): place for place in counted}
    adjusted = holm({name: p for name, place in names.items() if (p := raw[place]) is not None})
    return tuple(
        SampleRatioGroup(
            column=place[0],
            value=place[1],
            counts=counts,
            p_value=raw[place],
            p_adjusted=adjusted.get(" ".join(place)),
        )
        for place, counts in sorted(counted.items())
    )
