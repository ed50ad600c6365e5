"""Analysis: one experiment a partition, from its dataset's snapshot to the memo."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import dagster as dg
import polars as pl

from exp_pipeline.defs import integrity_checks
from exp_pipeline.defs import partitions as parts
from exp_pipeline.defs.images import glance, svg_image
from exp_pipeline.defs.resources import PipelineResource
from exp_pipeline.defs.result_tables import (
    causes_table,
    dictionary_schema,
    effects_table,
    rows_table,
    rules_table,
    spoken,
    verdicts_table,
)
from exp_pipeline.defs.specs import metadata_of, metadata_of_files, result_columns, spec
from exp_pipeline.model.readout import Readout
from exp_pipeline.report import plots, summary_markdown
from exp_pipeline.report.facts import primary_display
from exp_pipeline.steps.again.backfill_needs import backfill_needs
from exp_pipeline.steps.experiments import chain, readouts, starting
from exp_pipeline.steps.experiments.dictionary import read_dictionary
from exp_pipeline.steps.operating.life import life, life_markdown

_ALL_DAYS = dg.AllPartitionMapping()
# Asset: its plots, each by the name and title under which the UI shows it.
_EFFECT_PLOTS: dict[str, dict[str, tuple[str, Callable[[Readout], str]]]] = {
    "estimates": {
        "forest_plot": ("Primary effects against zero and threshold", plots.forest),
        "guardrail_margins": ("Guardrails against their margins", plots.guardrails),
        "cumulative_effect": ("Cumulative effect by day", plots.cumulative),
    },
    "segments": {"segments_plot": ("Primary effect by segment", plots.segments)},
    "novelty": {
        "by_week_plot": ("Primary effect by week since assignment", plots.novelty),
        "by_day_plot": ("Primary effect by day since assignment", plots.novelty_days),
    },
    "robustness": {},
}


def _shown(readout: Readout) -> str:
    """Whether effects are shown, and why not."""
    return readout.blinding_reason if readout.blinded else "Effects are shown."


@dg.multi_asset(
    specs=[
        spec(
            "mad",
            group="analysis",
            description="The minimal analytic dataset: an immutable snapshot named by the digest of "
            "everything it is made from.",
            table="mad",
            partitions=parts.experiments,
            deps=[
                "brief",
                dg.AssetDep("unit_days", partition_mapping=_ALL_DAYS),
                dg.AssetDep("exposures", partition_mapping=_ALL_DAYS),
                dg.AssetDep("assignments", partition_mapping=_ALL_DAYS),
            ],
        )
    ],
    name="take_snapshot",
    check_specs=[
        dg.AssetCheckSpec(
            "one_row_per_unit",
            asset="mad",
            description="No unit has two rows, and none is without an arm.",
            blocking=True,
        )
    ],
)
def mad(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    name = context.partition_key
    with pipeline.open(context) as bench:
        snapshot = chain.take_snapshot(bench, name)
        frame = pl.read_parquet(snapshot.folder / "mad.parquet")
        notes = read_dictionary(bench, name, snapshot.snapshot)
    arms = dict(frame.group_by("arm").len().sort("arm").iter_rows()) if frame.height else {}
    doubled = frame.height - frame["unit_id"].n_unique() if frame.height else 0
    nobody = frame["arm"].null_count()
    yield dg.MaterializeResult(
        asset_key="mad",
        metadata={
            **metadata_of(snapshot.written),
            "snapshot": snapshot.snapshot,
            "as_of": snapshot.as_of.isoformat(),
            "made_now": snapshot.made_now,
            "units_by_arm": dg.MetadataValue.json(arms),
            "columns": len(frame.columns),
            "dagster/column_schema": dictionary_schema([note for note in notes if note.file == "mad"]),
            "weeks": dg.MetadataValue.table_schema(
                dictionary_schema([note for note in notes if note.file == "weeks"])
            ),
        },
    )
    yield dg.AssetCheckResult(
        asset_key="mad",
        check_name="one_row_per_unit",
        passed=not doubled and not nobody,
        metadata={"units": frame.height, "units_with_two_rows": doubled, "units_without_arm": nobody},
    )


@dg.multi_asset(
    specs=[
        spec(
            "integrity",
            group="analysis",
            description="Every integrity check of the experiment, in the order in which effects depend "
            "on them. A failed "
            "one stops the effects below; the memo is written all the same and says `investigate`.",
            partitions=parts.experiments,
            deps=["mad"],
            kinds=("python", "parquet"),
            grain="One row per integrity check.",
            columns=result_columns(readouts.RESULTS["integrity"]),
        )
    ],
    name="check_integrity",
    check_specs=integrity_checks.specs(),
)
def integrity(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    name, began = context.partition_key, monotonic()
    with pipeline.open(context) as bench:
        readout = readouts.readout_of(bench, name)
        frame = readouts.write_results(bench, name, ["integrity"])["integrity"]
        file = readouts.folder_of(bench, name, readout.provenance.snapshot) / "integrity.parquet"
    causes = causes_table(readout.integrity)
    yield dg.MaterializeResult(
        asset_key="integrity",
        metadata={
            "verdict": integrity_checks.verdict(readout),
            **({"causes": causes} if causes is not None else {}),
            "checks": verdicts_table(readout.integrity),
            "sample_ratio_by_day": svg_image("Units by arm against plan", plots.sample_ratio(readout)),
            "sample_ratio_by_group": svg_image("Split within groups", plots.sample_ratio_groups(readout)),
            "snapshot": readout.provenance.snapshot,
            **metadata_of_files(frame.height, monotonic() - began, file),
        },
    )
    yield from integrity_checks.results(readout)


@dg.multi_asset(
    specs=[
        spec(
            name,
            group="analysis",
            description=f"{text} Primary and secondary effects are left out while the readout is blinded.",
            partitions=parts.experiments,
            deps=["integrity"],
            kinds=("python", "parquet"),
            grain=grain,
            columns=result_columns(readouts.RESULTS[name]),
        )
        for name, text, grain in (
            (
                "estimates",
                "Effects with their intervals, absolute and relative.",
                "One row per metric and treatment arm.",
            ),
            (
                "segments",
                "The primary effect in each declared segment.",
                "One row per segment value and treatment arm.",
            ),
            (
                "novelty",
                "The primary effect by week since assignment.",
                "One row per week and treatment arm.",
            ),
            (
                "robustness",
                "The primary effect estimated in other ways.",
                "One row per variant and treatment arm.",
            ),
        )
    ],
    name="estimate_effects",
)
def estimates(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None]]:
    name, began = context.partition_key, monotonic()
    with pipeline.open(context) as bench:
        readout = readouts.readout_of(bench, name)
        beside = [one for one in readouts.RESULTS if one not in _EFFECT_PLOTS and one != "integrity"]
        frames = readouts.write_results(bench, name, [*_EFFECT_PLOTS, *beside])
        folder = readouts.folder_of(bench, name, readout.provenance.snapshot)
    for part, drawn in _EFFECT_PLOTS.items():
        metadata: dict[str, Any] = {"shown": _shown(readout)}
        if part == "estimates":
            small = glance(readout.estimates)
            if small is not None:
                metadata["primary_effects"] = small
            metadata["effects"] = effects_table(readout)
        else:
            metadata["effects"] = rows_table(frames[part], primary_display(readout))
        metadata |= {name: svg_image(title, draw(readout)) for name, (title, draw) in drawn.items()}
        metadata |= {
            "snapshot": readout.provenance.snapshot,
            "blinded": readout.blinded,
            **metadata_of_files(frames[part].height, monotonic() - began, folder / f"{part}.parquet"),
        }
        yield dg.MaterializeResult(asset_key=part, metadata=metadata)


@dg.multi_asset(
    specs=[
        spec(
            "decision",
            group="analysis",
            description="What the brief's rules say, in their order. It re-reads the integrity "
            "verdicts of the snapshot, so "
            "it is right also where the assets above were stopped by a failed check.",
            partitions=parts.experiments,
            deps=["mad"],
            kinds=("python", "json"),
            grain="One row per rule and treatment arm.",
        ),
        spec(
            "memo",
            group="analysis",
            description="The decision memo: a page for people, Markdown for a chat or pull request, "
            "JSON for machines.",
            partitions=parts.experiments,
            deps=["decision"],
            kinds=("html", "markdown", "json"),
            grain="One memo per experiment and snapshot.",
        ),
    ],
    name="decide",
    check_specs=[
        dg.AssetCheckSpec(
            "fresh",
            asset="memo",
            description="The lake still holds what the readout's snapshot was made from; late data, "
            "corrections and changed definitions make it stale.",
        )
    ],
)
def decided(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    name = context.partition_key
    with pipeline.open(context) as bench:
        memo = readouts.write_memo(bench, name, decided_at=datetime.now(UTC))
    decision = memo.readout.decision
    small = glance(memo.readout.estimates)
    causes = causes_table(memo.readout.integrity)
    yield dg.MaterializeResult(
        asset_key="decision",
        metadata={
            "outcome": spoken(decision.outcome),
            "summary": dg.MetadataValue.md(decision.summary),
            "by_arm": dg.MetadataValue.json({arm.arm: spoken(arm.outcome) for arm in decision.arms}),
            **({"primary_effects": small} if small is not None else {}),
            "rules": rules_table(decision),
            **({"integrity_causes": causes} if causes is not None else {}),
            "snapshot": memo.snapshot,
            **metadata_of_files(sum(len(arm.rules) for arm in decision.arms), memo.seconds, memo.json),
        },
    )
    yield dg.MaterializeResult(
        asset_key="memo",
        metadata={
            "summary": dg.MetadataValue.md(summary_markdown(memo.readout)),
            **({"primary_effects": small} if small is not None else {}),
            "forest_plot": svg_image("Effects", plots.forest(memo.readout)),
            "guardrail_margins": svg_image(
                "Guardrails against their margins", plots.guardrails(memo.readout)
            ),
            "sample_ratio_by_day": svg_image("Units by arm against plan", plots.sample_ratio(memo.readout)),
            "page": dg.MetadataValue.path(str(memo.html.resolve())),
            "markdown": dg.MetadataValue.path(str(memo.markdown.resolve())),
            "json": dg.MetadataValue.path(str(memo.json.resolve())),
            "snapshot": memo.snapshot,
            "stale": memo.stale or "no",
            **metadata_of_files(1, memo.seconds, memo.html, memo.markdown, memo.json),
        },
    )
    yield dg.AssetCheckResult(
        asset_key="memo",
        check_name="fresh",
        passed=not memo.stale,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"experiment": name, "snapshot": memo.snapshot, "changed": memo.stale or "Nothing."},
    )


@dg.multi_asset(
    specs=[
        spec(
            "brief",
            group="planning",
            description="The experiment's contract as written, and how it stands against the lock made "
            "at its start.",
            partitions=parts.experiments,
            kinds=("yaml",),
            grain="One brief per experiment.",
        )
    ],
    name="lock_brief",
)
def brief(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    name, began = context.partition_key, monotonic()
    with pipeline.open(context) as bench:
        text = chain.brief_of(bench, name)
        lock = starting.lock_if_started(bench, text, datetime.now(UTC))
        needs = backfill_needs(bench, [name])
        lived = life(bench, text, datetime.now(UTC))
    changes = [
        f"- {change.field}: {change.locked_value} → {change.current_value}"
        + (f" (first seen {change.first_seen:%Y-%m-%d %H:%M} UTC)" if change.first_seen else "")
        for change in lock.changes
    ]
    return dg.MaterializeResult(
        asset_key="brief",
        metadata={
            **metadata_of_files(1, monotonic() - began),
            "hypothesis": text.hypothesis.sentence(),
            "owner": text.owner,
            "on_call": text.on_call,
            "digest": text.digest(),
            "life": lived.now.label,
            "life_so_far": dg.MetadataValue.md(life_markdown(lived)),
            "locked": lock.locked_digest is not None,
            "gaps_when_locked": dg.MetadataValue.md("\n".join(f"- {gap}" for gap in lock.gaps) or "None."),
            "changes_since_lock": dg.MetadataValue.md("\n".join(changes) or "None."),
            "days_to_make_again": dg.MetadataValue.md(
                "\n".join(f"- {need.sentence()}" for need in needs) or "None."
            ),
            "brief": dg.MetadataValue.json(json.loads(text.canonical_json())),
        },
    )
