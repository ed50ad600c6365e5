"""The files of production name things that exist: gauges, variables, modules, services."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
SOURCE = "\n".join(path.read_text() for path in (ROOT / "exp_pipeline").rglob("*.py"))


def test_the_dashboard_asks_for_gauges_that_are_written() -> None:
    written = set(
        re.findall(r'"(exp_[a-z_]+)"', (ROOT / "exp_pipeline/steps/operating/gauges.py").read_text())
    )
    board = json.loads((DEPLOY / "grafana.json").read_text())
    asked = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"exp_[a-z_]+", target["expr"])
    }
    assert asked <= written
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert {"exp_mirror_lag_seconds", "exp_mirror_waiting"} <= asked


def test_the_compose_file_starts_what_it_says() -> None:
    content: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert set(content["services"]) == {"database", "code", "daemon", "webserver", "exporter"}
    for service in content["services"].values():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), "published on loopback only"
    assert content["services"]["daemon"]["environment"]["DAGSTER_POSTGRES_URL"].startswith(
        "postgresql+psycopg2:"
    )
    workspace = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())
    (server,) = workspace["load_from"]
    assert server["grpc_server"]["host"] in content["services"]


def test_the_helm_values_keep_what_the_settings_file_promises() -> None:
    values: dict[str, Any] = yaml.safe_load((DEPLOY / "values.yaml").read_text())
    settings: dict[str, Any] = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    pools, runs = values["concurrency"]["pools"], values["concurrency"]["runs"]
    assert pools == {"defaultLimit": 1, "granularity": settings["concurrency"]["pools"]["granularity"]}
    assert runs["maxConcurrentRuns"] == settings["concurrency"]["runs"]["max_concurrent_runs"]
    # The chart refuses the limit of runs in two places.
    coordinator = values["dagsterDaemon"]["runCoordinator"]
    assert "maxConcurrentRuns" not in coordinator["config"]["queuedRunCoordinator"]
    monitoring = values["dagsterDaemon"]["runMonitoring"]
    assert monitoring["freeSlotsAfterRunEndSeconds"] == 5
    database = values["postgresql"]
    assert database["postgresqlScheme"] == "postgresql+psycopg2"
    # The chart's own database, and the password that it would make, are the same for everybody.
    assert not database["enabled"]
    assert not values["generatePostgresqlPasswordSecret"]
    assert values["global"]["postgresqlSecretName"]
    (code,) = values["dagster-user-deployments"]["deployments"]
    assert {one["name"] for one in code["env"]} >= {"EXP_HOME", "EXP_LAKE_MIRROR"}
    assert code["includeConfigInLaunchedRuns"]["enabled"]
    assert {one["name"] for one in code["volumes"]} == {one["name"] for one in code["volumeMounts"]}
    assert code["dagsterApiGrpcArgs"][-1] == "exp_pipeline.definitions"


def test_every_variable_of_the_guide_is_read() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text()
    for name in re.findall(r"`(EXP_[A-Z_]+)`", page):
        assert f'"{name}"' in SOURCE, name
    named = set(re.findall(r"EXP_[A-Z_]+", (DEPLOY / "compose.yaml").read_text()))
    for name in named:
        assert f'"{name}"' in SOURCE or name.startswith("EXP_HMAC_KEY"), name


def test_files_of_production_hold_no_secret_and_name_the_driver() -> None:
    for path in DEPLOY.iterdir():
        text = path.read_text()
        assert not re.search(r"(?i)(password|secret|token)\s*[:=]\s*[\"']?[a-z0-9]{8,}", text), path.name
    settings = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    assert settings["storage"]["postgres"]["postgres_url"] == {"env": "DAGSTER_POSTGRES_URL"}
    assert settings["run_monitoring"]["free_slots_after_run_end_seconds"] == 5
