"""`assign --units`: arms drawn once for a list of units, their balance shown, written for the product."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from exp_pipeline.cli.terminal import print_json, say, show_table
from exp_pipeline.model.errors import ExpError

if TYPE_CHECKING:
    from exp_pipeline.model.draws import Draw, DrawDesign
    from exp_pipeline.steps.assignment.draws import Drawn
    from exp_pipeline.store.home import Home

STRATA_SHOWN = 12


def design_of(
    *,
    strata: list[str] | None,
    clusters: str | None,
    blocks: int | None,
    match: list[str] | None,
    simple: bool,
) -> DrawDesign:
    """The design that the options ask for. Raises ExpError for options that exclude one another."""
    from exp_pipeline.model.draws import DrawDesign, Method

    asked = [
        name
        for name, given in (("--blocks", blocks), ("--match", match), ("--simple", simple))
        if given is not None and given is not False and given != []
    ]
    if len(asked) > 1:
        raise ExpError(f"{' and '.join(asked)} are different designs; give one of them")
    if simple and strata:
        raise ExpError("--simple draws each unit for itself; --strata has no part in it")
    if blocks is not None and not 2 <= blocks <= 1000:
        raise ExpError(f"--blocks {blocks}: a block has 2 to 1000 units")
    method: Method = "blocked" if blocks else "matched" if match else "simple" if simple else "stratified"
    return DrawDesign(
        method=method, strata=tuple(strata or ()), match=tuple(match or ()), clusters=clusters, block=blocks
    )


def draw_units(
    home: Home,
    experiment: str,
    units: Path,
    design: DrawDesign,
    *,
    seed: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Draw, or find again, the arms of a list; say how they are balanced; write them to `out`."""
    from exp_pipeline.cli.runs import open_bench
    from exp_pipeline.steps.assignment.draws import draw_table
    from exp_pipeline.store.files import write_text
    from exp_pipeline.store.unit_lists import read_unit_list

    if out is not None and out.suffix not in (".csv", ".json"):
        raise ExpError(f"--out {out}: give a name that ends in .csv or .json")
    listed = read_unit_list(units)
    with open_bench(home) as bench:
        drawn = draw_table(bench, experiment, listed, design, now=datetime.now(UTC), seed=seed)
    if out is not None:
        write_text(out, _as_csv(drawn) if out.suffix == ".csv" else _as_json(drawn))
    if as_json:
        record = drawn.draw.model_dump(mode="json")
        units_shown = [] if out is not None else drawn.rows.to_dicts()
        print_json({"made_now": drawn.made_now, "draw": record, "units": units_shown})
        return
    _say_draw(drawn.draw, drawn.made_now)
    if out is not None:
        say(f"\n{drawn.rows.height:,} rows written to {out}")
        return
    say()
    for unit, arm, _, outside in drawn.rows.iter_rows():
        say(f"{unit}\t{arm or reason_in_words(outside)}")


def reason_in_words(outside: str | None) -> str:
    """Why a unit is in no arm, for people."""
    known = {
        "held_out": "held out",
        "outside_layer": "in another part of the layer",
        "outside_traffic": "not in the experiment",
    }
    return f"({known.get(outside or '', 'not in the experiment')})"


def _say_draw(draw: Draw, made_now: bool) -> None:
    design = draw.design
    what = f"{draw.units:,} {draw.unit_type} units" + (f" ({draw.members:,} rows)" if draw.members else "")
    say(f"{draw.experiment} version {draw.version}: {what}, {design.method}, seed {draw.seed}")
    say("drawn now" if made_now else f"drawn on {draw.drawn_at:%Y-%m-%d %H:%M} UTC, found again")
    for why, count in draw.left_out.items():
        say(f"{count:,} units left out {reason_in_words(why)}")
    strata = list(dict.fromkeys(count.stratum for count in draw.counts))
    shown = strata[: STRATA_SHOWN + 1]
    say()
    show_table(
        ("stratum", "arm", "units", "planned"),
        [
            (one.stratum or "all", one.arm, f"{one.units:,}", f"{one.planned:,.1f}")
            for one in draw.counts
            if one.stratum in shown
        ],
        right=("units", "planned"),
    )
    if len(strata) > len(shown):
        say(f"and {len(strata) - len(shown)} more strata (--json shows all)")
    if draw.balance:
        show_table(
            ("column", "arm", "mean", "difference in sd"),
            [
                (
                    one.column,
                    one.arm,
                    f"{one.mean:.4g}",
                    "" if one.standardised_difference is None else f"{one.standardised_difference:+.3f}",
                )
                for one in draw.balance
            ],
            right=("mean", "difference in sd"),
        )


def _as_csv(drawn: Drawn) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(drawn.rows.columns)
    writer.writerows(drawn.rows.iter_rows())
    return text.getvalue()


def _as_json(drawn: Drawn) -> str:
    draw = drawn.draw
    head = {"experiment": draw.experiment, "version": draw.version, "table_digest": draw.table_digest}
    return json.dumps({**head, "units": drawn.rows.to_dicts()}, indent=1, ensure_ascii=False) + "\n"
