"""Opening a workbench: configuration from the environment, the catalog as far as it is good, an engine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING

from exp_pipeline.catalog import Catalog, check_expressions, load_catalog, without
from exp_pipeline.catalog.documents import state_of
from exp_pipeline.contracts.events import event_names
from exp_pipeline.contracts.fields import sql_types
from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.people.identity_keys import as_known
from exp_pipeline.steps.sources.check import source_problems
from exp_pipeline.store.engine import Engine
from exp_pipeline.store.home import Home
from exp_pipeline.transform.identity import IdentityKey, identity_key

if TYPE_CHECKING:
    import duckdb

KEY, PREVIOUS = "EXP_HMAC_KEY", "EXP_HMAC_KEY_PREVIOUS"
HOME, ENVELOPE, STATE_URL = "EXP_HOME", "EXP_DEBUG_ENVELOPE", "EXP_STATE_URL"


def home_from(environment: Mapping[str, str]) -> Home:
    """The data folder that the environment names (EXP_HOME), or `data` in the working directory.

    EXP_STATE_URL names the database of its state log; without it that is a file in the folder.
    """
    return Home(Path(environment.get(HOME, "data")), environment.get(STATE_URL) or None)


def keys_from(environment: Mapping[str, str]) -> tuple[IdentityKey, ...]:
    """The identity keys of the environment, the oldest first; none where none is set.

    EXP_HMAC_KEY is the newest. While a rotation lasts, EXP_HMAC_KEY_PREVIOUS holds the key before it, and
    EXP_HMAC_KEY_PREVIOUS_2 the one before that. Raises ValueError for a key too short, one given twice, or a
    previous key without a current one.
    """
    found = []
    for variable in (KEY, PREVIOUS, f"{PREVIOUS}_2"):
        secret = environment.get(variable, "")
        if not secret:
            continue
        if variable != KEY and not environment.get(KEY):
            raise ValueError(f"{variable} is set, but {KEY} is not: the newest key belongs into {KEY}")
        found.append(identity_key(secret, environment.get(f"{variable}_ID")))
    if len({key.secret for key in found}) < len(found):
        raise ValueError(f"{KEY} and {PREVIOUS} hold the same secret: give each key once")
    if len({key.key_id for key in found}) < len(found):
        raise ValueError(f"two identity keys have one name: give each its own in {KEY}_ID and {PREVIOUS}_ID")
    return tuple(reversed(found))


def key_from(environment: Mapping[str, str]) -> IdentityKey | None:
    """The identity key in force (the oldest that is set), or None where none is; ValueError for a bad one."""
    keys = keys_from(environment)
    return keys[0] if keys else None


def open_catalog(root: Path, *, strict: bool = False) -> Catalog:
    """The catalog with expressions checked; what is broken is left out and listed, or raised where strict.

    Strict raises SpecError with every problem of every file. Broken policies always raise. Read anew only
    where a file has changed since: every step of a run asks for it.
    """
    return _read_catalog(root, strict, state_of(root))


@lru_cache(maxsize=8)
def _read_catalog(root: Path, strict: bool, state: str) -> Catalog:
    from exp_pipeline.model.errors import SpecError

    catalog = load_catalog(root, strict=False, event_names=event_names())
    contexts = [
        name.removeprefix("segment__") for name in table_columns("mad") if name.startswith("segment__")
    ]
    problems = check_expressions(
        catalog, sql_types(derived=True), table_columns("sessions"), context_columns=contexts
    )
    problems += source_problems(catalog)
    if strict and (catalog.problems or problems):
        everything = (*catalog.problems, *problems)
        raise SpecError(sorted(everything, key=lambda problem: (problem.file, problem.line or 0)))
    return without(catalog, problems) if problems else catalog


@cache
def code_version() -> str:
    """The package version and a digest of its source, so that a readout can say which code made it."""
    hasher = hashlib.sha256()
    root = files("exp_pipeline")
    for name, content in sorted(_sources(root, "")):
        hasher.update(name.encode() + b"\0" + content + b"\0")
    try:
        release = version("exp-pipeline")
    except PackageNotFoundError:
        release = "0"
    return f"{release}+{hasher.hexdigest()[:12]}"


def _sources(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _sources(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith((".py", ".sql", ".j2", ".css")):
            yield f"{prefix}{entry.name}", entry.read_bytes()


@contextmanager
def workbench(
    home: Home,
    connection: duckdb.DuckDBPyConnection,
    *,
    run_id: str,
    environment: Mapping[str, str],
    catalog: Catalog | None = None,
    threads: int | None = None,
) -> Iterator[Workbench]:
    """A workbench over an open in-memory connection."""
    spill = home.state / "spill"
    engine = Engine(connection, temporary=spill, threads=threads)
    keys = as_known(home, keys_from(environment))
    yield Workbench(
        home=home,
        catalog=catalog or open_catalog(home.catalog),
        engine=engine,
        run_id=run_id,
        key=keys[0] if keys else None,
        newer_keys=keys[1:],
        code_version=code_version(),
        envelope=Path(environment[ENVELOPE]) if environment.get(ENVELOPE) else None,
    )
