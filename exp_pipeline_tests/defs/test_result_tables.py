"""What the UI's tables and small pictures say: units, withheld cells, causes once, whole words."""

from __future__ import annotations

from urllib.parse import unquote

import polars as pl

from exp_pipeline.defs.images import INLINE_CHARACTERS, glance
from exp_pipeline.defs.integrity_checks import results, verdict
from exp_pipeline.defs.result_tables import causes_table, effects_table, rows_table, shortened, verdicts_table
from exp_pipeline.model.readout import Cause, IntegrityCheck, Verdict
from exp_pipeline_tests.report.sample_full import full
from exp_pipeline_tests.report.samples import blinded, mismatch

WEB = Cause(rank=1, where="platform web", evidence="none came", share=0.92)


def check(name: str, told: Verdict, *causes: Cause) -> IntegrityCheck:
    return IntegrityCheck(
        name=name, title=name.capitalize(), verdict=told, evidence="seen " * 200, causes=causes
    )


def test_a_cause_of_several_checks_is_one_row_and_failures_come_first() -> None:
    pinned = Cause(rank=1, where="version 8", evidence="mixed")
    table = causes_table(
        [check("receipt", "warn", pinned), check("assigned", "fail", WEB), check("exposed", "fail", WEB)]
    )
    assert table is not None
    assert [(one.data["where"], one.data["share"], one.data["behind"]) for one in table.records] == [
        ("platform web", "92 %", "Assigned, Exposed"),
        ("version 8", "", "Receipt"),
    ]
    assert causes_table([check("assigned", "pass")]) is None


def test_the_smallest_p_value_of_the_sample_ratio_knows_the_groups() -> None:
    readout = full()
    ratios: dict[str, dict[str, float | int | str]] = {
        "sample_ratio_assigned": {"p_value": 0.4},
        "sample_ratio_exposed": {"p_value": 0.3},
        "sample_ratio_groups": {
            "worst_p_adjusted": 0.000123456,
            "groups": 9,
            "worst_group": "day 2026-03-02",
        },
    }
    told = tuple(
        IntegrityCheck(name=name, title=name, verdict="pass", evidence="seen", numbers=numbers)
        for name, numbers in ratios.items()
    )
    found = {one.check_name: one for one in results(readout.model_copy(update={"integrity": told}))}
    values = {name: one.value for name, one in found["srm"].metadata.items()}
    assert values["smallest_p_value"] == values["p_value_groups"] == 0.0001235
    assert values["p_value_assigned"] == 0.4


def test_evidence_is_cut_between_words() -> None:
    (row,) = verdicts_table([check("lock", "cannot_tell")]).records
    assert row.data["verdict"] == "cannot tell"
    assert str(row.data["evidence"]).endswith("seen …")
    assert shortened("short") == "short"


def test_effects_are_in_their_metrics_units() -> None:
    readout = full()
    rows = [one.data for one in effects_table(readout).records]
    assert len(rows) == len(readout.estimates)
    for told, row in zip(rows, readout.estimates, strict=True):
        if row.absolute is not None and row.display == "share":
            shown = str(told["effect"]).removesuffix(" pp").replace("\N{MINUS SIGN}", "-")
            assert abs(float(shown) - 100 * row.absolute) < 0.06
        if row.suppressed:
            assert told["units"] == ""


def test_a_withheld_cell_shows_no_count() -> None:
    frame = pl.DataFrame(
        {
            "segment_value": ["ios", "web"],
            "arm": ["b", "b"],
            "n_control": [0, 40],
            "n_treatment": [0, 44],
            "suppressed": [True, False],
            "absolute": [None, 0.1234],
            "ci_lower": [None, 0.05],
            "ci_upper": [None, 0.2],
            "p_value": [None, 0.0012345],
            "reason": ["withheld", ""],
        }
    )
    first, second = [one.data for one in rows_table(frame, "share").records]
    assert (first["units in arm"], first["effect"], first["note"]) == ("", "", "withheld")
    assert (second["units in arm"], second["units in control"], second["p"]) == ("44", "40", "0.00123")
    assert (second["effect"], second["interval"]) == ("+12.3 pp", "5.0 to 20.0")


def test_the_small_picture_has_units_and_fits_in_place() -> None:
    picture = glance(full().estimates)
    assert picture is not None
    assert len(picture.value) < INLINE_CHARACTERS
    assert " pp</text>" in unquote(picture.value)
    assert glance(blinded().estimates) is None


def test_the_panel_in_a_line_names_what_fails() -> None:
    readout = mismatch()
    line = verdict(readout)
    failed = [one.title for one in readout.integrity if one.verdict == "fail"]
    assert failed
    assert line.startswith(f"fails: {failed[0]}")
    assert line.endswith(f"of {len(readout.integrity)} checks pass")
