"""A catalog is read again where a file of it has changed in any way, and only there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from exp_pipeline.model.errors import SpecError
from exp_pipeline.steps.opening import open_catalog
from exp_pipeline_tests.catalog.folders import POLICIES, write_catalog

GAPS = "policies/default.yaml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A catalog of one file, without entries."""
    (tmp_path / "policies").mkdir()
    (tmp_path / GAPS).write_text(POLICIES)
    return tmp_path


def gap(root: Path) -> int:
    return open_catalog(root).policies.session.gap_minutes


def test_it_is_the_same_object_while_nothing_changes(root: Path) -> None:
    assert open_catalog(root) is open_catalog(root)


def test_an_edit_of_equal_size_and_time_is_seen(root: Path) -> None:
    path, before = root / GAPS, gap(root)
    then = path.stat()
    path.write_text(POLICIES.replace("20", "25"))
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert (before, gap(root)) == (20, 25)
    assert path.stat().st_size == then.st_size


def test_text_that_was_saved_again_is_read_again(root: Path) -> None:
    # What was read between two edits that undo each other may be the text between them.
    first = open_catalog(root)
    then = (root / GAPS).stat()
    os.utime(root / GAPS, ns=(then.st_atime_ns, then.st_mtime_ns + 1))
    assert open_catalog(root) is not first


def add(root: Path) -> None:
    (root / "calendars").mkdir()
    (root / "calendars" / "north.yml").write_text("name: south\n")


def cut(root: Path) -> None:
    (root / GAPS).write_bytes(b"session:\n  gap_minutes: \xff\n")


def pipe(root: Path) -> None:
    (root / GAPS).unlink()
    os.mkfifo(root / GAPS)


@pytest.mark.parametrize("change", [add, cut, pipe])
def test_what_is_broken_since_is_told_and_told_again(root: Path, change: Callable[[Path], None]) -> None:
    assert open_catalog(root, strict=True).problems == ()
    change(root)
    for _ in range(2):
        with pytest.raises(SpecError):
            open_catalog(root, strict=True)


def test_lenient_and_strict_readings_are_kept_apart(root: Path) -> None:
    write_catalog(root, experiments__other="name: [")
    assert any("other.yaml" in one.file for one in open_catalog(root).problems)
    with pytest.raises(SpecError):
        open_catalog(root, strict=True)


def test_a_folder_that_is_gone_is_told(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (root / GAPS).unlink()
    open_catalog(root)
    root.rename(tmp_path_factory.mktemp("elsewhere") / "catalog")
    with pytest.raises(SpecError):
        open_catalog(root)
