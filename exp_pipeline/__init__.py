"""An experimentation pipeline for LLM learning products: events in, decision memos out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exp_pipeline.workspace import Workspace as Workspace

__all__ = ["Workspace"]


def __getattr__(name: str) -> object:
    # Loaded when it is first asked for, so that every other import stays light.
    if name == "Workspace":
        from exp_pipeline.workspace import Workspace

        return Workspace
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
