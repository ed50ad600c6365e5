"""What a YAML file is read as, and what is refused before it can do harm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exp_pipeline.catalog.documents import MAX_BYTES, Document, field_path, read_document
from exp_pipeline.model.errors import Problem


def read(folder: Path, text: str | bytes) -> Document | Problem:
    path = folder / "one.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_document(path, file="one.yaml", within=folder)


def good(folder: Path, text: str) -> Document:
    document = read(folder, text)
    assert isinstance(document, Document), document
    return document


def refused(folder: Path, text: str | bytes) -> str:
    problem = read(folder, text)
    assert isinstance(problem, Problem)
    return str(problem)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("010", 10),
        ("1e-3", 0.001),
        ("-4", -4),
        (".5", 0.5),
        ("true", True),
        ("'true'", "true"),
        ("~", None),
        ("", None),
        ("2026-03-09", "2026-03-09"),
        ("1e999", "1e999"),
        ("9" * 5000, "9" * 5000),
        (".inf", ".inf"),
    ],
)
def test_plain_words_mean_what_an_author_means(tmp_path: Path, written: str, meant: object) -> None:
    found = good(tmp_path, f"a: {written}\n").data["a"]
    assert (type(found), found) == (type(meant), meant)


def test_every_field_knows_its_line(tmp_path: Path) -> None:
    document = good(
        tmp_path, "a: 1\nb:\n  - x\n  - c: 2\n    d: >\n      long\n      text\n  - &e {f: 3}\n  - *e\n"
    )
    places = {("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 1): 4, ("b", 1, "c"): 4, ("b", 1, "d"): 5, ("b", 2): 8}
    assert {place: document.lines[place] for place in places} == places
    assert document.line(("b", 3)) == 9
    assert document.line(("b", 1, "missing", "deeper")) == 4
    assert document.at(("b", 3, "f")) == 3
    assert document.at(("b", 9, "f")) is None
    assert field_path(("b", 3, "f")) == "b[3].f"


def test_billion_laughs_are_refused_without_being_unfolded(tmp_path: Path) -> None:
    rows = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    rows += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 10)]
    assert refused(tmp_path, "\n".join(rows)) == (
        "one.yaml:4: a3[2]: too many aliases; write the values out; allowed: at most 20 a file"
    )


def test_aliases_that_multiply_are_refused(tmp_path: Path) -> None:
    wide = "x: &x [" + ", ".join(["lol"] * 900) + "]\n"
    assert refused(tmp_path, wide + "y: &y [*x, *x, *x, *x, *x]\nz: [*y, *y, *y, *y, *y]\n") == (
        "one.yaml:3: z[4]: unfolds to too many values; allowed: at most 20,000"
    )


def test_many_aliases_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, "x: &x 1\ny: [" + ", ".join(["*x"] * 21) + "]\n") == (
        "one.yaml:2: y[20]: too many aliases; write the values out; allowed: at most 20 a file"
    )


def test_an_alias_of_what_holds_it_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, "a: &a\n  b: *a\n") == (
        "one.yaml:2: a.b: is an alias without an anchor (value: *a); allowed: none is declared"
    )


def test_depth_made_of_aliases_is_refused(tmp_path: Path) -> None:
    rows = ["a0: &a0 [[[[[[1]]]]]]", "a1: &a1 [[[[[[*a0]]]]]]", "a2: [[[[[[*a1]]]]]]"]
    assert "nested too deeply" in refused(tmp_path, "\n".join(rows))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a: \xff\n", "one.yaml:1: (file): is not UTF-8 text (byte 3)"),
        (b"? [a]\n: 1\n", "one.yaml:1: (file): a key must be plain text, not a list or a mapping"),
        (
            b"a: 1\nb: [1,\nc: 2]\nd: 'x\n",
            "one.yaml:5: (file): is not valid YAML: found unexpected end of stream",
        ),
        (
            b"a: b: c\n",
            "one.yaml:1: (file): is not valid YAML: mapping values are not allowed in this context",
        ),
    ],
)
def test_text_that_is_no_plain_yaml(tmp_path: Path, text: bytes, said: str) -> None:
    assert refused(tmp_path, text).startswith(said)


def test_size_is_limited(tmp_path: Path) -> None:
    assert (
        refused(tmp_path, b"#" * (MAX_BYTES + 1))
        == "one.yaml: (file): is too large; allowed: at most 1,000,000 bytes"
    )
    assert good(tmp_path, "#" * MAX_BYTES).data is None


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "catalog"
    inside.mkdir()
    (tmp_path / "secret.yaml").write_text("a: 1\n")
    (inside / "out.yaml").symlink_to(tmp_path / "secret.yaml")
    (inside / "real.yaml").write_text("a: 1\n")
    (inside / "in.yaml").symlink_to(inside / "real.yaml")
    problem = read_document(inside / "out.yaml", file="out.yaml", within=inside)
    assert str(problem) == (
        "out.yaml: (file): is a link that leaves the catalog folder; put the file itself there"
    )
    assert isinstance(read_document(inside / "in.yaml", file="in.yaml", within=inside), Document)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("pipe.yaml", "folder.yaml"):
        assert str(read_document(tmp_path / name, file=name)) == f"{name}: (file): is not a regular file"
    assert str(read_document(tmp_path / "none.yaml", file="none.yaml")) == (
        "none.yaml: (file): cannot be read: No such file or directory"
    )
