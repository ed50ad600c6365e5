"""Readouts and memos as they were sealed with their snapshots: made once, and given back to the byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from exp_pipeline.analysis.deciding.movement import movements
from exp_pipeline.model.errors import ExpError, StoreError
from exp_pipeline.model.ramps import RampEntry
from exp_pipeline.model.readout import Readout, SinceLast
from exp_pipeline.report import educator_note, render_memo
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.chain import compute_readout
from exp_pipeline.steps.experiments.erased import refuse_erased
from exp_pipeline.steps.experiments.kept import ramp_of, read_kept
from exp_pipeline.steps.experiments.stored_readouts import (
    READOUT_FILE,
    READOUT_GROUP,
    parse_readout,
    readout_folder,
)
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.sealed import read_sealed, restore, seal

# The memo in three forms, and the note for teachers in two; each by the end of its file's name.
MEMO_FORMS = ("html", "md", "json", "teachers.html", "teachers.md")
MEMO_GROUP = "memo"
# From the folder of a sealed memo to the page of all experiments.
_INDEX = "../../index.html"


def folder_of(bench: Workbench, experiment: str, snapshot: str) -> Path:
    """Where the readout of a snapshot lies."""
    return readout_folder(bench.home, experiment, snapshot)


def current_snapshot(bench: Workbench, experiment: str) -> str:
    """The experiment's newest snapshot. Raises ExpError where there is none."""
    snapshot = Marts(bench.home.marts).current(experiment)
    if snapshot is None:
        brief = bench.catalog.briefs.get(experiment)
        if brief is not None and brief.table is not None:
            raise ExpError(
                f"experiment {experiment} is over a unit table, which has no snapshots: "
                "`exp analyze TABLE --brief FILE --out DIR` writes its memo"
            )
        raise ExpError(
            f"experiment {experiment} has no snapshot yet: materialize `mad` first "
            f"(`exp run --experiment {experiment}`)"
        )
    return snapshot


def readout_of(bench: Workbench, experiment: str, snapshot: str | None = None) -> Readout:
    """The readout of a snapshot (the current one, unless named), computed once and the same ever after.

    Raises ExpError where this version cannot read the form in which another one wrote it.
    """
    name = snapshot or current_snapshot(bench, experiment)
    return parsed_readout(readout_bytes(bench, experiment, name), experiment, name)


def readout_bytes(bench: Workbench, experiment: str, snapshot: str) -> bytes:
    """The readout of a snapshot as JSON: the bytes that were sealed when it was first made.

    Made now where it never was, from what the snapshot keeps. Raises ExpError where the snapshot was erased
    or does not exist, and StoreError where the file was changed and cannot be put back.
    """
    refuse_erased(bench.home, experiment, snapshot)
    folder = folder_of(bench, experiment, snapshot)
    try:
        found = read_sealed(folder, READOUT_GROUP, READOUT_FILE)
    except StoreError as damage:
        again = _made(bench, experiment, snapshot)
        if not restore(folder, READOUT_GROUP, READOUT_FILE, again):
            raise StoreError(
                f"{damage}, and this version of the program computes other bytes from the snapshot: bring "
                "the file back from a copy, or see what differs with "
                f"`exp readout {experiment} --snapshot {snapshot} --recompute`"
            ) from damage
        return again
    if found is None:
        path = folder / READOUT_FILE
        # Written, but not sealed: by a run that was killed in between, or by an earlier version.
        made = path.read_bytes() if path.is_file() else _made(bench, experiment, snapshot)
        seal(folder, READOUT_GROUP, {READOUT_FILE: made})
        found = read_sealed(folder, READOUT_GROUP, READOUT_FILE)
    if found is None:
        raise StoreError(f"{folder / READOUT_FILE} could not be sealed")
    return found


def parsed_readout(encoded: bytes, experiment: str, snapshot: str) -> Readout:
    """A stored readout. Raises ExpError where its form is another version's."""
    try:
        return parse_readout(encoded)
    except ValidationError as trouble:
        first = trouble.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ExpError(
            f"the readout of snapshot {snapshot} of {experiment} has the form of another version of the "
            f"program ({place}: {first['msg']}): `exp readout {experiment} --snapshot {snapshot} --json` "
            "gives it as it was written, `--recompute` computes it again"
        ) from trouble


def _made(bench: Workbench, experiment: str, snapshot: str) -> bytes:
    readout = compute_readout(bench, experiment, snapshot)
    since = since_before(bench, experiment, snapshot, readout)
    if since is not None:
        readout = readout.model_copy(update={"since_last": since})
    return (readout.model_dump_json(indent=1) + "\n").encode()


def since_before(bench: Workbench, experiment: str, snapshot: str, readout: Readout) -> SinceLast | None:
    """What changed since the readout of the snapshot before; None where there was none that can be read."""
    before = read_kept(Marts(bench.home.marts).folder(experiment, snapshot)).before
    if before is None:
        return None
    encoded = read_sealed(folder_of(bench, experiment, before.snapshot), READOUT_GROUP, READOUT_FILE)
    try:
        last = parse_readout(encoded) if encoded is not None else None
    except ValidationError:
        # Written in another version's form: nothing can be said of how its numbers moved.
        last = None
    if last is None:
        return None
    return SinceLast(
        snapshot=before.snapshot, as_of=before.as_of, inputs=before.inputs, movements=movements(last, readout)
    )


def memo_bytes(
    bench: Workbench, experiment: str, snapshot: str, form: str, readout: Readout | None = None
) -> bytes:
    """The memo of a snapshot in one form (of MEMO_FORMS): the bytes that were sealed with it.

    Drawn now where it never was, with the note for teachers beside it. Raises as `readout_bytes` does, and
    ValueError for an unknown form.
    """
    if form not in MEMO_FORMS:
        raise ValueError(f"form must be one of {', '.join(MEMO_FORMS)}; got {form!r}")
    refuse_erased(bench.home, experiment, snapshot)
    folder, name = folder_of(bench, experiment, snapshot), f"memo.{form}"
    found = read_sealed(folder, MEMO_GROUP, name)
    if found is None:
        drawn = drawn_memo(bench, experiment, snapshot, readout)
        seal(folder, MEMO_GROUP, {f"memo.{suffix}": text for suffix, text in drawn.items()})
        found = read_sealed(folder, MEMO_GROUP, name)
    if found is None:
        raise StoreError(f"{folder / name} could not be sealed")
    return found


def drawn_memo(
    bench: Workbench, experiment: str, snapshot: str, readout: Readout | None = None, notice: str = ""
) -> dict[str, bytes]:
    """A snapshot's memo and its note for teachers, drawn now from the readout and what the snapshot keeps."""
    shown = readout or readout_of(bench, experiment, snapshot)
    transitions = ramp_of(Marts(bench.home.marts).folder(experiment, snapshot))
    return texts_of(shown, transitions, index=_INDEX, notice=notice)


def published(texts: Mapping[str, bytes]) -> dict[str, bytes]:
    """The forms of a sealed memo as they lie beside the index: its page leads there from another folder."""
    here = Path(_INDEX).name
    return {
        form: text.replace(f'href="{_INDEX}"'.encode(), f'href="{here}"'.encode()) if form == "html" else text
        for form, text in texts.items()
    }


def texts_of(
    readout: Readout, transitions: Sequence[RampEntry] = (), index: str = "", notice: str = ""
) -> dict[str, bytes]:
    """A readout's memo and its note for teachers, drawn now, by form.

    transitions: of the ramp, up to the readout's day. index: where the page of all experiments lies. notice:
    stands before all else.
    """
    memo, note = render_memo(readout, transitions, index, notice), educator_note(readout)
    texts = (memo.html, memo.markdown, memo.json, note.html, note.markdown)
    return {form: text.encode() for form, text in zip(MEMO_FORMS, texts, strict=True)}
