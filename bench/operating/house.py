"""A real installation on this machine: data folder, Dagster's daemon, code server, run workers, a database.

Everything is made in one folder, bound to loopback, and ended by id.
"""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[2]
KEY = "not-a-secret-only-for-tests"
POSTGRES = Path("/usr/lib/postgresql")
Role = Literal["daemon", "code server", "run worker"]


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the installation, and the processor seconds and memory it has used."""

    pid: int
    parent: int
    role: Role
    cpu_seconds: float
    resident_mb: float


@dataclass
class House:
    """An installation under one folder; `database` is a PostgreSQL address, or None for SQLite.

    brisk: as shipped, but for sensors and run monitoring, which look every second.
    """

    folder: Path
    database: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    brisk: bool = False
    daemon: subprocess.Popen[bytes] | None = None
    _sessions: set[int] = field(default_factory=set)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def history(self) -> Path:
        return self.folder / "dagster"

    @property
    def log(self) -> Path:
        return self.folder / "daemon.log"

    @property
    def workspace(self) -> str:
        return "bench/operating/brisk.yaml" if self.brisk else "workspace.yaml"

    def environment(self) -> dict[str, str]:
        """The environment of every process of the installation."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("EXP_", "DAGSTER_"))}
        own = {
            "DAGSTER_HOME": str(self.history),
            "EXP_HOME": str(self.data),
            "EXP_HMAC_KEY": KEY,
            "PYTHONPATH": str(ROOT),
        }
        if self.database:
            own |= {"DAGSTER_POSTGRES_URL": self.database, "EXP_STATE_URL": self.database}
        return kept | own | self.variables

    def prepare(self) -> None:
        """Make the folder of Dagster's settings: the shipped ones, for SQLite or for PostgreSQL."""
        self.history.mkdir(parents=True, exist_ok=True)
        shipped = "deploy/dagster.yaml" if self.database else ".dagster_home/dagster.yaml"
        settings = (ROOT / shipped).read_text()
        if self.brisk:
            settings = settings.replace("poll_interval_seconds: 10", "poll_interval_seconds: 1")
        (self.history / "dagster.yaml").write_text(settings)

    def command(
        self, *words: str, seconds: float = 300.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run one command of the environment's programs to its end."""
        program = str(Path(sys.executable).with_name(words[0]))
        return subprocess.run(
            [program, *words[1:]],
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=check,
        )

    def start(self) -> None:
        """Start the daemon, which starts the code server and, through it, the workers of runs."""
        with self.log.open("ab") as out:
            self.daemon = subprocess.Popen(
                [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-w", self.workspace],
                cwd=ROOT,
                env=self.environment(),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._sessions.add(self.daemon.pid)

    def processes(self) -> list[Process]:
        """Every living process of this installation, also those that outlived a daemon that was killed."""
        return [one for one in _processes() if _session(one.pid) in self._sessions]

    def kill(self, role: Role) -> int:
        """Kill the processes of a role outright, with no chance to tidy up; how many there were."""
        found = [one for one in self.processes() if one.role == role]
        for one in found:
            with _gone_is_fine():
                os.kill(one.pid, signal.SIGKILL)
        if role == "daemon" and self.daemon is not None:
            self.daemon.wait(timeout=30)
        return len(found)

    def stop(self) -> None:
        """End everything that was started here, kindly at first."""
        for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            for one in self.processes():
                with _gone_is_fine():
                    os.kill(one.pid, how)
            limit = time.monotonic() + 15.0
            while time.monotonic() < limit and self._reaped():
                time.sleep(0.2)
            if not self.processes():
                break
        self.daemon = None

    def _reaped(self) -> list[Process]:
        """What still lives, after the daemon's end has been taken note of."""
        if self.daemon is not None:
            self.daemon.poll()
        return self.processes()


def wait_for(what: str, found: Callable[[], object], seconds: float, every: float = 0.25) -> float:
    """Wait until something is found; the seconds it took. Raises TimeoutError that names it."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if found():
            return time.monotonic() - began
        time.sleep(every)
    raise TimeoutError(f"{what}: not after {seconds:.0f} s")


def postgres_programs() -> Path | None:
    """Where this machine keeps PostgreSQL's server programs; None where it has none."""
    found = sorted(POSTGRES.glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL server of its own on loopback, with an empty database; gives its address.

    It runs as the system's user `postgres` where this is root, who may not run it.
    """
    programs = postgres_programs()
    if programs is None:
        raise FileNotFoundError(f"no PostgreSQL server below {POSTGRES}")
    folder.mkdir(parents=True)
    first: list[str] = []
    if os.getuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        for parent in folder.parents:
            if parent.stat().st_uid == 0 and parent not in (Path("/"), Path("/tmp")):
                parent.chmod(parent.stat().st_mode | 0o011)
        first = ["runuser", "-u", "postgres", "--"]
    data, port = folder / "data", free_port()
    run = {"cwd": folder, "check": True, "timeout": 120, "capture_output": True}
    subprocess.run([*first, str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "exp"], **run)  # type: ignore[call-overload]
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=on"
    control = [*first, str(programs / "pg_ctl"), "-D", str(data), "-w", "-t", "60"]
    log = folder / "server.log"
    subprocess.run([*control, "-l", str(log), "-o", options, "start"], **run | {"capture_output": False})  # type: ignore[call-overload]
    try:
        create = [*first, str(programs / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "exp", "exp"]
        subprocess.run(create, **run)  # type: ignore[call-overload]
        yield f"postgresql+psycopg2://exp@127.0.0.1:{port}/exp"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **run)  # type: ignore[call-overload]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except ProcessLookupError:
        return


def _processes() -> Iterator[Process]:
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] == "Z":
            continue
        yield Process(
            pid=int(entry.name),
            parent=int(fields[1]),
            role=_role(words),
            cpu_seconds=(int(fields[11]) + int(fields[12])) / ticks,
            resident_mb=int(fields[21]) * page / 1e6,
        )


def _role(words: list[bytes]) -> Role:
    line = b" ".join(words)
    if b"dagster-daemon" in line:
        return "daemon"
    return "code server" if b"grpc" in line and b"spawn_main" not in line else "run worker"


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
