"""What is judged day by day: the sample ratio and the guardrails."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from exp_pipeline.model.readout import SampleRatioDay
from exp_pipeline.stats.srm import sample_ratio, sequential_sample_ratio


def daily_sample_ratio(
    counts_by_day: Mapping[date, Mapping[str, int]], shares: Mapping[str, float]
) -> tuple[SampleRatioDay, ...]:
    """Did the arms get their planned shares, seen at the end of each day?

    counts_by_day: units that entered on the day, by arm (of clusters where clusters were randomised). Each
    result is on all units so far. `p_value` is the chi-square of that one look; `sequential_p_value` may be
    looked at every day. Units in an arm without a planned share are left out here (the integrity check
    reports them).
    """
    looks: list[dict[str, int]] = []
    so_far = dict.fromkeys(shares, 0)
    ordered = sorted(counts_by_day)
    for day in ordered:
        so_far = {arm: count + int(counts_by_day[day].get(arm, 0)) for arm, count in so_far.items()}
        looks.append(so_far)
    if not looks:
        return ()
    path = sequential_sample_ratio(looks, shares).p_values
    return tuple(
        SampleRatioDay(
            day=day,
            counts=counts,
            p_value=sample_ratio(counts, shares).p_value,
            sequential_p_value=sequential if sum(counts.values()) else None,
        )
        for day, counts, sequential in zip(ordered, looks, path, strict=True)
    )
