"""What is measured, with what, how often, and what was promised of it."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
Measure = Literal["seconds", "inner_seconds"]


def peers_folder() -> Path:
    """Where the peers' environments lie: EXP_BENCH_PEERS, else where `make bench-peers` puts them."""
    named = os.environ.get("EXP_BENCH_PEERS")
    return Path(named) if named else Path(tempfile.gettempdir()) / "exp-bench-peers"


def interpreter(peer: str) -> Path | None:
    """The interpreter that has a peer; None where there is none. An interpreter may be named for all."""
    if peer in ("", "statsmodels"):
        return Path(sys.executable)
    folder = peers_folder()
    found = folder if folder.is_file() else folder / peer / "bin" / "python"
    return found if found.is_file() else None


@dataclass(frozen=True, slots=True)
class Side:
    """One way to do a task. peer: its package, empty for ours. slow: run once, beside one run of ours."""

    name: str
    command: tuple[str, ...]
    peer: str = ""
    slow: bool = False
    rows: bool = True
    did: str = ""

    def argv(self, data: Path, out: Path) -> list[str] | None:
        """What to run; None where the peer's environment is missing."""
        python = interpreter(self.peer)
        if python is None:
            return None
        places = {"python": str(python), "here": str(HERE), "data": str(data), "out": str(out)}
        exp = str(Path(sys.executable).parent / "exp")
        return [part.format(**places, exp=exp) for part in self.command]


def _ours(task: str) -> tuple[str, ...]:
    return ("{python}", "{here}/ours.py", task, "{data}", "{out}")


def _peer(script: str, task: str) -> tuple[str, ...]:
    return ("{python}", "{here}/peers/" + script, task, "{data}", "{out}")


@dataclass(frozen=True, slots=True)
class Task:
    """The same work done by several sides, in turn, `rounds` times. The first is ours."""

    name: str
    title: str
    sides: tuple[Side, ...]
    rounds: int = 3


@dataclass(frozen=True, slots=True)
class Promise:
    """A bound on one number of ours, or (against) on the ratio of another side's to it, at least."""

    task: str
    text: str
    bound: float
    measure: str = "seconds"
    side: str = "ours"
    against: tuple[str, ...] = ()


_OUTCOMES = tuple(part for place in range(19) for part in ("--outcome", f"m{place}"))
_ANALYZE = (
    "{exp}", "analyze", "{data}/units.parquet", "--arm", "arm", *_OUTCOMES, "--outcome", "m19/base",
    "--covariates", "p0", "--segments", "grade", "--out", "{out}",
)  # fmt: skip
_BATCH = (
    "{exp}", "analyze", "{data}/tests.parquet", "--test", "test", "--arm", "arm",
    "--trials", "impressions", "--successes", "clicks", "--out", "{out}",
)  # fmt: skip

TEA = ("tea-tasting, by segment", "tea-tasting, sums by DuckDB", "tea-tasting, sums by polars")

TASKS = (
    Task(
        "readout",
        "20 metrics x 10 segments x 3 arms on 1 M units",
        (
            Side(
                "ours", _ours("readout"),
                did="19 means and a ratio, plain and adjusted, overall and in 10 segments: 880 estimates",
            ),
            Side(
                "ours, exp analyze", _ANALYZE, rows=False,
                did="the command: all metrics adjusted for one column, with Holm, checks and JSON",
            ),
            Side(
                TEA[0], _peer("by_tea_tasting.py", "readout-segments"), "tea-tasting",
                did="the same 880 by `Experiment.analyze`: the whole, then each segment's rows, in polars",
            ),
            Side(
                TEA[1], _peer("by_tea_tasting.py", "readout-sums-duckdb"), "tea-tasting",
                did="the same 880; one query through `read_aggregates`, segments added up",
            ),
            Side(
                TEA[2], _peer("by_tea_tasting.py", "readout-sums-polars"), "tea-tasting",
                did="the same 880; the same in polars",
            ),
            Side(
                "mozanalysis", _peer("by_mozanalysis.py", "readout"), "mozanalysis", slow=True,
                did="19 means, plain and adjusted, no segments, no ratio: 76 estimates; also means by arm",
            ),
            Side(
                "cluster-experiments", _peer("by_cluster_experiments.py", "readout"), "cluster-experiments",
                slow=True,
                did="19 means, plain and adjusted, a plain ratio; no segments: 78 estimates",
            ),
        ),
    ),
    Task(
        "arithmetic",
        "858 estimates from sums that are there",
        (
            Side(
                "ours", _ours("arithmetic"),
                did="19 means plain and adjusted, one ratio, by segment and arm; as arrays",
            ),
            Side(
                "ours, objects", _ours("arithmetic-objects"), rows=False,
                did="the same with one object an estimate, as the peer makes them",
            ),
            Side(
                "gbstats", _peer("by_gbstats.py", "arithmetic"), "gbstats",
                did="the same estimates, absolute only, one object each; its runner of tables left out",
            ),
        ),
    ),
    Task(
        "clusters",
        "Errors by cluster: 20 metrics, 2,000 clusters, 1 M units",
        (
            Side("ours", _ours("clusters"), did="all metrics at once; absolute and relative"),
            Side(
                "statsmodels", _peer("by_statsmodels.py", "clusters"), "statsmodels",
                did="least squares with `cov_type='cluster'` on arrays, one metric after another",
            ),
        ),
        rounds=2,
    ),
    Task(
        "quantile",
        "Difference of 95th percentiles with its interval, 1 M rows of 50,000 learners",
        (Side("ours", _ours("quantile"), did="errors by learner, interval from order statistics"),),
    ),
    Task(
        "tests",
        "4,873 tests of two to six arms, Holm over all",
        (
            Side(
                "ours, exp analyze", _BATCH, rows=False,
                did="the command: every comparison, each test as a whole, Holm, sample ratios, JSON",
            ),
        ),
    ),
    Task(
        "imports",
        "Commands that only tell what they can do",
        (
            Side("exp --help", ("{exp}", "--help"), rows=False),
            Side("exp analyze --help", ("{exp}", "analyze", "--help"), rows=False),
        ),
        rounds=5,
    ),
)  # fmt: skip

PROMISES = (
    Promise("readout", "1 M units x 20 metrics x 10 segments: seconds", 1.2),
    Promise("readout", "the same: peak MB", 300.0, "peak_mb"),
    Promise("readout", "times faster than tea-tasting, its fastest way", 8.0, against=TEA),
    Promise("readout", "times faster than mozanalysis", 10.0, against=("mozanalysis",)),
    Promise("readout", "times faster than cluster-experiments", 10.0, against=("cluster-experiments",)),
    Promise(
        "arithmetic", "times faster than gbstats after the sums", 20.0, "inner_seconds", against=("gbstats",)
    ),
    Promise("clusters", "times faster than statsmodels, whole process", 15.0, against=("statsmodels",)),
    Promise(
        "clusters", "times faster than statsmodels, data loaded", 15.0, "inner_seconds",
        against=("statsmodels",),
    ),
    Promise("quantile", "p95 difference, data loaded: seconds", 0.2, "inner_seconds"),
    Promise("tests", "4,873 tests with Holm: seconds", 2.0, side="ours, exp analyze"),
    Promise("imports", "exp --help: seconds", 0.7, side="exp --help"),
    Promise("imports", "exp analyze --help: seconds", 0.7, side="exp analyze --help"),
)  # fmt: skip
