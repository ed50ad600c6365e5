"""The bouts of a day, read from its event files once, with the texts that sessions carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.store.row_files import compact, joined
from exp_pipeline.store.sorted_runs import Learners, Run, sorted_runs
from exp_pipeline.transform.array_measures import EventRows
from exp_pipeline.transform.bouts import Bouts, Events, SessionRules, cut_bouts, one_after_another
from exp_pipeline.transform.columns import Flags, Places, Texts
from exp_pipeline.transform.sessions import LearnerEvents

if TYPE_CHECKING:
    import pyarrow as pa

# What a session says of its first event.
CONTEXT = (
    "learner_id",
    "session_id",
    "role",
    "platform",
    "app_version",
    "locale",
    "class_id",
    "teacher_id",
    "school_id",
    "district_id",
)
OBJECTIVE = "learning_objective_id"
TEXTS = (*CONTEXT, OBJECTIVE)
ENDING, TURN, RESPONSE = "tutor_session_ended", "tutor_turn_submitted", "tutor_turn_response_shown"
_CUTTING = ("occurred_at", "event_name", "objective_changed", "device_handover", OBJECTIVE, "session_id")


@dataclass(frozen=True, slots=True)
class BoutTable:
    """Bouts in the order of learner and time, and their texts: the columns `TEXTS`, as dictionaries."""

    bouts: Bouts
    texts: pa.Table

    def some(self, which: Flags) -> BoutTable:
        """Some of the bouts."""
        import pyarrow as pa

        texts = {
            name: compact(self.texts.column(name).combine_chunks().filter(pa.array(which)))
            for name in self.texts.column_names
        }
        return BoutTable(self.bouts.at(which), pa.table(texts))


def read_bouts(
    paths: Sequence[Path],
    types: Mapping[str, str],
    rules: SessionRules,
    uncut: Sequence[str] = (),
    within: Learners | None = None,
) -> BoutTable:
    """Cut a day's event files, sorted by learner and time, into bouts: of all learners, or of those `within`.

    `types` are the SQL types of the columns of events. For events of the sources in `uncut` no objective
    counts: they are neither cut by one nor have one.
    """
    at_once = (*_CUTTING, *CONTEXT, *(("source",) if uncut else ()))
    parts, texts = [], []
    for run in sorted_runs(paths, types, first=at_once, within=within):
        bouts, told = _bouts_of(run, rules, frozenset(uncut))
        parts.append(bouts)
        texts.append(told)
    if not parts:
        return BoutTable(_no_bouts(), _no_texts())
    return BoutTable(one_after_another(parts), joined(texts))


def _bouts_of(run: Run, rules: SessionRules, uncut: frozenset[str]) -> tuple[Bouts, pa.Table]:
    import pyarrow as pa

    named = EventRows(run)
    objective = run.texts(OBJECTIVE).codes
    changed = _flags(run, "objective_changed")
    if uncut:
        source = run.texts("source")
        theirs = source.among(uncut)[source.codes]
        objective = np.where(theirs, np.int32(-1), objective)
        changed = changed & ~theirs
    events = Events(
        learner_key=run.numbers("learner_key").values,
        occurred_at=run.numbers("occurred_at").values,
        objective_changed=changed,
        device_handover=_flags(run, "device_handover"),
        objective=objective,
        session=run.texts("session_id").codes,
        endings=named.of(frozenset((ENDING,))),
        turns=named.of(frozenset((TURN,))),
        responses=named.of(frozenset((RESPONSE,))),
    )
    bouts = cut_bouts(events, rules)
    texts = run.table(CONTEXT, bouts.first).unify_dictionaries().combine_chunks()
    some = bouts.objective_at >= 0
    place = np.cumsum(some) - 1
    chosen = run.table((OBJECTIVE,), bouts.objective_at[some]).unify_dictionaries().combine_chunks()
    column = chosen.column(OBJECTIVE)
    if not chosen.num_rows:
        told = pa.nulls(len(some), column.type)
    else:
        told = column.chunk(0).take(pa.array(place, mask=~some))
    return bouts, texts.append_column(OBJECTIVE, told)


def _flags(run: Run, column: str) -> Flags:
    """A column of flags, false where there is none."""
    found = run.numbers(column)
    return found.values if found.present is None else found.values & found.present


def codes_of(column: pa.ChunkedArray) -> Texts:
    """A column of dictionaries as codes."""
    whole = column.unify_dictionaries().combine_chunks()
    codes = np.asarray(whole.indices.fill_null(-1) if whole.null_count else whole.indices)
    return Texts(codes, tuple(whole.dictionary.to_pylist()))


def _no_texts() -> pa.Table:
    import pyarrow as pa

    kind = pa.dictionary(pa.int32(), pa.string())
    return pa.table({name: pa.array([], kind) for name in TEXTS})


def _no_bouts() -> Bouts:
    none, rows, flags = np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.bool_)
    return cut_bouts(
        Events(none.astype(np.uint64), none, flags, flags, rows, rows, none, none, none),
        SessionRules(gap=0, cap=0, on_objective=False, on_device=False),
    )


def events_of(paths: Sequence[Path], types: Mapping[str, str], learners: NDArray[np.uint64]) -> LearnerEvents:
    """All events of some learners in the files of consecutive days."""
    none = np.empty(0, np.bool_)
    found = [(np.empty(0, np.uint64), np.empty(0, np.int64), none, none)]
    for run in sorted_runs(paths, types, within=learners):
        learner = run.numbers("learner_key").values
        rows: Places = np.flatnonzero(np.isin(learner, learners))
        names = run.texts("event_name", rows)
        turn, response = (names.among(frozenset((name,)))[names.codes] for name in (TURN, RESPONSE))
        found.append((learner[rows], run.numbers("occurred_at", rows).values, turn, response))
    learner, at, turn, response = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((at, learner))
    return LearnerEvents(learner[order], at[order], turn[order], response[order])
