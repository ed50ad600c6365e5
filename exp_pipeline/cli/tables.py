"""`analyze`: estimates, or a whole memo, from a table of units or arms; no Dagster, no events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exp_pipeline.cli.answers import json_text, tell, write_answer
from exp_pipeline.cli.terminal import DAY, AsJson, print_json, say, show_table
from exp_pipeline.model.errors import ExpError

if TYPE_CHECKING:
    import polars as pl

    from exp_pipeline.analysis.tables.answer import TableAnswer
    from exp_pipeline.model.readout import Estimate, Readout

_UNLOCKED = (
    "The brief was not locked before the data were seen, so every effect is marked exploratory. "
    "If it was written before anybody saw them, say so with --locked."
)


def analyze(
    path: Annotated[
        Path | None, typer.Argument(metavar="TABLE", help="The table: .parquet or .csv.", show_default=False)
    ] = None,
    brief: Annotated[
        Path | None,
        typer.Option("--brief", metavar="FILE", help="A brief with a `table` section, for a whole memo."),
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--table", metavar="FILE", help="The table, instead of as an argument.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Where memo and estimates.json go; FILE.json takes estimates alone."
        ),
    ] = None,
    arm: Annotated[
        str | None, typer.Option(help="Column that names the arm (where rows are arms: a,b).")
    ] = None,
    outcome: Annotated[
        list[str] | None,
        typer.Option(help="Column of an outcome, or a,b or a/b (a over b). May be given several times."),
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Column of the unit's id.")] = None,
    control: Annotated[str | None, typer.Option(help="The arm that others are compared with.")] = None,
    denominator: Annotated[
        str | None, typer.Option(help="Column over which every outcome is taken: a rate or ratio.")
    ] = None,
    cluster: Annotated[str | None, typer.Option(help="Column of what was randomised: class, school.")] = None,
    strata: Annotated[
        str | None, typer.Option(metavar="a,b", help="Columns within which arms were drawn.")
    ] = None,
    covariates: Annotated[
        str | None, typer.Option(metavar="a,b", help="Columns measured before assignment.")
    ] = None,
    segments: Annotated[str | None, typer.Option(metavar="a,b", help="Columns to split effects by.")] = None,
    received: Annotated[
        str | None, typer.Option(help="Column of whether the treatment was taken: complier effects.")
    ] = None,
    weight: Annotated[str | None, typer.Option(help="Column of unit weights.")] = None,
    shares: Annotated[
        str | None, typer.Option(metavar="a=0.5,b=0.5", help="Planned shares of the arms, or: equal.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="Column that names the test: many in one file.")] = None,
    trials: Annotated[str | None, typer.Option(help="One row an arm: column of units.")] = None,
    successes: Annotated[str | None, typer.Option(help="One row an arm: column of successes.")] = None,
    n: Annotated[str | None, typer.Option(help="One row an arm: column of units.")] = None,
    mean: Annotated[str | None, typer.Option(help="One row an arm: column of means.")] = None,
    sd: Annotated[str | None, typer.Option(help="One row an arm: column of standard deviations.")] = None,
    level: Annotated[float, typer.Option(help="Confidence of the intervals.")] = 0.95,
    quantile: Annotated[
        list[float] | None,
        typer.Option(help="Compare this quantile of the outcomes, not their means. May be given again."),
    ] = None,
    all_pairs: Annotated[bool, typer.Option("--all-pairs", help="Compare every two arms.")] = False,
    correction: Annotated[str, typer.Option(help="holm or benjamini-hochberg.")] = "holm",
    locked: Annotated[
        bool, typer.Option("--locked", help="Declare that the brief was written before the data were seen.")
    ] = False,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            "--as-of",
            formats=DAY,
            metavar="DAY",
            help="Last day to which the table is complete. Default: its newest date, or the brief's last.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Estimate the effects in your own table of units or of arms; with a brief, the whole memo."""
    if path is not None and table is not None:
        raise ExpError(f"the table is named twice: {path} and --table {table}")
    source = path or table
    if source is None:
        raise ExpError("name the table: exp analyze TABLE --arm COLUMN --outcome COLUMN, or --brief FILE")
    if brief is not None:
        if out is None:
            raise ExpError("--brief writes a memo: name its folder with --out DIR")
        _read_out(brief, source, out, locked=locked, as_of=as_of, as_json=as_json)
        return
    given = {
        "arm": arm, "control": control, "level": level, "all_pairs": all_pairs, "correction": correction,
    }  # fmt: skip
    if correction not in ("holm", "benjamini-hochberg"):
        raise ExpError(f"--correction {correction!r}: allowed are holm and benjamini-hochberg")
    if test or trials or successes or n or mean or sd:
        beside = {"--unit": unit, "--cluster": cluster, "--strata": strata, "--covariates": covariates,
                  "--segments": segments, "--received": received, "--weight": weight,
                  "--quantile": quantile or None}  # fmt: skip
        unusable = [option for option, value in beside.items() if value is not None]
        if unusable:
            raise ExpError(f"many tests, and rows of arms, are compared without {', '.join(unusable)}")
        answer = _batch(source, given, _one_outcome(outcome), denominator, shares,
                        {"test": test, "trials": trials, "successes": successes, "n": n, "mean": mean,
                         "sd": sd})  # fmt: skip
    else:
        columns = {
            "unit": unit, "cluster": cluster, "received": received, "weight": weight,
            "strata": _names(strata), "covariates": _names(covariates), "segments": _names(segments),
            "quantiles": tuple(quantile or ()),
        }  # fmt: skip
        answer = _units(source, given, outcome or [], denominator, shares, columns)
    where = write_answer(answer, out) if out is not None else None
    if as_json:
        typer.echo(json_text(answer), nl=False)
        return
    tell(answer)
    if where is not None:
        say(f"\nEstimates: {where}")


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text else ()


def _one_outcome(outcome: Sequence[str] | None) -> str | None:
    if outcome and len(outcome) > 1:
        raise ExpError("many tests take one --outcome at a time")
    return outcome[0] if outcome else None


def _shares(text: str | None, arms: Callable[[], Sequence[str]]) -> dict[str, float]:
    """Planned shares by arm; "equal" gives every arm the same."""
    if text is None:
        return {}
    if text.strip().lower() == "equal":
        return dict.fromkeys(arms(), 1.0)
    found: dict[str, float] = {}
    for part in text.split(","):
        arm, equals, share = part.rpartition("=")
        try:
            number = float(share)
        except ValueError:
            number = -1.0
        if not equals or not arm.strip() or number < 0.0 or arm.strip() in found:
            raise ExpError(
                f"--shares {part!r}: give arm=share once for each arm, such as control=0.5, or equal"
            )
        found[arm.strip()] = number
    return found


def _batch(
    source: Path,
    given: dict[str, Any],
    outcome: str | None,
    denominator: str | None,
    shares: str | None,
    columns: dict[str, Any],
) -> TableAnswer:
    from exp_pipeline.analysis.tables.batches import BatchQuestion, answer_of_batch
    from exp_pipeline.analysis.tables.question import as_labels

    frame = read_table(source)

    named = given["arm"]
    columns["arm"] = named if named is None or named in frame.columns else _names(named)

    def arms() -> Sequence[str]:
        asked = (named,) if named in frame.columns else _names(named)
        if not asked or any(column not in frame.columns for column in asked):
            return ()
        return as_labels(frame, asked).drop_nulls().unique().sort().to_list()

    question = BatchQuestion(
        **given | columns, outcome=outcome, denominator=denominator, shares=_shares(shares, arms)
    )
    return answer_of_batch(frame, question, source.name)


def _units(
    source: Path,
    given: dict[str, Any],
    outcomes: Sequence[str],
    denominator: str | None,
    shares: str | None,
    columns: dict[str, Any],
) -> TableAnswer:
    import polars as pl

    from exp_pipeline.analysis.tables.answer import answer_of_file, answer_of_frame
    from exp_pipeline.analysis.tables.question import Asked, TableQuestion, as_labels

    if given["arm"] is None or not outcomes:
        columns_there = ", ".join(_columns(source))
        raise ExpError(
            "say which column names the arm and which holds the outcome: --arm ARM --outcome Y; "
            f"the columns of {source.name} are {columns_there}"
        )
    lazy = existing(source, "table").suffix.lower() == ".parquet"
    frame = None if lazy else read_table(source)
    known = list(pl.read_parquet_schema(source)) if frame is None else frame.columns

    def asked(text: str) -> list[Asked]:
        if text in known:
            return [Asked(text, denominator)]
        found = []
        for name in text.split(","):
            top, slash, base = name.strip().partition("/")
            whole = name.strip() in known or not slash
            found.append(Asked(name.strip(), denominator) if whole else Asked(top.strip(), base.strip()))
        return found

    def arms() -> Sequence[str]:
        if given["arm"] not in known:
            return ()
        part = pl.read_parquet(source, columns=[given["arm"]]) if frame is None else frame
        return as_labels(part, (given["arm"],)).drop_nulls().unique().sort().to_list()

    question = TableQuestion(
        **given,
        **columns,
        outcomes=tuple(one for text in outcomes for one in asked(text)),
        shares=_shares(shares, arms),
    )
    if frame is None:
        return answer_of_file(source, question)
    return answer_of_frame(frame, question, source.name)


def _read_out(
    brief: Path, table: Path, out: Path, *, locked: bool, as_of: datetime | None, as_json: bool
) -> None:
    """The memo of a brief on a unit table."""
    from exp_pipeline.analysis.population import split_population
    from exp_pipeline.analysis.readout import ReadoutInputs
    from exp_pipeline.analysis.tables.answer import answer_of_frame
    from exp_pipeline.analysis.tables.from_table import exclusions_of_table, mad_from_table, question_of_brief
    from exp_pipeline.catalog import digest_of_metrics, load_brief
    from exp_pipeline.model.readout import LockState, Provenance
    from exp_pipeline.steps.experiments.readouts import analyse_table
    from exp_pipeline.steps.opening import code_version
    from exp_pipeline.store.files import digest_of_file

    if not brief.is_file():
        raise ExpError(
            f"brief {brief}: there is no such file; name the file, such as data/catalog/experiments/NAME.yaml"
        )
    contract = load_brief(brief, None)
    frame = read_table(table)
    mad, metrics = mad_from_table(frame, contract)
    newest = mad["assigned_date"].max()
    last_day = contract.end - timedelta(days=1)
    complete = as_of.date() if as_of else min(newest, last_day) if isinstance(newest, date) else last_day
    snapshot = digest_of_file(table)
    said = (
        "declared as written before the data were seen" if locked else "not locked before the data were seen"
    )
    readout, page = analyse_table(
        ReadoutInputs(
            brief=contract,
            metrics=metrics,
            mad=mad,
            days=None,
            as_of=complete,
            lock=LockState(
                locked_digest=contract.analysis_digest() if locked else None,
                current_digest=contract.analysis_digest(),
            ),
            provenance=Provenance(
                snapshot=snapshot[:16],
                brief_digest=contract.digest(),
                metrics_digest=digest_of_metrics(contract, metrics, {}),
                code_version=code_version(),
                run_id="exp analyze",
                as_of=complete,
                source=f"unit table {table.name}; brief {said}",
                inputs={"table": snapshot},
            ),
            exclusions=exclusions_of_table(frame, contract),
        ),
        out,
    )
    arms = set(mad["arm"].to_list())
    answer = None
    if not readout.blinded and contract.control in arms and len(arms) > 1:
        analysed, _ = split_population(mad, contract)
        answer = answer_of_frame(analysed, question_of_brief(analysed, contract), table.name)
    where = None if answer is None else write_answer(answer, out)
    if as_json:
        print_json(
            {
                "experiment": readout.experiment,
                "locked": locked,
                "blinded": readout.blinded,
                "as_of": complete.isoformat(),
                "decision": readout.decision.model_dump(mode="json"),
                "estimates": [row.model_dump(mode="json") for row in readout.estimates],
                "unadjusted": [row.model_dump(mode="json") for row in readout.unadjusted],
                "memo": str(page),
                "readout": str(out / "readout.json"),
                "every_estimate": None if where is None else str(where),
            }
        )
        return
    _tell(readout, complete, locked=locked)
    say(f"\nMemo: {page}")
    if where is not None:
        say(f"Every estimate: {where}")


def _tell(readout: Readout, complete: date, *, locked: bool) -> None:
    if not locked:
        say(_UNLOCKED + "\n")
    for check in readout.integrity:
        if check.verdict in ("fail", "warn"):
            say(f"{check.verdict}: {check.title}: {check.evidence}")
    if readout.blinded:
        say(readout.blinding_reason)
        if not readout.horizon_reached:
            say(f"The table's newest date is {complete}; if it is complete to a later day, say --as-of DAY.")
    adjusted = {(row.metric, row.arm) for row in readout.estimates if row.adjusted}
    plain = [row for row in readout.unadjusted if (row.metric, row.arm) in adjusted]
    rows = [(_effect(row), row) for row in (*readout.estimates, *plain)]
    if rows:
        show_table(
            ("metric", "arm", "n (arm / control)", "effect", "95 % interval", "se", "p", "method"),
            [
                (
                    row.title,
                    row.arm,
                    f"{row.n_treatment} / {row.n_control}",
                    effect[0],
                    effect[1],
                    effect[2],
                    "" if row.p_value is None else f"{row.p_value:.3g}",
                    "adjusted" if row.adjusted else "plain",
                )
                for effect, row in rows
            ],
        )
    say(f"\n{readout.decision.outcome.replace('_', ' ')}: {readout.decision.summary}")


def _effect(row: Estimate) -> tuple[str, str, str]:
    """Effect, interval and standard error as text, shares in percentage points."""
    if row.absolute is None or row.se is None:
        return row.reason or "cannot be estimated", "", ""
    scale, unit = (100.0, " pp") if row.display == "share" else (1.0, "")
    interval = (
        ""
        if row.ci_lower is None or row.ci_upper is None
        else (f"{row.ci_lower * scale:+.2f} to {row.ci_upper * scale:+.2f}")
    )
    return f"{row.absolute * scale:+.2f}{unit}", interval, f"{row.se * scale:.2f}"


def _columns(source: Path) -> list[str]:
    """The columns of a table; of Parquet its foot alone is read."""
    import polars as pl

    if existing(source, "table").suffix.lower() == ".parquet":
        try:
            return list(pl.read_parquet_schema(source))
        except pl.exceptions.PolarsError as error:
            raise ExpError(f"table {source} cannot be read as parquet: {error}") from error
    return read_table(source).columns


def existing(path: Path, what: str) -> Path:
    """The path, if there is a file. Raises ExpError where there is none."""
    if not path.is_file():
        raise ExpError(f"{what} {path}: there is no such file")
    return path


def read_table(path: Path) -> pl.DataFrame:
    """A unit table from Parquet or CSV. Raises ExpError for what cannot be read as one."""
    import polars as pl

    existing(path, "table")
    suffix = path.suffix.lower()
    if suffix not in (".parquet", ".csv"):
        raise ExpError(f"table {path}: the name must end in .parquet or .csv")
    try:
        frame = pl.read_parquet(path) if suffix == ".parquet" else pl.read_csv(path, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise ExpError(f"table {path} cannot be read as {suffix[1:]}: {error}") from error
    if frame.is_empty():
        raise ExpError(f"table {path} has no rows")
    return frame
