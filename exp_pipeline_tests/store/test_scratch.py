"""Raw lines on their way in do not outlive a reader that was killed; those of one that lives stay."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

from exp_pipeline.store.landing import landed_on
from exp_pipeline.store.lines import line_batches

READER = """
import sys, time
from datetime import date
from pathlib import Path
from exp_pipeline.store.landing import landed_on
from exp_pipeline.store.lines import line_batches
for batch in line_batches(landed_on(Path(sys.argv[1]), date(2026, 3, 1)), 1000, Path(sys.argv[2])):
    print("reading", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_reader_left_goes_with_the_next(tmp_path: Path) -> None:
    scratch, day = tmp_path / "scratch", tmp_path / "landing" / "received_date=2026-03-01"
    day.mkdir(parents=True)
    (day / "a.ndjson").write_text('{"learner_id": "somebody"}\n')
    files = landed_on(tmp_path / "landing", date(2026, 3, 1))
    command = [sys.executable, "-c", READER, str(tmp_path / "landing"), str(scratch)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"reading\n"
        held = sorted(scratch.iterdir())
        assert any("somebody" in path.read_text() for path in held)
        for _ in line_batches(files, 1000, scratch):
            assert set(held) < set(scratch.iterdir())
        assert sorted(scratch.iterdir()) == held
        reader.send_signal(signal.SIGKILL)
    assert sorted(scratch.iterdir()) == held
    for _ in line_batches(files, 1000, scratch):
        assert not set(held) & set(scratch.iterdir())
    assert not list(scratch.iterdir())
