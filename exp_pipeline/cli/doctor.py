"""`doctor`: is this machine, this environment and this data folder ready to run?"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

from exp_pipeline.cli import production
from exp_pipeline.cli.findings import Finding, Verdict
from exp_pipeline.cli.terminal import AsJson, HomeDir, print_json, say
from exp_pipeline.model.errors import ExpError
from exp_pipeline.store.home import Home

# Dagster's packages belong together: the library number is the core's plus 16.
PINNED = {"dagster": "1.13.27", "dagster-webserver": "1.13.27", "dagster-duckdb": "0.29.27"}
NEEDED = (
    "duckdb",
    "polars",
    "pyarrow",
    "numpy",
    "scipy",
    "pandera",
    "pydantic",
    "sqlglot",
    "pyyaml",
    "jinja2",
)
EXTENSIONS = ("icu", "json", "parquet")
LEAST_FREE_GB, FEW_FREE_GB = 1.0, 5.0
PORT = 3000


def doctor(home: HomeDir = None, as_json: AsJson = False) -> None:
    """Check machine, environment and data folder; say what to do about each trouble."""
    root = home or Path(os.environ.get("EXP_HOME") or "data")
    found = examine(root)
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        for one in found:
            say(f"{one.verdict:<8}{one.name}: {one.seen}")
            if one.remedy:
                say(f"        {one.remedy}")
        errors = sum(one.verdict == "error" for one in found)
        warnings = sum(one.verdict == "warning" for one in found)
        say(f"\n{errors} errors, {warnings} warnings." if errors or warnings else "\nAll is well.")
    if any(one.verdict == "error" for one in found):
        raise typer.Exit(1)


def examine(root: Path) -> list[Finding]:
    """Everything that `exp doctor` looks at, in order. A check that cannot be made is an error of its own."""
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("Python", _python),
        ("packages", _packages),
        ("cores", _cores),
        ("DuckDB", _duckdb),
        ("EXP_HMAC_KEY", _key),
        ("DAGSTER_HOME", _dagster_home),
        ("data folder", lambda: _layout(root)),
        ("catalog", lambda: _catalog(root)),
        ("landing", lambda: _landing(root)),
        ("disk", lambda: _disk(root)),
        *production.CHECKS,
        ("EXP_LAKE_MIRROR", lambda: production.mirror(Home(root, os.environ.get("EXP_STATE_URL") or None))),
        (f"port {PORT}", _port),
    ]
    found: list[Finding] = []
    for name, check in checks:
        try:
            found += check()
        except (ExpError, ValueError, OSError) as trouble:
            found.append(Finding(name, "error", str(trouble)))
    return found


def _python() -> Iterator[Finding]:
    seen = ".".join(str(part) for part in sys.version_info[:3])
    good = (3, 11) <= sys.version_info[:2] < (3, 15)
    yield Finding("Python", "ok" if good else "error", seen, "" if good else "Use Python 3.11 to 3.14.")


def _packages() -> Iterator[Finding]:
    missing = []
    for name in (*PINNED, *NEEDED):
        try:
            version(name)
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        yield Finding(
            "packages", "error", f"missing: {', '.join(missing)}", "Run `make demo`, or pip install -e ."
        )
    else:
        yield Finding("packages", "ok", f"all {len(PINNED) + len(NEEDED)} are installed")
    wrong = [
        f"{name} {version(name)} (wanted {pin})"
        for name, pin in PINNED.items()
        if name not in missing and version(name) != pin
    ]
    if wrong:
        yield Finding(
            "Dagster",
            "error",
            ", ".join(wrong),
            "Its packages must fit one another: pip install the wanted versions.",
        )
    elif not missing:
        yield Finding("Dagster", "ok", ", ".join(f"{name} {pin}" for name, pin in PINNED.items()))


def _cores() -> Iterator[Finding]:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if count >= 2:
        yield Finding("cores", "ok", str(count))
    else:
        yield Finding("cores", "warning", str(count), "Two or more are better: everything runs, but slowly.")


def _duckdb() -> Iterator[Finding]:
    import duckdb

    with duckdb.connect(":memory:") as connection:
        rows = connection.execute(
            "select extension_name from duckdb_extensions() where loaded or installed"
        ).fetchall()
    present = {str(row[0]) for row in rows}
    missing = [name for name in EXTENSIONS if name not in present]
    if missing:
        yield Finding(
            "DuckDB",
            "error",
            f"{duckdb.__version__} without {', '.join(missing)}",
            "Install the official wheel from PyPI, which has them built in.",
        )
    else:
        yield Finding("DuckDB", "ok", f"{duckdb.__version__} with {', '.join(EXTENSIONS)}")


def _key() -> Iterator[Finding]:
    from exp_pipeline.cli.bundle import SAMPLE_KEY
    from exp_pipeline.steps.opening import key_from

    remedy = "Set it to a long random text and keep it: export EXP_HMAC_KEY=$(openssl rand -hex 32)"
    try:
        key = key_from(os.environ)
    except ValueError as trouble:
        yield Finding("EXP_HMAC_KEY", "error", str(trouble), remedy)
        return
    if key is None:
        yield Finding("EXP_HMAC_KEY", "error", "not set", remedy)
    elif os.environ["EXP_HMAC_KEY"] == SAMPLE_KEY:
        yield Finding(
            "EXP_HMAC_KEY",
            "warning",
            "the sample's own key, which is public",
            "Never use it for real learners.",
        )
    elif len(key.secret) < 32:
        yield Finding(
            "EXP_HMAC_KEY", "warning", f"set, {len(key.secret)} bytes", "32 random bytes or more are better."
        )
    else:
        yield Finding("EXP_HMAC_KEY", "ok", "set")


def _dagster_home() -> Iterator[Finding]:
    named = os.environ.get("DAGSTER_HOME")
    folder = Path(named) if named else Path(".dagster_home")
    if named and not folder.is_absolute():
        yield Finding(
            "DAGSTER_HOME", "error", f"{named} is a relative path", "Dagster wants an absolute one."
        )
    elif not folder.is_dir():
        yield Finding(
            "DAGSTER_HOME",
            "warning",
            f"{folder} is not there" if named else "not set, and there is no .dagster_home here",
            "Name a folder for Dagster's history: export DAGSTER_HOME=$PWD/.dagster_home",
        )
    elif not os.access(folder, os.W_OK):
        yield Finding(
            "DAGSTER_HOME", "error", f"{folder} cannot be written to", "Change its owner or name another."
        )
    else:
        yield Finding("DAGSTER_HOME", "ok", str(folder))


def _layout(root: Path) -> Iterator[Finding]:
    missing = [name for name in ("catalog", "landing") if not (root / name).is_dir()]
    if not root.is_dir():
        yield Finding(
            "data folder",
            "error",
            f"{root} is not there",
            f"Make one with `exp init {root}`, or name one with --home.",
        )
    elif not os.access(root, os.W_OK):
        yield Finding(
            "data folder", "error", f"{root} cannot be written to", "Change its owner or name another."
        )
    elif missing:
        yield Finding(
            "data folder",
            "error",
            f"{root} has no {' and no '.join(missing)}",
            f"mkdir {' '.join(str(root / name) for name in missing)}",
        )
    else:
        yield Finding("data folder", "ok", str(root))


def _catalog(root: Path) -> Iterator[Finding]:
    from exp_pipeline.model.errors import SpecError
    from exp_pipeline.steps.opening import open_catalog

    if not (root / "catalog").is_dir():
        return
    try:
        catalog = open_catalog(root / "catalog", strict=True)
    except SpecError as trouble:
        yield Finding(
            "catalog", "error", f"{len(trouble.problems)} problems", "See them with `exp validate`."
        )
        return
    if catalog.sources:
        yield Finding("catalog", "ok", f"{len(catalog.briefs)} experiments, {len(catalog.metrics)} metrics")
    else:
        yield Finding(
            "catalog", "warning", "no source, so no landed file would be read", "Add one in catalog/sources."
        )


def _landing(root: Path) -> Iterator[Finding]:
    from exp_pipeline.store.landing import RECEIVED, landed_on, received_days

    folder = root / "landing"
    if not folder.is_dir():
        return
    days = received_days(folder)
    strange = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith((RECEIVED, ".")))
    if strange:
        yield Finding(
            "landing",
            "warning",
            f"not read: {', '.join(strange[:5])}",
            f"Files belong into {RECEIVED}YYYY-MM-DD folders.",
        )
    if not days:
        yield Finding(
            "landing",
            "warning",
            "nothing has landed",
            f"`exp simulate --plan demo --out {folder}` makes a sample.",
        )
        return
    files = landed_on(folder, days[-1])
    yield Finding(
        "landing", "ok", f"{len(days)} days, {days[0]} to {days[-1]}, {len(files)} files on the last"
    )


def _disk(root: Path) -> Iterator[Finding]:
    place = next(folder for folder in (root.resolve(), *root.resolve().parents) if folder.exists())
    free = shutil.disk_usage(place).free / 1e9
    verdict: Verdict = "error" if free < LEAST_FREE_GB else "warning" if free < FEW_FREE_GB else "ok"
    yield Finding(
        "disk", verdict, f"{free:.1f} GB free", "" if verdict == "ok" else "Make room before the next run."
    )


def _port() -> Iterator[Finding]:
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", PORT)) == 0
    if taken:
        yield Finding(f"port {PORT}", "warning", "in use", "The UI needs a free one: make dev PORT=3001")
    else:
        yield Finding(f"port {PORT}", "ok", "free")
