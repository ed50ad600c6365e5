"""What the warehouse holds itself: experiments, their results, decisions, incidents and definitions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import Readout
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.decision_log import decisions
from exp_pipeline.steps.operating.incidents import incidents
from exp_pipeline.steps.warehouse import columns as shown
from exp_pipeline.store.state import state_log
from exp_pipeline.store.warehouse import ShownTable, Value

Row = tuple[Value, ...]
ABOUT = {
    "hidden": "Before the planned look or horizon no table holds a primary or secondary effect, and no row "
    "of a unit says its arm: it is null in units, assignments, exposures and events while an experiment is "
    "blinded, and unit_days and unit_weeks never have one. Counts by arm are in arms and srm_daily. Pinned "
    "versions that differ between arms (events, turns) still tell the arm of an answer to who looks for it, "
    "and so do the lake's own files: whoever must not be able to know needs no access to either.",
    "state": "Views name the Parquet files that were current when this file was built, so all show one "
    "state. An open connection keeps it; close all connections of the process to see a newer one.",
    "replaced files": "A file of the lake stays readable for at least an hour after its replacement. A query "
    "that names a file that is gone fails with an IO error: build the warehouse again and reconnect.",
    "moved folder": "Views name files by absolute path, since no other kind works from every tool. After "
    "the data folder was moved or copied, build the warehouse again (`exp warehouse`); the Python workspace "
    "reads a moved one as it is.",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one experiment stands: brief, current snapshot, its readout or why there is none."""

    name: str
    brief: Brief | None
    snapshot: str | None
    readout: Readout | None
    note: str | None


def result_tables(bench: Workbench, standings: Sequence[Standing]) -> list[ShownTable]:
    """Every table of the warehouse but those of columns, in the order in which they are read."""
    readouts = [one.readout for one in standings if one.readout is not None]
    parts: list[tuple[str, str, shown.Columns, Iterable[Row]]] = [
        ("experiments", "One experiment as it stands now.", shown.EXPERIMENTS, map(_experiment, standings)),
        (
            "arms",
            "One arm of one experiment, with its units as the current readout counts them.",
            shown.ARMS,
            chain.from_iterable(map(_arms, standings)),
        ),
        (
            "estimates",
            "One effect of one arm for one metric, over all units; only guardrails while blinded.",
            shown.ESTIMATES,
            chain.from_iterable(map(_estimates, readouts)),
        ),
        (
            "segments",
            "One effect of one arm for one metric in one value of a declared segment; none while blinded.",
            shown.SEGMENTS,
            chain.from_iterable(map(_segments, readouts)),
        ),
        (
            "verdicts",
            "One integrity check of one experiment.",
            shown.VERDICTS,
            chain.from_iterable(map(_verdicts, readouts)),
        ),
        (
            "guardrails",
            "One guardrail in one treatment arm.",
            shown.GUARDRAILS,
            chain.from_iterable(map(_guardrails, readouts)),
        ),
        (
            "rules",
            "One decision rule asked of one treatment arm, in its order.",
            shown.RULES,
            chain.from_iterable(map(_rules, readouts)),
        ),
        (
            "decisions",
            "One recommendation of a current readout: for an experiment as a whole, or for one of its arms.",
            shown.DECISIONS,
            chain.from_iterable(map(_decisions, readouts)),
        ),
        (
            "decision_log",
            "One logged decision, recommended by rules or taken by people; rows are only ever added.",
            shown.DECISION_LOG,
            _decision_log(bench),
        ),
        (
            "incidents",
            "One incident, from its first failing day to its recovery.",
            shown.INCIDENTS,
            _incidents(bench),
        ),
        ("metrics", "One metric of the catalog as it is defined now.", shown.METRICS, _metrics(bench)),
        (
            "about",
            "What to know before reading this file.",
            shown.columns(("topic", "VARCHAR", "Topic."), ("words", "VARCHAR", "What holds.")),
            ABOUT.items(),
        ),
    ]
    return [ShownTable(name, grain, columns, tuple(rows)) for name, grain, columns, rows in parts]


def _experiment(one: Standing) -> Row:
    readout = one.readout
    brief = readout.brief if readout is not None else one.brief
    described: Row = (None,) * 9
    if brief is not None:
        described = (
            brief.version, brief.title, brief.hypothesis.sentence(), brief.owner, brief.risk_class,
            brief.randomisation_unit, brief.start, brief.end, brief.primary,
        )  # fmt: skip
    found: Row = (None,) * 7
    if readout is not None:
        found = (
            readout.as_of, readout.horizon_reached, readout.blinded, readout.blinding_reason,
            len(readout.lock.changes), readout.decision.outcome, readout.decision.summary,
        )  # fmt: skip
    return (one.name, *described, one.snapshot, *found, one.note)


def _arms(one: Standing) -> Iterable[Row]:
    brief = one.readout.brief if one.readout is not None else one.brief
    if brief is None:
        return
    counts = {count.arm: count for count in one.readout.counts} if one.readout is not None else {}
    snapshot = one.snapshot if one.readout is not None else None
    for arm in brief.arms:
        role = "control" if arm.name == brief.control else "treatment"
        count = counts.get(arm.name)
        units: Row = (None,) * 4
        if count is not None:
            units = (count.assigned, count.exposed, count.analysed, count.contaminated)
        yield (one.name, snapshot, arm.name, role, arm.description, arm.share, *units)


def _estimates(readout: Readout) -> Iterable[Row]:
    for kind, estimates in (("main", readout.estimates), ("unadjusted", readout.unadjusted)):
        for estimate in estimates:
            # The readout leaves these out itself; a fault there must not show here what is hidden.
            if readout.blinded and (estimate.role != "guardrail" or kind != "main"):
                continue
            yield (kind, *(getattr(estimate, column.name) for column in shown.ESTIMATES[1:]))


def _segments(readout: Readout) -> Iterable[Row]:
    for estimate in () if readout.blinded else readout.segments:
        yield tuple(getattr(estimate, column.name) for column in shown.SEGMENTS)


def _of(readout: Readout) -> Row:
    return (readout.experiment, readout.provenance.snapshot)


def _verdicts(readout: Readout) -> Iterable[Row]:
    for check in readout.integrity:
        yield (*_of(readout), check.name, check.title, check.verdict, check.evidence)


def _guardrails(readout: Readout) -> Iterable[Row]:
    for guardrail in readout.guardrails:
        yield (*_of(readout), *(getattr(guardrail, column.name) for column in shown.GUARDRAILS[2:]))


def _rules(readout: Readout) -> Iterable[Row]:
    for arm in readout.decision.arms:
        for position, rule in enumerate(arm.rules, start=1):
            told = (rule.rule, rule.asks, rule.evidence, rule.verdict, rule.forces, rule.reached)
            yield (*_of(readout), arm.arm, position, *told)


def _decisions(readout: Readout) -> Iterable[Row]:
    yield (*_of(readout), None, readout.decision.outcome, readout.decision.summary)
    for arm in readout.decision.arms:
        yield (*_of(readout), arm.arm, arm.outcome, arm.because)


def _decision_log(bench: Workbench) -> Iterable[Row]:
    for row in decisions(bench.home):
        yield (
            _utc(row.at), row.kind, row.experiment, row.snapshot, row.as_of, row.outcome, row.arm, row.by,
            row.because, row.rule, row.recommended, row.differs, row.planned, row.effects_hidden,
            row.brief_digest, row.code_version, row.memo,
        )  # fmt: skip


def _incidents(bench: Workbench) -> Iterable[Row]:
    for one in incidents(state_log(bench.home)):
        yield (
            one.id, one.rule, one.subject, one.experiment, one.severity, one.status, _utc(one.opened_at),
            one.since, one.last_day, None if one.resolved_at is None else _utc(one.resolved_at),
            one.acknowledged_by, one.owner, one.hurt, one.evidence, one.number, one.threshold,
            one.first_action, one.runbook,
        )  # fmt: skip


def _metrics(bench: Workbench) -> Iterable[Row]:
    users: dict[str, list[str]] = {}
    for brief in bench.catalog.briefs.values():
        for name in brief.metric_names() if brief.table is None else ():
            users.setdefault(name, []).append(brief.name)
    for name, one in sorted(bench.catalog.metrics.items()):
        yield (
            name, one.title, one.definition, one.owner, one.type, one.numerator, one.denominator, one.per,
            one.window_days, one.direction, one.kind, one.display, one.drives, one.counter_metric,
            tuple(sorted(users.get(name, ()))),
        )  # fmt: skip


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
