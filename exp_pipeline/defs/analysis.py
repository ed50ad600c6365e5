"""Analysis: one experiment a partition, from its dataset's snapshot to the memo."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import polars as pl

from exp_pipeline.defs import partitions as parts
from exp_pipeline.defs.images import svg_image
from exp_pipeline.defs.resources import PipelineResource
from exp_pipeline.defs.specs import metadata_of, spec
from exp_pipeline.model.readout import Readout
from exp_pipeline.report import plots, summary_markdown
from exp_pipeline.steps import experiment as chain
from exp_pipeline.steps import readouts

_ALL_DAYS = dg.AllPartitionMapping()
_SRM_CHECKS = (
    "sample_ratio_assigned",
    "sample_ratio_exposed",
    "sample_ratio_analysed",
    "sample_ratio_groups",
)
_EXPOSURE_CHECKS = ("exposure", "contamination", "fidelity")


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
        },
    )
    yield dg.AssetCheckResult(
        asset_key="mad",
        check_name="one_row_per_unit",
        passed=not doubled and not nobody,
        metadata={"units": frame.height, "units_with_two_rows": doubled, "units_without_arm": nobody},
    )


def _verdict_check(readout: Readout, name: str, checks: tuple[str, ...]) -> dg.AssetCheckResult:
    found = [check for check in readout.integrity if check.name in checks]
    failed = [check for check in found if check.verdict == "fail"]
    lines = [f"- **{check.title}** {check.verdict}: {check.evidence}" for check in found]
    return dg.AssetCheckResult(
        asset_key="integrity",
        check_name=name,
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "verdicts": dg.MetadataValue.md("\n".join(lines) or "No such check was made."),
            "failed": ", ".join(check.name for check in failed),
        },
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
            grain="One row per integrity check.",
        )
    ],
    name="check_integrity",
    check_specs=[
        dg.AssetCheckSpec(
            "srm",
            asset="integrity",
            description="Arms got their planned shares: assigned, exposed, analysed.",
            blocking=True,
        ),
        dg.AssetCheckSpec(
            "exposure",
            asset="integrity",
            description="Units were exposed to the arm they were assigned to, and to no other.",
            blocking=True,
        ),
    ],
)
def integrity(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    name = context.partition_key
    with pipeline.open(context) as bench:
        readout = readouts.readout_of(bench, name)
        frame = readouts.write_results(bench, name, ["integrity"])["integrity"]
    rows = [
        dg.TableRecord({"check": check.title, "verdict": check.verdict, "evidence": check.evidence[:300]})
        for check in readout.integrity
    ]
    yield dg.MaterializeResult(
        asset_key="integrity",
        metadata={
            "dagster/row_count": frame.height,
            "snapshot": readout.provenance.snapshot,
            "checks": dg.MetadataValue.table(rows),
            "sample_ratio": svg_image("Units by arm against plan", plots.sample_ratio(readout)),
        },
    )
    yield _verdict_check(readout, "srm", _SRM_CHECKS)
    yield _verdict_check(readout, "exposure", _EXPOSURE_CHECKS)


@dg.multi_asset(
    specs=[
        spec(
            name,
            group="analysis",
            description=f"{text} Primary and secondary effects are left out while the readout is blinded.",
            partitions=parts.experiments,
            deps=["integrity"],
            grain=grain,
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
    name = context.partition_key
    with pipeline.open(context) as bench:
        readout = readouts.readout_of(bench, name)
        frames = readouts.write_results(
            bench, name, ["estimates", "segments", "novelty", "robustness", "cumulative"]
        )
    drawn = {
        "estimates": plots.forest(readout),
        "segments": plots.segments(readout),
        "novelty": "",
        "robustness": "",
    }
    for part, picture in drawn.items():
        metadata: dict[str, Any] = {
            "dagster/row_count": frames[part].height,
            "snapshot": readout.provenance.snapshot,
            "blinded": readout.blinded,
        }
        if part == "estimates":
            metadata["effects"] = _effects_table(readout)
            metadata["guardrails_plot"] = svg_image(
                "Guardrails against their margins", plots.guardrails(readout)
            )
            if readout.cumulative:
                metadata["cumulative"] = svg_image("Cumulative effect", plots.cumulative(readout))
        if picture:
            metadata["plot"] = svg_image(part.capitalize(), picture)
        yield dg.MaterializeResult(asset_key=part, metadata=metadata)


def _effects_table(readout: Readout) -> dg.MetadataValue:
    rows = []
    for row in readout.estimates:
        rows.append(
            dg.TableRecord(
                {
                    "metric": row.title,
                    "role": row.role,
                    "arm": row.arm,
                    "effect": "" if row.absolute is None else f"{row.absolute:.6g}",
                    "lower": "" if row.ci_lower is None else f"{row.ci_lower:.6g}",
                    "upper": "" if row.ci_upper is None else f"{row.ci_upper:.6g}",
                    "p": "" if row.p_value is None else f"{row.p_value:.3g}",
                    "method": row.method,
                    "note": row.reason,
                }
            )
        )
    columns = [
        dg.TableColumn(name)
        for name in ("metric", "role", "arm", "effect", "lower", "upper", "p", "method", "note")
    ]
    return dg.MetadataValue.table(rows, schema=dg.TableSchema(columns=columns))


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
)
def decided(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None]]:
    name = context.partition_key
    with pipeline.open(context) as bench:
        memo = readouts.write_memo(bench, name)
    decision = memo.readout.decision
    rules = [
        dg.TableRecord(
            {"arm": arm.arm, "rule": rule.rule, "verdict": rule.verdict, "evidence": rule.evidence[:300]}
        )
        for arm in decision.arms
        for rule in arm.rules
    ]
    yield dg.MaterializeResult(
        asset_key="decision",
        metadata={
            "outcome": decision.outcome,
            "summary": dg.MetadataValue.md(decision.summary),
            "by_arm": dg.MetadataValue.json({arm.arm: arm.outcome for arm in decision.arms}),
            "rules": dg.MetadataValue.table(
                rules,
                schema=dg.TableSchema(
                    columns=[dg.TableColumn(column) for column in ("arm", "rule", "verdict", "evidence")]
                ),
            ),
            "dagster/row_count": len(rules),
            "snapshot": memo.snapshot,
        },
    )
    yield dg.MaterializeResult(
        asset_key="memo",
        metadata={
            "summary": dg.MetadataValue.md(summary_markdown(memo.readout)),
            "plot": svg_image("Effects", plots.forest(memo.readout)),
            "page": dg.MetadataValue.path(str(memo.html.resolve())),
            "markdown": dg.MetadataValue.path(str(memo.markdown.resolve())),
            "json": dg.MetadataValue.path(str(memo.json.resolve())),
            "snapshot": memo.snapshot,
            "seconds": memo.seconds,
        },
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
    name = context.partition_key
    with pipeline.open(context) as bench:
        text = chain.brief_of(bench, name)
        lock = chain.lock_if_started(bench, text, datetime.now(UTC))
    changes = [f"- {change.field}: {change.locked_value} → {change.current_value}" for change in lock.changes]
    return dg.MaterializeResult(
        asset_key="brief",
        metadata={
            "hypothesis": text.hypothesis.sentence(),
            "owner": text.owner,
            "on_call": text.on_call,
            "digest": text.digest(),
            "locked": lock.locked_digest is not None,
            "changes_since_lock": dg.MetadataValue.md("\n".join(changes) or "None."),
            "brief": dg.MetadataValue.json(json.loads(text.canonical_json())),
        },
    )
