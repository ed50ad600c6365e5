"""`exp`: what the pipeline does, for people in a terminal; the same functions as the assets call."""

from exp_pipeline.cli.app import main

__all__ = ["main"]
