"""Snapshots that an erasure took away: what is said instead of their readouts."""

from __future__ import annotations

from exp_pipeline.model.errors import ExpError
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import state_log

# Kinds of the log's entries, and the note that an erasure leaves beside a readout of a removed snapshot.
ERASURES, ERASED_NOTE = "erasure", "erased.json"


class ErasedSnapshotError(ExpError):
    """A snapshot that held an erased person; `receipt` is the erasure's, empty while that is not finished."""

    def __init__(self, message: str, receipt: str) -> None:
        self.receipt = receipt
        super().__init__(message)


def refuse_erased(home: Home, experiment: str, snapshot: str) -> None:
    """Raise ErasedSnapshotError, naming the receipt, where an erasure removed this snapshot."""
    folder = home.readouts / f"experiment={experiment}" / f"snapshot={snapshot}"
    removed = f"{experiment}/{snapshot}"
    for entry in state_log(home).entries(ERASURES):
        named = entry.content.get("snapshots")
        if isinstance(named, list) and removed in named:
            remade = entry.content.get("remade")
            again = (
                f" It was read out again without that person: `exp readout {experiment}`."
                if isinstance(remade, list) and experiment in remade
                else ""
            )
            kept = f" The page as it was published is still in {folder}." if folder.is_dir() else ""
            raise ErasedSnapshotError(
                f"snapshot {snapshot} of {experiment} was removed on {entry.at[:10]} because it held a "
                f"person who was erased (receipt {entry.subject}, asked for by "
                f"{entry.content.get('requested_by', 'nobody named')}): its readout cannot be given or "
                f"computed again.{kept}{again}",
                entry.subject,
            )
    if (folder / ERASED_NOTE).is_file():
        raise ErasedSnapshotError(
            f"snapshot {snapshot} of {experiment} was removed by an erasure that has not finished: run "
            "`exp erase` again for the same person",
            "",
        )
