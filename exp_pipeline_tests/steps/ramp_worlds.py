"""A home with one or two ramped experiments whose days are judged as told, and no events at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from exp_pipeline.catalog import Catalog
from exp_pipeline.model.brief import Brief, Guardrail, KillRule, RampStage
from exp_pipeline.model.policies import Policies
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.operating.ramp_log import ReadinessRecord, add_readiness
from exp_pipeline.store.engine import Engine
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import state_log
from exp_pipeline_tests.analysis.builders import START, brief_of
from exp_pipeline_tests.steps.benches import commit_rows

DAY = timedelta(days=1)
STAGES = (
    RampStage(traffic=0.01, dwell_days=1, minimum_units=50),
    RampStage(traffic=0.05, dwell_days=1, minimum_units=100),
    RampStage(traffic=0.25, dwell_days=1),
    RampStage(traffic=0.5, dwell_days=1),
)


def ramped(name: str = "worked-example", **changes: Any) -> Brief:
    """A brief that goes to half of the units in four stages of a day each."""
    fields: dict[str, Any] = {
        "name": name,
        "hash_scheme": "flagd-v2",
        "traffic": 0.5,
        "ramp": STAGES,
        "guardrails": (
            Guardrail(metric="waiting", margin=0.1, kill=KillRule(action="roll_back")),
            Guardrail(metric="giveaway", margin=0.1, kill=KillRule(action="pause")),
        ),
    }
    return brief_of(**(fields | changes))


def moment(day: int, hour: int = 10, minute: int = 0) -> datetime:
    """A moment so many days after the start."""
    return datetime(START.year, START.month, START.day, hour, minute, tzinfo=UTC) + day * DAY


def catalog_of(briefs: Sequence[Brief], **more: Any) -> Catalog:
    """A catalog of these briefs and nothing else."""
    fields: dict[str, Any] = {
        "root": Path("nowhere"),
        "briefs": {brief.name: brief for brief in briefs},
        "metrics": {},
        "measures": {},
        "sources": (),
        "policies": Policies(),
        "problems": (),
        "files": {},
    }
    return Catalog(**(fields | more))


@contextmanager
def bench_over(root: Path, briefs: Sequence[Brief], **more: Any) -> Iterator[Workbench]:
    """A workbench over a folder; cheap enough to be opened by a process that is killed soon."""
    with duckdb.connect(":memory:") as connection:
        engine = Engine(connection, temporary=root / "spill", threads=1)
        yield Workbench(
            home=Home(root, more.pop("state_url", None)),
            catalog=catalog_of(briefs, **more),
            engine=engine,
            run_id="test",
        )


def judge_days(
    bench: Workbench,
    briefs: Sequence[Brief],
    first: date,
    last: date,
    *,
    killed: Mapping[tuple[date, str], str] | None = None,
    units: int = 10_000,
    p_value: float = 0.5,
) -> None:
    """Write verdicts for days, all good but for kill rules that act: (day, metric) -> experiment."""
    acting = killed or {}
    day = first
    while day <= last:
        commit_rows(
            bench, "unit_days", [{"event_date": day, "experiment": "any", "version": 1, "unit_id": "u"}]
        )
        commit_rows(
            bench,
            "srm_daily",
            [
                {
                    "experiment": brief.name,
                    "version": brief.version,
                    "event_date": day,
                    "arm": arm,
                    "units": units // 2,
                    "planned_share": share,
                    "p_value": p_value,
                    "sequential_p_value": p_value,
                }
                for brief in briefs
                for arm, share in brief.shares().items()
            ],
        )
        commit_rows(
            bench,
            "guardrails_daily",
            [
                {
                    "experiment": brief.name,
                    "version": brief.version,
                    "event_date": day,
                    "metric": guardrail.metric,
                    "arm": "treatment",
                    "status": "fail" if acting.get((day, guardrail.metric)) == brief.name else "pass",
                    "harm": 0.3,
                    "harm_bound": 0.4,
                    "margin": 0.1,
                    "kill_triggered": acting.get((day, guardrail.metric)) == brief.name,
                }
                for brief in briefs
                for guardrail in brief.guardrails
            ],
        )
        commit_rows(
            bench,
            "data_quality",
            [
                {
                    "event_date": day,
                    "rule": "volume",
                    "subject": "web",
                    "verdict": "pass",
                    "evidence": "",
                    "opens": "page",
                }
            ],
        )
        day += DAY


def make_ready(bench: Workbench, brief: Brief, newest: date) -> None:
    """Note that the brief has no gap, on the data up to a day."""
    record = ReadinessRecord(
        experiment=brief.name,
        version=brief.version,
        brief_digest=brief.digest(),
        newest_day=newest,
        gaps=(),
        at=moment(-1),
    )
    add_readiness(state_log(bench.home), brief, record)
