"""Dagster, one file per step: assets and their checks, then partitions, schedules, sensors, resources."""

import warnings

import dagster as dg

# Single-run backfills and asset checks of this pipeline are built on parts that Dagster still calls beta.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
