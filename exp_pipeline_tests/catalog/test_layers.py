"""Layers and briefs must agree, and every disagreement is named with its file, line and value."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from exp_pipeline.catalog import load_catalog
from exp_pipeline.model.layers import Layer, LayerPlace
from exp_pipeline_tests.catalog.folders import BRIEF, EVENT_NAMES, lines_of, write_catalog

SLOW = BRIEF.replace("quick", "slow")
LATER = SLOW.replace("2026-03-30", "2026-04-20").replace("2026-03-09", "2026-03-30")
IN = "layer: hints\n"
LAYER = """\
name: hints
experiments:
  - {experiment: quick-hints, buckets: [0, 6000]}
  - {experiment: slow-hints, buckets: [6000, 10000]}
"""
HOLDOUT = "name: everybody\nkind: holdout\nshare: 0.02\n"


def catalog_of(root: Path, slow: str = SLOW + IN, **changes: str) -> Path:
    files = {"experiments__quick-hints": BRIEF + IN, "experiments__slow-hints": slow, "layers__hints": LAYER}
    return write_catalog(root, **files | changes)


def test_briefs_find_their_layer_and_holdout(tmp_path: Path) -> None:
    root = catalog_of(tmp_path, layers__everybody=HOLDOUT)
    catalog = load_catalog(root, event_names=EVENT_NAMES)
    assert set(catalog.layers) == {"hints", "everybody"}
    limits = catalog.limits_of(catalog.briefs["slow-hints"])
    assert limits.layer_range("slow-hints") == (6000, 10_000)
    assert limits.held_out() == 200
    assert limits.draws() == "sha256-v1:hints|sha256-v1:everybody"
    exempt = catalog.briefs["slow-hints"].model_copy(update={"holdout": "exempt"})
    assert catalog.limits_of(exempt).holdout is None


def test_ranges_are_free_again_once_an_experiment_is_over(tmp_path: Path) -> None:
    again = LAYER.replace("[6000, 10000]", "[3000, 10000]")
    assert load_catalog(catalog_of(tmp_path, LATER + IN, layers__hints=again), event_names=EVENT_NAMES).layers


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"layers__hints": LAYER.replace("[6000, 10000]", "[5999, 10000]")},
            "layers/hints.yaml:4: experiments[1].buckets: slow-hints shares buckets with quick-hints, and "
            "both run at the same time (value: 5999, 10000); allowed: buckets outside 0 to 6000",
        ),
        (
            {"layers__hints": LAYER.replace("slow-hints", "slw-hints")},
            "layers/hints.yaml:4: experiments[1].experiment: unknown experiment; did you mean "
            "`slow-hints` or `quick-hints`? (value: slw-hints); allowed: quick-hints, slow-hints",
        ),
        (
            {"layers__other": LAYER.replace("name: hints", "name: other")},
            "layers/other.yaml:3: experiments[0].experiment: is in layer hints already; one is allowed "
            "(value: quick-hints)",
        ),
        (
            {"experiments__slow-hints": SLOW},
            "layers/hints.yaml:4: experiments[1].experiment: its brief names no layer (value: slow-hints); "
            "allowed: layer: hints in the brief",
        ),
        (
            {"experiments__slow-hints": SLOW + IN + "randomisation_unit: class\n"},
            "layers/hints.yaml:4: experiments[1].experiment: is randomised by class, and the layer draws by "
            "learner (value: slow-hints)",
        ),
        (
            {"experiments__slow-hints": SLOW + "layer: hnts\n"},
            "experiments/slow-hints.yaml:27: layer: unknown layer; did you mean `hints`? (value: hnts); "
            "allowed: hints",
        ),
        (
            {"layers__hints": LAYER.partition("  - {experiment: slow")[0]},
            "experiments/slow-hints.yaml:27: layer: layer hints gives slow-hints no buckets (value: hints); "
            "allowed: an entry `experiment: slow-hints` with buckets in the layer's file",
        ),
        (
            {"layers__everybody": HOLDOUT, "experiments__slow-hints": SLOW + "layer: everybody\n"},
            "experiments/slow-hints.yaml:27: layer: is a holdout: no experiment is in it (value: everybody); "
            "allowed: hints",
        ),
        (
            {"layers__everybody": HOLDOUT, "layers__more": HOLDOUT.replace("everybody", "more")},
            "layers/more.yaml:2: kind: holdout everybody holds out by learner already; one a unit is allowed "
            "(value: learner)",
        ),
        (
            {"layers__everybody": HOLDOUT + "unit: class\n"},
            "experiments/slow-hints.yaml:1: holdout: cannot be kept: units are held out by class, and "
            "slow-hints is randomised by learner (value: respect); allowed: holdout: exempt, or a holdout "
            "with unit: learner",
        ),
        (
            {"layers__hints": LAYER.replace("name: hints", "name: hunts")},
            "layers/hints.yaml:1: name: differs from the file's name `hints.yaml` (value: hunts); "
            "allowed: hints",
        ),
        (
            {"layers__hints": LAYER.replace("[0, 6000]", "[0, 60000]")},
            "layers/hints.yaml:3: experiments[0].buckets: buckets must be [first, end) with "
            "0 <= first < end <= 10000: 0, 60000",
        ),
        (
            {"layers__everybody": "name: everybody\nkind: holdout\n"},
            "layers/everybody.yaml:1: share: share is required where kind is holdout: the share of "
            "units held out",
        ),
        (
            {"layers__everybody": HOLDOUT + "metrics: [accurcy]\n"},
            "layers/everybody.yaml:4: metrics[0]: unknown metric; did you mean `accuracy`? (value: accurcy); "
            "allowed: accuracy, minutes, waiting",
        ),
        (
            {"layers__everybody": HOLDOUT + "metrics: [waiting]\n"},
            "layers/everybody.yaml:4: metrics[0]: a quantile is told since assignment, and nobody is "
            "assigned to a holdout (value: waiting); allowed: a mean, proportion, ratio, count rate or "
            "cost per outcome",
        ),
        (
            {"layers__everybody": HOLDOUT + "since: 2026-04-01\nuntil: 2026-04-01\n"},
            "layers/everybody.yaml:5: until: until must come after since: 2026-04-01 to 2026-04-01 (value: "
            "2026-04-01)",
        ),
        (
            {"layers__hints": LAYER + "metrics: [accuracy]\n"},
            "metrics, since and until belong to kind: holdout; no other layer is measured",
        ),
    ],
)  # fmt: skip
def test_disagreements_are_named(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    slow = changes.pop("experiments__slow-hints", SLOW + IN)
    assert any(line.endswith(said) for line in lines_of(catalog_of(tmp_path, slow, **changes)))


def test_a_broken_layer_takes_its_experiments_along_and_no_others(tmp_path: Path) -> None:
    broken = LAYER.replace("[6000, 10000]", "[0, 10000]")
    root = catalog_of(
        tmp_path, layers__hints=broken, **{"experiments__free": BRIEF.replace("quick-hints", "free")}
    )
    catalog = load_catalog(root, strict=False, event_names=EVENT_NAMES)
    assert (set(catalog.briefs), set(catalog.layers)) == ({"free"}, set())
    told = [str(problem) for problem in catalog.problems if problem.field == "layer"]
    assert len(told) == 2
    assert all("left out: layer hints has problems, see" in line for line in told)


def test_without_its_holdout_no_experiment_runs(tmp_path: Path) -> None:
    """A slip in a holdout's file must not let the units in that it keeps out."""
    exempt = BRIEF.replace("quick-hints", "free") + "holdout: exempt\n"
    for broken in (HOLDOUT + "metrics: [accurcy]\n", HOLDOUT.replace("0.02", "2")):
        root = catalog_of(tmp_path, layers__everybody=broken, **{"experiments__free": exempt})
        catalog = load_catalog(root, strict=False, event_names=EVENT_NAMES)
        assert (set(catalog.briefs), set(catalog.layers)) == ({"free"}, {"hints"})
        told = [str(problem) for problem in catalog.problems if problem.field == "name"]
        assert len(told) == 2
        assert all(
            "left out: holdout everybody, which it keeps to, has problems, see" in line for line in told
        )


HINTS = """\
measures:
  - {name: hints, description: Answers looked at., events: [answer_attempted], keep: asked}
metrics:
  - {name: hinted, title: Hinted, owner: tutor, definition: Answers looked at., type: mean, numerator: hints,
     direction: increase, kind: output}
"""


def test_how_a_holdout_is_measured_keeps_its_measures_and_changes_no_experiment(tmp_path: Path) -> None:
    named = HOLDOUT + "metrics: [hinted]\nsince: 2026-03-02\n"
    plain, told = (
        load_catalog(
            catalog_of(tmp_path / name, layers__everybody=text, metrics__hints=HINTS), event_names=EVENT_NAMES
        )
        for name, text in (("plain", HOLDOUT), ("told", named))
    )
    (before,), (after,) = plain.holdouts(), told.holdouts()
    assert before.digest() == after.digest()
    assert before.model_copy(update={"salt": "new"}).digest() != before.digest()
    assert [[one.name for one in own.holdout_metrics(before)] for own in (plain, told)] == [[], []]
    assert [one.name for one in told.holdout_metrics(after)] == ["hinted"]
    assert set(told.kept_measures()) - set(plain.kept_measures()) == {"hints"}


def test_the_guides_examples_are_layers() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "assignment.md").read_text(encoding="utf-8")
    examples = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", guide, flags=re.S)]
    layer, holdout = (Layer.model_validate_json(json.dumps(one, default=str)) for one in examples)
    assert layer.place_of("short-hints") == LayerPlace(experiment="short-hints", buckets=(5_000, 10_000))
    assert (holdout.kind, holdout.held_out()) == ("holdout", 200)
