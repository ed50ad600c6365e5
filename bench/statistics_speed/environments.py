"""Makes the environments of the other packages, outside the repository: `make bench-peers`.

One each, for they hold one another's dependencies back. Needs Python 3.12, and 3.11 for gbstats: found on the
path, or named (`make bench-peers PYTHON311=... PYTHON312=...`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.statistics_speed.tasks import peers_folder  # noqa: E402

VERSIONS = {"tea-tasting": "3.12", "gbstats": "3.11", "mozanalysis": "3.12", "cluster-experiments": "3.12"}


def runs(python: str, wanted: str) -> bool:
    """Does an interpreter start, and is it of the version that is wanted? A shim on the path may not."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.strip() == wanted


def python_of(wanted: str, named: Sequence[str]) -> str:
    """The interpreter of a version. Raises SystemExit where none is found."""
    tried = [*named, f"python{wanted}", sys.executable]
    for candidate in tried:
        found = shutil.which(candidate)
        if found and runs(found, wanted):
            return found
    short = wanted.replace(".", "")
    raise SystemExit(f"no Python {wanted} found; name one: make bench-peers PYTHON{short}=/path/to/python")


def make(peer: str, folder: Path, named: Sequence[str]) -> None:
    """Build one environment, unless it holds what its file names already."""
    home = folder / peer
    requirements = ROOT / "bench" / "peers" / f"requirements-{peer}.txt"
    stamp = home / "installed.txt"
    if stamp.is_file() and stamp.read_bytes() == requirements.read_bytes():
        print(f"{peer}: {home} is there")
        return
    python = python_of(VERSIONS[peer], named)
    print(f"{peer}: installing into {home}", flush=True)
    inside = str(home / "bin" / "python")
    subprocess.run([python, "-m", "venv", "--clear", str(home)], check=True)
    if shutil.which("uv") and subprocess.run(["uv", "--version"], capture_output=True).returncode == 0:
        command = ["uv", "pip", "sync", "--quiet", "--python", inside, "--compile-bytecode"]
        subprocess.run([*command, str(requirements)], check=True)
    else:
        command = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*command, "-r", str(requirements)], check=True)
    shutil.copyfile(requirements, stamp)


def main() -> None:
    """All environments, in EXP_BENCH_PEERS or in the temporary folder."""
    folder = peers_folder()
    if folder.is_file():
        raise SystemExit(f"EXP_BENCH_PEERS names an interpreter, {folder}: nothing to make")
    named = [one for one in (os.environ.get("PYTHON311"), os.environ.get("PYTHON312")) if one]
    folder.mkdir(parents=True, exist_ok=True)
    for peer in VERSIONS:
        make(peer, folder, named)


if __name__ == "__main__":
    main()
