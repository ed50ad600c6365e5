"""Dry run: the brief's design on synthetic units with no effect and with the planned one, before any learner sees it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from exp_pipeline.analysis.readout import ReadoutInputs, read_out
from exp_pipeline.catalog import lock_record, lock_state
from exp_pipeline.model.brief import Brief, VarianceReduction
from exp_pipeline.model.metrics import Metric, numerator_column
from exp_pipeline.model.readout import Provenance
from exp_pipeline.simulate.units import UnitArm, UnitPlan, draw_units
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiment import brief_of
from exp_pipeline.steps.planning import plan_power
