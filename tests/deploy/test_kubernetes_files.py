"""The objects of deploy/kubernetes fit together, are hardened, and have time to stop."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
import yaml

from hotloop.app.serving.processes import CLOSE_SECONDS
from hotloop.app.settings.settings import Settings, variable_name
from hotloop.app.tasks.small import MOST_CLAIMED
from tests.deploy.manifests import (
    ALL,
    KUBERNETES,
    Object,
    container,
    containers,
    keda_query,
    one,
    plain_env,
    templates,
)
from tests.deploy.test_files import SETTINGS, of

CLUSTER: Final = {
    *("HOTLOOP_DASK_ADDRESS", "HOTLOOP_RAY_ADDRESS", "HOTLOOP_CLUSTER_TLS_CERT"),
    *("HOTLOOP_CLUSTER_TLS_KEY", "HOTLOOP_CLUSTER_TLS_CA"),
}
"""Settings of the strategies `dask` and `ray`."""

TEMPLATES: Final = templates()
SECRETS: Final = {"hotloop", "postgres", "hotloop-cluster-tls", "hotloop-cluster-ca"}


def of_kind(kind: str) -> list[Object]:
    return [each for each in ALL if each["kind"] == kind]


def number(quantity: str) -> float:
    """A quantity of Kubernetes: `500m`, `2`, `1Gi`."""
    units = {"": 1.0, "m": 0.001, "Mi": 2.0**20, "Gi": 2.0**30}
    digits, unit = re.fullmatch(r"(\d+)(\w*)", quantity).groups()  # type: ignore[union-attr]
    return float(digits) * units[unit]


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_pods_are_hardened_and_bounded(name: str) -> None:
    pod = TEMPLATES[name]["spec"]
    assert pod["automountServiceAccountToken"] is False
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    if "postgres" not in name:
        assert {context["runAsUser"], context["runAsGroup"], context["fsGroup"]} == {10001}
        assert of("USER") == ["10001:10001"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    volumes |= {claim["metadata"]["name"]: claim for claim in claims(name)}
    mounted = set()
    for each in containers(TEMPLATES[name]):
        assert each["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        resources = each["resources"]
        for what in ("cpu", "memory"):
            assert number(resources["requests"][what]) <= number(resources["limits"][what])
        mounted |= {mount["name"] for mount in each["volumeMounts"]}
        assert re.fullmatch(r"hotloop|\w+:\d+-\w+", each["image"]), each["image"]
    assert mounted == set(volumes)
    last = containers(TEMPLATES[name])[-1]
    assert last["livenessProbe"]
    assert last["startupProbe"]
    ports = {port["name"] for port in last.get("ports", [])}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        for how in ("httpGet", "tcpSocket"):
            asked = last.get(probe, {}).get(how)
            assert asked is None or asked["port"] in ports


def claims(name: str) -> list[Any]:
    kind, _, of_it = name.partition(" ")
    found: list[Any] = []
    if kind == "StatefulSet":
        found = one(kind, of_it)["spec"]["volumeClaimTemplates"]
    return found


@pytest.mark.parametrize("name", ["api", "node"])
def test_pods_have_time_to_stop_and_known_settings(name: str) -> None:
    environment = plain_env(container("Deployment", name))
    assert set(environment) <= SETTINGS
    defaults = {n: Settings.model_fields[n].default for n in ("drain_seconds", "shutdown_seconds")}
    needed = sum(float(environment.get(variable_name(n), d)) for n, d in defaults.items())
    template = one("Deployment", name)["spec"]["template"]
    assert template["spec"]["terminationGracePeriodSeconds"] > needed + CLOSE_SECONDS
    startup = template["spec"]["containers"][0]["startupProbe"]
    patience = startup["periodSeconds"] * startup["failureThreshold"]
    assert patience > Settings.model_fields["store_wait_seconds"].default


def test_maps_have_known_settings_and_are_the_ones_that_pods_read() -> None:
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind("ConfigMap")}
    for name in ("api", "node"):
        sources = container("Deployment", name)["envFrom"]
        read = {s["configMapRef"]["name"] for s in sources if "configMapRef" in s}
        assert read == set(maps)
        assert all(s["configMapRef"]["optional"] for s in sources if "configMapRef" in s)
    for data in maps.values():
        assert {name for name in data if name.startswith("HOTLOOP_")} <= SETTINGS | CLUSTER


def test_addresses_name_services_and_their_ports() -> None:
    services = {each["metadata"]["name"]: each["spec"] for each in of_kind("Service")}
    # KubeRay makes this one of the ports of the head.
    (head,) = TEMPLATES["RayCluster head"]["spec"]["containers"]
    ports = [{"port": port["containerPort"]} for port in head["ports"]]
    services["ray-head-svc"] = {"ports": ports}
    text = "\n".join(path.read_text() for path in sorted(KUBERNETES.rglob("*.*")))
    addresses = set(re.findall(r"(?:tls|ray|postgresql)://(?:\w+:\w+@)?([a-z-]+):(\d+)", text))
    assert len(addresses) == 3
    for name, port in addresses:
        assert int(port) in {each["port"] for each in services[name]["ports"]}, name
    for name, service in services.items():
        if "selector" in service:
            (template,) = selected(service["selector"])
            named = {p["name"] for p in template["spec"]["containers"][0]["ports"]}
            assert {each["targetPort"] for each in service["ports"]} <= named, name


def selected(labels: dict[str, str]) -> list[Object]:
    return [t for t in TEMPLATES.values() if labels.items() <= t["metadata"]["labels"].items()]


@pytest.mark.parametrize("each", of_kind("NetworkPolicy"), ids=lambda e: e["metadata"]["name"])
def test_policy_selects_pods_and_their_ports(each: Object) -> None:
    spec = each["spec"]
    chosen = selected(spec["podSelector"].get("matchLabels", {}))
    assert chosen
    assert spec["policyTypes"] == ["Ingress"]
    known = {t["metadata"]["labels"]["app.kubernetes.io/name"] for t in TEMPLATES.values()}
    for rule in spec.get("ingress", []):
        named = {p["name"] for t in chosen for p in t["spec"]["containers"][0]["ports"]}
        assert {port["port"] for port in rule.get("ports", [])} <= named
        for peer in rule.get("from", []):
            for wanted in peer.get("podSelector", {}).get("matchExpressions", []):
                assert set(wanted["values"]) <= known


def reach(target: str) -> set[str]:
    """The pods that a policy lets in."""
    rules = one("NetworkPolicy", target)["spec"]["ingress"]
    peers = [p["podSelector"] for rule in rules for p in rule["from"] if "podSelector" in p]
    found: set[str] = set()
    for peer in peers:
        found |= {v for e in peer.get("matchExpressions", []) for v in e["values"]}
        found |= set(peer.get("matchLabels", {}).values())
    return found


def test_only_the_api_and_nodes_reach_the_clusters_and_the_database() -> None:
    assert one("NetworkPolicy", "closed")["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    assert reach("postgres") == {"api", "node"}
    assert reach("dask-scheduler") == {"api", "node", "dask-worker"}
    assert reach("dask-worker") == {"dask-scheduler", "dask-worker"}
    assert reach("ray") == {"api", "node", "ray"}


def test_database_and_keys_are_not_in_pods_that_execute_what_they_are_sent() -> None:
    for name, template in TEMPLATES.items():
        for each in containers(template):
            whole = [s["secretRef"]["name"] for s in each.get("envFrom", []) if "secretRef" in s]
            assert not whole or name in ("Deployment api", "Deployment node")
            mounts = {mount["name"] for mount in each["volumeMounts"]}
            assert "ca" not in mounts or each["name"] == "certificate"  # the authority's key


def test_secrets_are_named_and_explained_but_not_here() -> None:
    text = "\n".join(path.read_text() for path in sorted(KUBERNETES.rglob("*.yaml")))
    named = set(re.findall(r"secretName: ([\w-]+)", text))
    named |= set(re.findall(r"secret(?:Key)?Ref: \{ name: ([\w-]+)", text))
    assert named == SECRETS
    assert not of_kind("Secret")
    example = (KUBERNETES / "hotloop.env.example").read_text()
    keys = re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE)
    assert all(value == "" for _, value in keys)
    assert {name for name, _ in keys} - {"RAY_AUTH_TOKEN"} <= SETTINGS
    assert "/deploy/kubernetes/hotloop.env\n" in (KUBERNETES.parents[1] / ".gitignore").read_text()


def test_nodes_are_scaled_by_what_one_node_takes() -> None:
    spec = one("ScaledObject", "node")["spec"]
    deployment = one("Deployment", spec["scaleTargetRef"]["name"])["spec"]
    assert "replicas" not in deployment
    (trigger,) = spec["triggers"]
    environment = plain_env(container("Deployment", "node"))
    assert trigger["metadata"]["targetQueryValue"] == environment["HOTLOOP_BACKGROUND_RUNS"]
    assert trigger["metadata"]["connectionFromEnv"] == "HOTLOOP_DATABASE_URL"
    assert f"/ {MOST_CLAIMED}.0" in keda_query()


def test_image_of_the_clusters_is_that_of_the_service_with_extras() -> None:
    assert of("ARG") == ["EXTRAS=otel"]
    assert '[$EXTRAS]"' in " ".join(of("RUN"))
    (image,) = yaml.safe_load((KUBERNETES / "try" / "kustomization.yaml").read_text())["images"]
    assert image["name"] == "hotloop"
