"""What the README promises and can be checked: its map, its recipes, its files."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exp_pipeline.steps.opening import open_catalog

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _block(heading: str, language: str) -> str:
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = re.search(rf"```{language}\n(.*?)```", section, flags=re.S)
    assert found is not None, f"no {language} block under {heading}"
    return found.group(1)


def test_every_room_is_on_the_map() -> None:
    section = README.split("## The rooms\n", 1)[1].split("\n## ", 1)[0]
    named = set(re.findall(r"`(\w+)/`", section))
    package = ROOT / "exp_pipeline"
    rooms = {entry.name for entry in package.iterdir() if (entry / "__init__.py").is_file()}
    assert named == rooms


@pytest.mark.parametrize("target", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_every_link_leads_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


@pytest.mark.parametrize("command", sorted(set(re.findall(r"\bmake (\w+)", README))))
def test_every_make_target_exists(command: str) -> None:
    assert re.search(rf"^{command}\b.*:", (ROOT / "Makefile").read_text(), flags=re.M)


def test_the_event_recipe_makes_an_event_that_refuses_and_accepts() -> None:
    recipe = _block("How to add an event", "python")
    # A process of its own: the recipe must not enter its event into the taxonomy of other tests.
    program = (
        "from exp_pipeline.contracts.models.base import Rule\n"
        "from exp_pipeline.contracts.models.row import CanonicalEvent\n"
        f"{recipe}\n"
        "schema = NoteTaken.to_schema()\n"
        "assert not schema.columns['session_id'].nullable\n"
        "assert schema.columns['learning_objective_id'].nullable\n"
        "assert 'rule:note_has_objective' in [check.name for check in schema.checks]\n"
        "print('ok')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert done.stdout.strip() == "ok", done.stderr


def _catalog_with(tmp_path: Path, name: str, text: str) -> Path:
    root = tmp_path / "catalog"
    shutil.copytree(ROOT / "data" / "catalog", root)
    (root / name).write_text(text, encoding="utf-8")
    return root


def test_the_metric_recipe_is_a_valid_metric(tmp_path: Path) -> None:
    root = _catalog_with(tmp_path, "metrics/tools.yaml", _block("How to add a metric", "yaml"))
    catalog = open_catalog(root, strict=True)
    assert catalog.metrics["tool_error_rate"].measures() == ("tool_errors", "tool_calls")


def test_the_experiment_recipe_is_a_valid_brief(tmp_path: Path) -> None:
    root = _catalog_with(
        tmp_path, "experiments/calmer-feedback.yaml", _block("How to add an experiment", "yaml")
    )
    catalog = open_catalog(root, strict=True)
    assert catalog.briefs["calmer-feedback"].treatments()[0].name == "next-step"


def test_the_estimator_recipe_estimates_on_the_log_scale() -> None:
    import numpy as np
    from scipy import stats

    from exp_pipeline.stats.moments import Moments

    names: dict[str, object] = {}
    program = (
        "from dataclasses import replace\n"
        "from exp_pipeline.stats.effects.means import difference_in_means\n"
        "from exp_pipeline.stats.moments import Moments\n"
        "from exp_pipeline.stats.results import Effect, NotEstimable\n"
    ) + _block("How to add an estimator", "python")
    exec(program, names)
    random = np.random.default_rng(1)
    control, treatment = random.lognormal(0.0, 1.0, 200), random.lognormal(0.3, 1.0, 180)
    logs = [Moments.from_array(np.log(values)[:, None], ("y",)) for values in (control, treatment)]
    answer = names["difference_in_log_means"](*logs, outcome="y")  # type: ignore[operator]
    reference = stats.ttest_ind(np.log(treatment), np.log(control), equal_var=False)
    # Same formula, same data: only rounding may differ.
    assert answer.p_value == pytest.approx(reference.pvalue, rel=1e-9)
    assert answer.method == "welch-log"
