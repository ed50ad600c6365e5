"""What `doctor` looks at in production: databases, channels, the folder of metrics; only what is named."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from exp_pipeline.cli.findings import Finding
from exp_pipeline.model.errors import ExpError
from exp_pipeline.store.home import Home
from exp_pipeline.store.mirror_objects import Patience

DATABASES = ("DAGSTER_POSTGRES_URL", "EXP_STATE_URL")
_CONNECT_SECONDS = 5
_MIRROR_PATIENCE = Patience(connect_seconds=3, request_seconds=5, retries=1, retry_seconds=5)
# A mirror that is further behind than this is told of.
_LAG_SECONDS = 6 * 3600


def _databases() -> Iterator[Finding]:
    """Whether each database that is named can be reached; never shows an address, which holds a password."""
    for variable in DATABASES:
        url = os.environ.get(variable)
        if not url:
            continue
        scheme = url.partition(":")[0]
        if scheme != "postgresql+psycopg2":
            yield Finding(
                variable,
                "error",
                f"starts with {scheme}:",
                "Name the driver: postgresql+psycopg2://user:password@host:5432/database",
            )
            continue
        yield _reached(variable, url)


def _reached(variable: str, url: str) -> Finding:
    try:
        import sqlalchemy

        import_module("psycopg2")
    except ModuleNotFoundError as absent:
        return Finding(
            variable, "error", f"{absent.name} is not installed", "pip install 'exp-pipeline[postgres]'"
        )
    engine = sqlalchemy.create_engine(url, connect_args={"connect_timeout": _CONNECT_SECONDS})
    try:
        with engine.connect() as connection:
            version = str(connection.execute(sqlalchemy.text("show server_version")).scalar()).split()[0]
    except sqlalchemy.exc.OperationalError:
        return Finding(
            variable,
            "error",
            "the database does not answer",
            "Is it running, and are host, user and password right?",
        )
    finally:
        engine.dispose()
    return Finding(variable, "ok", f"PostgreSQL {version}")


def _channels() -> Iterator[Finding]:
    """Whether Apprise knows every address; sends nothing (`exp incidents test` does)."""
    if not any(name.startswith("EXP_NOTIFY_") and os.environ[name].strip() for name in os.environ):
        return
    from exp_pipeline.notify.apprise_channel import AppriseChannel
    from exp_pipeline.notify.routing import VARIABLES, channels_from, unknown_variables

    named = [one for one in channels_from(os.environ, Path("unused")) if isinstance(one, AppriseChannel)]
    unknown = [one.name for one in named if not one.known()]
    strange = unknown_variables(os.environ)
    if strange:
        yield Finding(
            "channels", "error", f"nothing reads {', '.join(strange)}", f"Allowed: {', '.join(VARIABLES)}"
        )
    if unknown:
        yield Finding(
            "channels",
            "error",
            f"Apprise does not know {', '.join(unknown)}",
            "See its list of services for the form.",
        )
    elif named:
        yield Finding("channels", "ok", ", ".join(one.name for one in named))


def _webhook() -> Iterator[Finding]:
    """Whether the receiver of flags is set rightly; sends nothing."""
    from exp_pipeline.notify.webhook import SECRET, URL, webhook_from

    if not (os.environ.get(URL) or os.environ.get(SECRET)):
        return
    try:
        receiver = webhook_from(os.environ)
    except ValueError as trouble:
        yield Finding(URL, "error", str(trouble), f"Set {URL} and {SECRET} together.")
        return
    if receiver is not None:
        yield Finding(URL, "ok", receiver.name)


def _metrics() -> Iterator[Finding]:
    """Whether the folder of Prometheus text can be written to."""
    named = os.environ.get("EXP_METRICS_DIR")
    if not named:
        return
    folder = Path(named)
    if not folder.is_dir():
        yield Finding("EXP_METRICS_DIR", "error", f"{folder} is not there", f"mkdir -p {folder}")
    elif not os.access(folder, os.W_OK):
        yield Finding("EXP_METRICS_DIR", "error", f"{folder} cannot be written to", "Change its owner.")
    else:
        yield Finding("EXP_METRICS_DIR", "ok", str(folder))


def mirror(home: Home) -> Iterator[Finding]:
    """Whether the mirror that is named is this home's and can be reached, and what waits; writes nothing."""
    from exp_pipeline.steps.operating.mirror import VARIABLE, mirror_from, owner_of, standing

    if not os.environ.get(VARIABLE, "").strip():
        return
    try:
        there = mirror_from(os.environ, _MIRROR_PATIENCE)
        if there is None:
            return
        owner, own = owner_of(there, home)
    except (ExpError, ValueError) as trouble:
        yield Finding(VARIABLE, "error", str(trouble), "See docs/deployment.md, Object storage.")
        return
    if owner is None:
        yield Finding(VARIABLE, "warning", f"{there.name} is empty", "Push once: exp mirror push")
    elif owner != own:
        yield Finding(
            VARIABLE,
            "error",
            f"{there.name} is the mirror of another data folder",
            "Name another prefix, or take it over: exp mirror push --adopt",
        )
    else:
        now = standing(home, there.name, datetime.now(UTC))
        late = now.lag_seconds > _LAG_SECONDS
        seen = f"{there.name}; {now.waiting} changes wait" + (
            f", the oldest for {now.lag_seconds / 3600:.1f} h" if now.waiting else ""
        )
        remedy = (
            "Is the sensor `mirror_behind` on, and the daemon? exp mirror push copies now." if late else ""
        )
        yield Finding(VARIABLE, "warning" if late else "ok", seen, remedy)


CHECKS: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
    ("databases", _databases),
    ("channels", _channels),
    ("EXP_FLAG_WEBHOOK_URL", _webhook),
    ("EXP_METRICS_DIR", _metrics),
)
