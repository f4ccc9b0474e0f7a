"""The files in deploy/ work with a running service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.test_files import COMPOSE, DEPLOY, of
from tests.fixtures.redis_server import running_redis
from tests.fixtures.server import Server, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

LABELS = re.compile(r"(hotloop_\w+)\{([^}]*)\}")


def expressions() -> list[str]:
    (group,) = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
    dashboard = json.loads((DEPLOY / "grafana" / "hotloop.json").read_text())
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    return sorted({rule["expr"] for rule in group["rules"]} | {t["expr"] for t in targets})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that has run with a source, as the dashboard shows it."""
    data = tmp_path_factory.mktemp("data")
    with (
        running_redis() as redis,
        running_server(data, redis_url=redis.url, redis_key="item:{id}", run_hosts=1) as server,
    ):
        redis.fill(10, key="item:{item_id}", value=lambda item_id: item_id)
        body = {"items_count": 10, "db": "none", "cache": "redis", "kernel": "python"}
        answer = server.run("sequential", **body)
        assert answer.json()["status"] == "completed", answer.text
        yield server


@pytest.fixture(scope="module")
def labels(server: Server) -> dict[str, set[str]]:
    """The labels of each sample's name."""
    found: dict[str, set[str]] = {}

    def look() -> bool:
        for family in text_string_to_metric_families(server.client.get("/metrics").text):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
        return "hotloop_queued_shards" in found and "hotloop_run_hosts" in found

    wait_until(look, "everything is sampled")
    return found


@pytest.mark.parametrize("expression", expressions())
def test_dashboard_and_rules_use_existing_metrics_and_labels(
    labels: dict[str, set[str]], expression: str
) -> None:
    names = set(re.findall(r"\bhotloop_\w+", expression))
    assert names or "up{" in expression
    assert names <= set(labels)
    for name, matchers in LABELS.findall(expression):
        wanted = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) - {"instance", "job"}
        assert wanted <= labels[name], (name, wanted)
    for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
        known = {"instance", "job"}.union(*(labels[name] for name in names))
        assert {label.strip() for label in grouped.split(",")} <= known
    assert expression.count("(") == expression.count(")")
    assert expression.count("{") == expression.count("}")


def test_every_metric_is_on_the_dashboard_or_in_a_rule(labels: dict[str, set[str]]) -> None:
    watched = {n for e in expressions() for n in re.findall(r"\bhotloop_\w+", e)}
    stems = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in labels}
    assert stems == {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in watched}


def test_health_check_of_the_image_detects_a_dead_service(server: Server) -> None:
    (check,) = of("HEALTHCHECK")
    command = json.loads(check[check.index("CMD ") + 4 :])
    for port, code in ((server.port, 0), (9, 1)):
        done = subprocess.run(
            [sys.executable, *command[1:]],
            env=os.environ | {"HOTLOOP_PORT": str(port)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == code, done.stderr


@pytest.mark.parametrize("name", ["api", "node"])
def test_health_check_of_a_container_detects_a_dead_service(server: Server, name: str) -> None:
    service = COMPOSE["services"][name]
    kind, _, *words = service["healthcheck"]["test"]
    assert kind == "CMD"
    port = service["environment"].get("HOTLOOP_NODE_PORT", "8001")
    assert f":{port}/health/ready" in words[-1]
    for to, code in ((server.port, 0), (9, 1)):
        command = [sys.executable, *(word.replace(f":{port}", f":{to}") for word in words)]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == code, done.stderr
