"""A log in many small files, as it might land over weeks: late, twice, corrected, on days without events."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

from exp_pipeline.catalog import Catalog
from exp_pipeline.model.sources import Source
from exp_pipeline.simulate.landing import write_landing
from exp_pipeline.simulate.plan import ArmTruth, Faults, SimulatedExperiment, SimulationPlan
from exp_pipeline.steps.again.backfill_needs import windows_of
from exp_pipeline.steps.assignment import exposure
from exp_pipeline.steps.behaviour import facts, sessions
from exp_pipeline.steps.behaviour import learner_days as behaviour
from exp_pipeline.steps.context import DAY, Workbench
from exp_pipeline.steps.ingest import conform as ingest
from exp_pipeline.steps.ingest import landing
from exp_pipeline.steps.operating import daily
from exp_pipeline.steps.quality import days as quality
from exp_pipeline.store.landing import received_days

NAME = "hint-ladder"
START, DAYS = date(2026, 3, 2), 3
PLAN = SimulationPlan(
    name="late", seed=3, start=START, days=DAYS, schools=1, classes_per_school=2, learners=8,
    staff_accounts=1, sessions_per_learner_day=0.8, midnight_share=0.3,
    experiments=(
        SimulatedExperiment(
            name="hint-ladder", start=START + DAY, end=START + DAY * DAYS,
            arms=tuple(
                ArmTruth(name=name, share=share)
                for name, share in (("control", 0.34), ("ladder", 0.33), ("ladder-fast", 0.33))
            ),
        ),
    ),
    faults=Faults(retry_share=0.05, late_share=0.05, conflicting_duplicates=2, not_json=1),
)  # fmt: skip
Files = dict[str, bytes]


def late_catalog(catalog: Catalog) -> Catalog:
    """One brief, moved to the simulated days, and a source of corrections beside the canonical one."""
    brief = catalog.briefs["hint-ladder"]
    canonical = next(source for source in catalog.sources if source.name == "canonical")
    changes = {"name": "corrections", "files": "received_date=*/correction-*.ndjson", "correction": True}
    corrections = Source.model_validate({**canonical.model_dump(), **changes})
    moved = {"start": START + DAY, "end": START + DAY * DAYS}
    return replace(
        catalog,
        briefs={brief.name: brief.model_copy(update=moved)},
        sources=(*catalog.sources, corrections),
    )


def log_files(folder: Path, parts: int = 3) -> Files:
    """The log as files by name: each received day in several, and one file of each kind that comes late."""
    write_landing(PLAN, folder)
    found: Files = {}
    lines: list[bytes] = []
    for path in sorted(folder.rglob("*.gz")):
        own = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
        for part in range(parts):
            found[f"{path.parent.name}/part-{part}.ndjson"] = b"".join(own[part::parts])
        lines += own
    events = [json.loads(line) for line in lines if line.startswith(b'{"') and line.endswith(b"}\n")]
    hints = [one for one in events if one.get("event_name") == "hint_requested"]
    third = f"received_date={START + DAY * 2}"
    found[f"{third}/again.ndjson"] = found[f"received_date={START}/part-0.ndjson"]
    found[f"{third}/correction-1.ndjson"] = written(
        moved(one, hint_level=3, received_at=at(one["received_at"]) + timedelta(hours=1)) for one in hints[:3]
    )
    # Copies of events under the day before: an id that stands on two days.
    found[f"{third}/copies.ndjson"] = written(earlier(one) for one in hints[-2:])
    found[f"received_date={START + DAY * 9}/late.ndjson"] = written(
        moved(one, event_id=f"late-{one['event_id']}") for one in hints[:2]
    )
    found[f"received_date={START + DAY * 9}/lone.ndjson"] = written(
        moved(
            one,
            event_id=f"lone-{one['event_id']}",
            client_ts=at(one["client_ts"]) + DAY * 8,
            received_at=at(one["received_at"]) + DAY * 8,
        )
        for one in hints[:2]
    )
    return found


def at(text: object) -> datetime:
    """A moment as it stands in an event."""
    return datetime.fromisoformat(str(text))


def moved(event: Mapping[str, object], **changes: object) -> dict[str, object]:
    """An event with other values; moments as text."""
    told = {
        key: value.isoformat() if isinstance(value, datetime) else value for key, value in changes.items()
    }
    return {**event, **told}


def earlier(event: Mapping[str, object]) -> dict[str, object]:
    """The same event id a day earlier, received a day earlier too: this copy came first."""
    return moved(event, client_ts=at(event["client_ts"]) - DAY, received_at=at(event["received_at"]) - DAY)


def written(events: Iterable[Mapping[str, object]]) -> bytes:
    """Events as a file's bytes."""
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def put(bench: Workbench, files: Mapping[str, bytes]) -> None:
    """Let files land."""
    for name, content in files.items():
        path = bench.home.landing / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def run_over_everything(bench: Workbench) -> None:
    """Every step once over all that has landed; knows nothing of what is out of date."""
    for received in received_days(bench.home.landing):
        landing.land(bench, received)
    tags = {
        file.tag
        for manifest in bench.lake.manifests("landed", bench.lake.partitions("landed"))
        for file in manifest.files
    }
    windows = windows_of(date.fromisoformat(tag) for tag in tags)
    for step in (
        ingest.conform, behaviour.build_learner_days, sessions.build_sessions, behaviour.build_turns,
        exposure.build_assignments, exposure.build_exposures,
    ):  # fmt: skip
        for window in windows:
            step(bench, window)
    # A day's sessions depend on whether the day after it is there: once more, now that all are.
    for window in windows:
        sessions.build_sessions(bench, window)
    exposure.build_enrollments(bench)
    exposure.build_content(bench)
    for step in (
        facts.build_unit_days, daily.judge_sample_ratios, daily.judge_guardrails, quality.judge_quality,
    ):  # fmt: skip
        for window in windows:
            step(bench, window)


def contents(bench: Workbench) -> dict[str, tuple[str, object]]:
    """Every partition of the lake: digest of its content, and its facts."""
    found: dict[str, tuple[str, object]] = {}
    for folder in sorted(bench.home.lake.iterdir()):
        for one in bench.lake.manifests(folder.name, bench.lake.partitions(folder.name)):
            found[f"{one.table}/{one.partition}"] = (one.content_digest, dict(one.facts))
    return found


def parsed(content: bytes) -> list[dict[str, str]]:
    """The events of a file."""
    return [json.loads(line) for line in content.splitlines()]


def events_of(files: Files) -> list[dict[str, str]]:
    """The sound events of the plain files."""
    lines = [
        line for name, content in sorted(files.items()) if "/part-" in name for line in content.splitlines()
    ]
    return [json.loads(line) for line in lines if line.startswith(b'{"') and line.endswith(b"}")]
