"""The tables that every statistic of the benchmark reads: made up, the same for every run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

UNITS, METRICS, SEGMENTS, CLUSTERS, TESTS = 1_000_000, 20, 10, 2_000, 4_873
ARMS = ("control", "hints", "worked")
# Of the metrics: two are yes or no, three are counts, the last is a ratio, the others are continuous.
YES_OR_NO, COUNTS, RATIO = (0, 1), (2, 3, 4), METRICS - 1
# What analysts' tools write by default.
ROW_GROUP = 122_880
SEED = 20_261_122


def make(folder: Path, share: float) -> None:
    """Write all tables, each with `share` of its rows, unless this was done before."""
    done = folder / "made.json"
    stamp = {"seed": SEED, "share": share, "form": 1}
    if done.is_file() and json.loads(done.read_text(encoding="utf-8")) == stamp:
        return
    folder.mkdir(parents=True, exist_ok=True)
    units = int(UNITS * share)
    _write(_units(units), folder / "units.parquet")
    _write(_clustered(units, max(40, int(CLUSTERS * share))), folder / "clusters.parquet")
    _write(_latencies(units), folder / "latencies.parquet")
    _write(_content_tests(max(50, int(TESTS * share))), folder / "tests.parquet")
    _sums(folder)
    done.write_text(json.dumps(stamp), encoding="utf-8")


def _write(frame: pl.DataFrame, path: Path) -> None:
    frame.write_parquet(path, compression="zstd", row_group_size=ROW_GROUP)


def _named(codes: NDArray[np.int64], names: list[str]) -> pl.Series:
    return pl.Series(np.array(names)[codes])


def _metrics(
    rng: np.random.Generator, ability: NDArray[np.float64], arm: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Metrics m0 to m18 with their values before the start, p0 to p18; p19 is of the ratio m19 / base."""
    n = ability.shape[0]
    found: dict[str, NDArray[np.float64]] = {}
    base = 1.0 + np.asarray(rng.poisson(12.0, n), dtype=np.float64)
    for place in range(METRICS):
        before = ability + rng.normal(0.0, 1.0, n)
        effect = 0.01 * (place % 4) * (arm == 1) - 0.01 * (place % 3) * (arm == 2)
        score = 0.6 * before + rng.normal(0.0, 1.0, n) + effect
        if place in YES_OR_NO:
            now = (score > 0.5).astype(np.float64)
        elif place in COUNTS:
            now = rng.poisson(np.exp(0.4 * np.clip(score, -3.0, 3.0))).astype(np.float64)
        elif place == RATIO:
            now = rng.binomial(base.astype(np.int64), 1.0 / (1.0 + np.exp(-score))).astype(np.float64)
        else:
            now = 20.0 + 5.0 * score
        found |= {f"p{place}": before, f"m{place}": now}
    return found | {"base": base}


def _units(n: int) -> pl.DataFrame:
    """One row a unit: arm, grade (ten segments), metrics."""
    rng = np.random.default_rng(SEED)
    arm = rng.integers(0, len(ARMS), n)
    grade = rng.integers(0, SEGMENTS, n)
    ability = rng.normal(0.0, 1.0, n)
    columns = {
        "unit": pl.Series(np.arange(n)),
        "arm": _named(arm, list(ARMS)),
        "grade": _named(grade, [f"grade {place}" for place in range(SEGMENTS)]),
    }
    found = _metrics(rng, ability, arm)
    return pl.DataFrame(columns | {name: pl.Series(values) for name, values in found.items()})


def _clustered(n: int, clusters: int) -> pl.DataFrame:
    """Twenty outcomes of units in classes of uneven size; whole classes were given arms."""
    rng = np.random.default_rng(SEED + 1)
    weight = rng.gamma(4.0, 1.0, clusters)
    cluster = rng.choice(clusters, n, p=weight / weight.sum())
    treated = rng.permutation(clusters) % 2
    columns = {"class": pl.Series(cluster), "treated": pl.Series(treated[cluster].astype(np.float64))}
    shared = rng.normal(0.0, 1.0, clusters)
    for place in range(METRICS):
        own = 0.3 * shared + rng.normal(0.0, 0.2, clusters)
        values = 10.0 + own[cluster] + rng.normal(0.0, 1.0, n) + 0.02 * (place % 3) * treated[cluster]
        columns[f"m{place}"] = pl.Series(values)
    return pl.DataFrame(columns)


def _latencies(n: int) -> pl.DataFrame:
    """One row an answer: its latency, the learner it belongs to, the learner's arm."""
    rng = np.random.default_rng(SEED + 2)
    learners = max(n // 20, 10)
    learner = rng.integers(0, learners, n)
    treated = rng.integers(0, 2, learners).astype(bool)
    own = rng.normal(0.0, 0.3, learners)
    latency = np.exp(6.5 + own[learner] + rng.normal(0.0, 0.7, n)) * np.where(treated[learner], 0.98, 1.0)
    return pl.DataFrame(
        {"latency_ms": latency, "learner": learner.astype(np.int64), "treated": treated[learner]}
    )


def _content_tests(tests: int) -> pl.DataFrame:
    """One row an arm: many small tests of two to six arms, impressions and clicks of each."""
    rng = np.random.default_rng(SEED + 3)
    arms = rng.choice([2, 3, 4, 5, 6], tests, p=[0.30, 0.25, 0.30, 0.10, 0.05])
    test = np.repeat(np.arange(tests), arms)
    level = np.repeat(rng.beta(2.0, 130.0, tests), arms)
    rate = np.clip(level * np.exp(rng.normal(0.0, 0.12, test.size)), 0.0005, 0.5)
    shown = rng.poisson(np.repeat(rng.gamma(6.0, 600.0, tests) + 200.0, arms))
    place = np.arange(test.size) - np.repeat(np.cumsum(arms) - arms, arms)
    return pl.DataFrame(
        {
            "test": _named(test, [f"t{one:05d}" for one in range(tests)]),
            "arm": _named(place, ["a", "b", "c", "d", "e", "f"]),
            "impressions": shown.astype(np.int64),
            "clicks": rng.binomial(shown, rate).astype(np.int64),
        }
    )


def _sums(folder: Path) -> None:
    """Raw sums of the units by segment (all of them first) and arm: what a warehouse hands to arithmetic.

    n: (11, 3); sums: (11, 3, k) and products: (11, 3, k, k) of the columns of each metric, k = 2 for
    (metric, before); for the ratio k = 2, (metric, base).
    """
    frame = pl.read_parquet(folder / "units.parquet")
    arm = frame["arm"].replace_strict(list(ARMS), range(len(ARMS)), return_dtype=pl.Int64).to_numpy()
    grade = frame["grade"].str.slice(6).cast(pl.Int64).to_numpy()
    cell = (1 + grade) * len(ARMS) + arm
    cells = (1 + SEGMENTS) * len(ARMS)

    def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        by_cell = np.bincount(cell, weights=values, minlength=cells).astype(np.float64)
        found: NDArray[np.float64] = by_cell.reshape(1 + SEGMENTS, len(ARMS))
        found[0] = found[1:].sum(axis=0)
        return found

    kept = {"n": summed(np.ones(frame.height))}
    for place in range(METRICS):
        names = (f"m{place}", "base" if place == RATIO else f"p{place}")
        first, second = (frame[name].to_numpy().astype(np.float64) for name in names)
        kept |= {
            f"sum_{place}": summed(first),
            f"squares_{place}": summed(first * first),
            f"other_{place}": summed(second),
            f"other_squares_{place}": summed(second * second),
            f"both_{place}": summed(first * second),
        }
    np.savez(folder / "sums.npz", allow_pickle=False, **kept)
