"""A data folder in Python: briefs, datasets, readouts, figures and the warehouse, for notebooks and scripts.

Everything is read; nothing is written, and no lock is taken, so it works beside runs and the daemon. What the
pages hide is hidden here too: while an experiment is blinded its readout holds no primary effect, and rows of
units say no arm. Only the command line records an unblinding (`exp unblind`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from exp_pipeline.model.errors import ExpError
from exp_pipeline.workspace.figure import Figure

if TYPE_CHECKING:
    from datetime import date

    import polars as pl

    from exp_pipeline.catalog import Catalog
    from exp_pipeline.model.base import Noun
    from exp_pipeline.model.brief import Brief
    from exp_pipeline.model.differences import ReadoutDifference
    from exp_pipeline.model.errors import Problem
    from exp_pipeline.model.metrics import Metric
    from exp_pipeline.model.readout import Decision, Readout
    from exp_pipeline.steps.context import Workbench
    from exp_pipeline.steps.experiments.planning import WholePlan
    from exp_pipeline.store.home import Home

__all__ = ["Figure", "MemoForm", "Workspace"]

MemoForm = Literal["html", "md", "json", "teachers.html", "teachers.md"]


class Workspace:
    """The data folder as its experiments, to be read.

    home: the folder; without one, EXP_HOME, or `data` in the working folder. Raises ExpError where it is not
    there. What people wrote is read again when its files change.
    """

    def __init__(self, home: str | Path | None = None) -> None:
        root = Path(home) if home is not None else Path(os.environ.get("EXP_HOME") or "data")
        if not root.is_dir():
            raise ExpError(
                f"there is no data folder {root}: give Workspace its path, or set EXP_HOME; "
                f"`exp init {root}` makes one"
            )
        self._root = root

    def __repr__(self) -> str:
        return f"Workspace({str(self._root)!r})"

    @property
    def path(self) -> Path:
        """The data folder."""
        return self._root

    # What people wrote.

    @property
    def experiments(self) -> tuple[str, ...]:
        """Every experiment that has a brief or a dataset, by name."""
        from exp_pipeline.store.marts import Marts

        return tuple(sorted({*self._read_catalog().briefs, *Marts(self._home.marts).experiments()}))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with files of the catalog; what rests on them is left out of the rest."""
        return self._read_catalog().problems

    def brief(self, experiment: str, snapshot: str | None = None) -> Brief:
        """The brief as it stands now; with a snapshot, as it stood when that was made."""
        if snapshot is not None:
            from exp_pipeline.steps.experiments.kept import read_kept
            from exp_pipeline.store.marts import Marts

            self._snapshot(experiment, snapshot)
            return read_kept(Marts(self._home.marts).folder(experiment, snapshot)).brief
        briefs = self._read_catalog().briefs
        if experiment not in briefs:
            raise ExpError(f"no usable brief for {experiment!r}; there are: {', '.join(briefs) or 'none'}")
        return briefs[experiment]

    def metrics(self) -> dict[str, Metric]:
        """The metrics of the catalog, by name."""
        return dict(self._read_catalog().metrics)

    def plan(self, experiment: str) -> WholePlan:
        """Size, duration, power and readiness of an experiment, from the days before it."""
        from exp_pipeline.steps.experiments.planning import plan_of

        self.brief(experiment)
        with self._open() as bench:
            return plan_of(bench, experiment)

    # Readouts as they were made.

    def snapshots(self, experiment: str) -> pl.DataFrame:
        """The experiment's snapshots, oldest data first.

        Columns: snapshot, as_of, current, read_out, code_version, brief_digest.
        """
        import polars as pl

        from exp_pipeline.steps.experiments.stored_readouts import READOUT_FILE
        from exp_pipeline.store.marts import Marts

        marts, rows = Marts(self._home.marts), []
        for name in marts.snapshots(experiment):
            record = marts.record(experiment, name) or {}
            folder = self._home.readouts / f"experiment={experiment}" / f"snapshot={name}"
            rows.append(
                {
                    "snapshot": name,
                    "as_of": str(record.get("as_of")),
                    "current": name == marts.current(experiment),
                    "read_out": (folder / READOUT_FILE).is_file(),
                    "code_version": str(record.get("code_version")),
                    "brief_digest": str(record.get("brief_digest")),
                }
            )
        types = {
            "snapshot": pl.String, "as_of": pl.String, "current": pl.Boolean, "read_out": pl.Boolean,
            "code_version": pl.String, "brief_digest": pl.String,
        }  # fmt: skip
        frame = pl.DataFrame(rows, schema=types)
        return frame.with_columns(pl.col("as_of").str.to_date(strict=False)).sort("as_of", "snapshot")

    def readout(self, experiment: str, snapshot: str | None = None) -> Readout:
        """Everything that a readout says (the newest that was made, unless named).

        Raises ExpError where the snapshot was not read out, or was removed by an erasure: with its receipt.
        """
        from exp_pipeline.steps.experiments.erased import refuse_erased
        from exp_pipeline.steps.warehouse import current_readout

        name = snapshot or self._newest(experiment)
        refuse_erased(self._home, experiment, name)
        with self._open() as bench:
            found = current_readout(bench, experiment, name)
        if found is None:
            self._snapshot(experiment, name)
            raise ExpError(
                f"snapshot {name} of {experiment} was not read out yet: `exp run --experiment {experiment}`, "
                f"or `exp readout {experiment} --snapshot {name}`"
            )
        return found

    def memo(self, experiment: str, snapshot: str | None = None, form: MemoForm = "md") -> str:
        """The decision memo (or the note for teachers) as it was sealed with its snapshot."""
        from exp_pipeline.steps.experiments.erased import refuse_erased
        from exp_pipeline.steps.experiments.sealed_readouts import MEMO_FORMS, MEMO_GROUP, texts_of
        from exp_pipeline.store.sealed import read_sealed

        if form not in MEMO_FORMS:
            raise ValueError(f"form must be one of {', '.join(MEMO_FORMS)}; got {form!r}")
        name = snapshot or self._newest(experiment)
        refuse_erased(self._home, experiment, name)
        folder = self._home.readouts / f"experiment={experiment}" / f"snapshot={name}"
        found = read_sealed(folder, MEMO_GROUP, f"memo.{form}")
        return (found or texts_of(self.readout(experiment, name))[form]).decode()

    def estimates(self, experiment: str, snapshot: str | None = None) -> pl.DataFrame:
        """Effects with their intervals, one row a metric and arm; guardrails only while blinded."""
        from exp_pipeline.model.readout import Estimate

        return self._frame(self.readout(experiment, snapshot).estimates, Estimate)

    def segments(self, experiment: str, snapshot: str | None = None) -> pl.DataFrame:
        """Effects in each declared segment; no row while blinded."""
        from exp_pipeline.model.readout import Estimate

        return self._frame(self.readout(experiment, snapshot).segments, Estimate)

    def guardrails(self, experiment: str, snapshot: str | None = None) -> pl.DataFrame:
        """Each guardrail in each arm: harm, its bound, its margin, and what follows. Never hidden."""
        from exp_pipeline.model.readout import GuardrailResult

        return self._frame(self.readout(experiment, snapshot).guardrails, GuardrailResult)

    def integrity(self, experiment: str, snapshot: str | None = None) -> pl.DataFrame:
        """Every integrity check with its verdict and evidence, in order. Never hidden."""
        from exp_pipeline.model.readout import IntegrityCheck

        return self._frame(self.readout(experiment, snapshot).integrity, IntegrityCheck)

    def counts(self, experiment: str, snapshot: str | None = None) -> pl.DataFrame:
        """Units of each arm: planned share, assigned, exposed, analysed, contaminated. Never hidden."""
        from exp_pipeline.model.readout import ArmCount

        return self._frame(self.readout(experiment, snapshot).counts, ArmCount)

    def decision(self, experiment: str, snapshot: str | None = None) -> Decision:
        """What a readout recommends, with the rules that decided it, in order."""
        return self.readout(experiment, snapshot).decision

    def figures(self, experiment: str, snapshot: str | None = None) -> dict[str, Figure]:
        """Every figure of a readout's memo, by name; those of hidden effects are not among them."""
        from exp_pipeline.report.facts import memo_document
        from exp_pipeline.report.plots import all_plots

        readout = self.readout(experiment, snapshot)
        document = memo_document(readout)
        return {
            name: Figure(
                experiment=experiment,
                snapshot=readout.provenance.snapshot,
                name=name,
                title=document.figures[name].title,
                description=document.figures[name].description,
                svg=wide,
            )
            for name, (wide, _) in all_plots(readout, document).items()
            if wide
        }

    def figure(self, experiment: str, name: str, snapshot: str | None = None) -> Figure:
        """One figure of a readout's memo. Raises ValueError naming those that it has."""
        found = self.figures(experiment, snapshot)
        if name not in found:
            raise ValueError(f"name must be one of {', '.join(found) or 'none'}; got {name!r}")
        return found[name]

    def diff(self, experiment: str, first: str, second: str | None = None) -> ReadoutDifference:
        """What changed from one readout to another (the newest, unless named), and why."""
        from exp_pipeline.steps.experiments.differences import compare_snapshots

        for name in (first, second or self._newest(experiment)):
            self.readout(experiment, name)
        with self._open() as bench:
            return compare_snapshots(bench, experiment, first, second or self._newest(experiment))

    # Logs.

    def decisions(self, experiment: str | None = None, search: str = "") -> pl.DataFrame:
        """The decision log, oldest first: what rules recommended, and what people decided."""
        import polars as pl

        from exp_pipeline.model.decision_log import LoggedDecision
        from exp_pipeline.steps.experiments.decision_log import decisions

        rows = decisions(self._home, experiment, search)
        differs = pl.Series("differs", [row.differs for row in rows], dtype=pl.Boolean)
        return self._frame(rows, LoggedDecision).with_columns(differs)

    def incidents(self, experiment: str | None = None, *, resolved: bool = True) -> pl.DataFrame:
        """Incidents, oldest first; without `resolved`, only those that still need somebody."""
        from exp_pipeline.model.incidents import Incident
        from exp_pipeline.steps.operating.incidents import incidents
        from exp_pipeline.store.state import state_log

        rows = [
            one
            for one in incidents(state_log(self._home))
            if experiment in (None, one.experiment) and (resolved or one.status != "resolved")
        ]
        return self._frame(rows, Incident)

    def blinded(self) -> dict[str, str]:
        """Experiments whose rows say no arm, and why, by name."""
        from exp_pipeline.steps.experiments.blinded import blinded_experiments

        with self._open() as bench:
            return blinded_experiments(bench, self.experiments)

    # Rows.

    def mad(self, experiment: str, snapshot: str | None = None) -> pl.DataFrame:
        """The minimal analytic dataset, one row a unit; without its arm while effects are hidden.

        What each column means: `query("from dataset_columns")`.
        """
        return self._dataset(experiment, snapshot, "mad")

    def weeks(self, experiment: str, snapshot: str | None = None) -> pl.DataFrame:
        """Every metric's parts, one row a unit and week since its assignment."""
        return self._dataset(experiment, snapshot, "weeks")

    def unit_days(
        self, first: date | None = None, last: date | None = None, *, experiment: str | None = None
    ) -> pl.LazyFrame:
        """What each learner of each experiment did, by day (both ends included); it carries no arm."""
        import polars as pl

        frame = self.table("unit_days", first, last)
        return frame if experiment is None else frame.filter(pl.col("experiment") == experiment)

    def sessions(self, first: date | None = None, last: date | None = None) -> pl.LazyFrame:
        """Sessions by the day they began (both ends included)."""
        return self.table("sessions", first, last)

    def table(self, name: str, first: date | None = None, last: date | None = None) -> pl.LazyFrame:
        """A table of the lake over some event days (all, unless named; both ends included).

        Arms of blinded experiments are null. The frame names files that are current now: collect it within an
        hour, after which files that were replaced meanwhile may be gone. Raises ValueError for an unknown
        table.
        """
        from exp_pipeline.steps.experiments.lake_frames import lake_frame
        from exp_pipeline.steps.warehouse import LAKE_VIEWS

        if name not in LAKE_VIEWS:
            raise ValueError(f"name must be one of {', '.join(LAKE_VIEWS)}; got {name!r}")
        with self._open() as bench:
            return lake_frame(bench, name, first, last)

    def query(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> pl.DataFrame:
        """The answer of the warehouse to one SELECT; `parameters` fill `?` or `$name`.

        Views and columns: `query("from columns")`, and docs/warehouse.md. Raises ValueError for anything but
        one reading statement, and ExpError where no warehouse was built yet.
        """
        import duckdb
        import polars as pl

        from exp_pipeline.store.warehouse import open_warehouse

        with open_warehouse(self._home.warehouse) as connection:
            try:
                statements = connection.extract_statements(sql)
                kinds = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
                if len(statements) != 1 or statements[0].type not in kinds:
                    raise ValueError(f"sql must be one statement that reads, such as a SELECT; got: {sql!r}")
                return pl.DataFrame(connection.sql(statements[0], params=parameters or None).to_arrow_table())
            except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as trouble:
                raise ValueError(f"the warehouse cannot answer this: {trouble}") from trouble

    @property
    def _home(self) -> Home:
        from exp_pipeline.steps.opening import home_from

        return home_from({**os.environ, "EXP_HOME": str(self._root)})

    @contextmanager
    def _open(self) -> Iterator[Workbench]:
        import duckdb

        from exp_pipeline.steps.opening import workbench

        with (
            duckdb.connect(":memory:") as connection,
            workbench(
                self._home,
                connection,
                run_id="workspace",
                environment=os.environ,
                catalog=self._read_catalog(),
            ) as bench,
        ):
            yield bench

    def _read_catalog(self) -> Catalog:
        from exp_pipeline.steps.opening import open_catalog

        return open_catalog(self._home.catalog)

    def _newest(self, experiment: str) -> str:
        from exp_pipeline.steps.experiments.stored_readouts import newest_read_out

        return newest_read_out(self._home, experiment) or self._current(experiment)

    def _current(self, experiment: str) -> str:
        from exp_pipeline.store.marts import Marts

        name = Marts(self._home.marts).current(experiment)
        if name is None:
            known = ", ".join(self.experiments) or "none"
            why = (
                f"it has no dataset yet: `exp run --experiment {experiment}`"
                if experiment in self.experiments
                else f"there are: {known}"
            )
            raise ExpError(f"no readout of {experiment!r}; {why}")
        return name

    def _snapshot(self, experiment: str, snapshot: str) -> None:
        from exp_pipeline.steps.experiments.erased import refuse_erased
        from exp_pipeline.store.marts import Marts

        refuse_erased(self._home, experiment, snapshot)
        known = Marts(self._home.marts).snapshots(experiment)
        if snapshot not in known:
            raise ExpError(f"no snapshot {snapshot} of {experiment}; there are: {', '.join(known) or 'none'}")

    def _dataset(self, experiment: str, snapshot: str | None, part: str) -> pl.DataFrame:
        import polars as pl

        from exp_pipeline.steps.experiments.blinded import without_arms
        from exp_pipeline.steps.warehouse import current_readout
        from exp_pipeline.store.marts import Marts

        name = snapshot or self._current(experiment)
        self._snapshot(experiment, name)
        path = Marts(self._home.marts).folder(experiment, name) / f"{part}.parquet"
        if not path.is_file():
            raise ExpError(f"snapshot {name} of {experiment} was made by an earlier version, without {part}")
        frame = pl.read_parquet(path)
        with self._open() as bench:
            readout = current_readout(bench, experiment, name)
        return without_arms(frame) if readout is None or readout.blinded else frame

    def _frame(self, rows: Sequence[Noun], kind: type[Noun]) -> pl.DataFrame:
        from exp_pipeline.steps.experiments.frames import frame_of

        return frame_of(rows, kind)
