"""Totals of the gateway: read whole, corrected by later files, refused by name where broken."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from exp_pipeline.model.errors import StoreError
from exp_pipeline.store.totals import read_totals

HEAD = "day,model_name,tokens_in,tokens_out\n"
FIRST, SECOND = date(2026, 3, 17), date(2026, 3, 18)


def test_a_later_file_corrects_an_earlier_one(tmp_path: Path) -> None:
    folder = tmp_path / "reference"
    folder.mkdir()
    (folder / "gateway-1.csv").write_text(HEAD + "2026-03-17,a,10,1\n2026-03-17,b,20,2\n")
    pl.DataFrame(
        {"day": [FIRST, SECOND], "model_name": ["a", "a"], "tokens_in": [11, 30], "tokens_out": [1, 3]}
    ).write_parquet(folder / "gateway-2.parquet")
    found = read_totals(tmp_path, "reference/gateway-*")
    assert found.rows() == [(FIRST, "a", 11, 1), (FIRST, "b", 20, 2), (SECOND, "a", 30, 3)]


def test_no_file_gives_no_row(tmp_path: Path) -> None:
    assert read_totals(tmp_path, "reference/*.csv").height == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("day,model_name,tokens_in\n2026-03-17,a,1\n", "lacks column tokens_out"),
        (HEAD + "2026-03-17,a,many,1\n", "many"),
        (HEAD + "yesterday,a,1,1\n", "yesterday"),
        (HEAD + "2026-03-17,a,-1,1\n", "negative tokens"),
        (HEAD + "2026-03-17,,1,1\n", "empty cells"),
        ("", "empty"),
    ],
)
def test_what_is_no_such_table_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "gateway.csv").write_text(text)
    with pytest.raises(StoreError, match=r"^gateway\.csv: ") as told:
        read_totals(tmp_path, "*.csv")
    assert said in str(told.value)
    assert str(tmp_path) not in str(told.value)


def test_links_and_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(HEAD + "2026-03-17,a,1,1\n")
    (tmp_path / "gateway.csv").symlink_to(tmp_path / "secret")
    with pytest.raises(StoreError, match="links are not followed"):
        read_totals(tmp_path, "*.csv")
    with pytest.raises(StoreError, match=r"must be a \.csv or a \.parquet"):
        read_totals(tmp_path, "secret")
