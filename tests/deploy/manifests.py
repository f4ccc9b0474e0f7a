"""The objects in deploy/kubernetes, as `kubectl apply --kustomize` makes them of the files.

Only what these files use of kustomize is read; anything else is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.fixtures.server import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
FOLDERS = sorted(path.parent.name for path in KUBERNETES.glob("*/kustomization.yaml"))

Object = dict[str, Any]

_READ = {"apiVersion", "kind", "namespace", "labels", "resources", "images"}
_READ |= {"configMapGenerator", "generatorOptions"}


def kustomization(folder: Path) -> Object:
    found: Object = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(found) <= _READ, folder
    return found


def objects(folder: Path) -> Iterator[Object]:
    """The objects of a kustomization and of those that it names."""
    asked = kustomization(folder)
    for name in asked["resources"]:
        path = folder / name
        if path.is_dir():
            yield from objects(path)
        else:
            yield from yaml.safe_load_all(path.read_text())
    for made in asked.get("configMapGenerator", []):
        data = dict(literal.split("=", 1) for literal in made["literals"])
        metadata = {"name": made["name"]}
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


ALL = list(objects(KUBERNETES / "try"))
"""Every object that any folder has."""


def one(kind: str, name: str) -> Object:
    (found,) = [each for each in ALL if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def templates() -> dict[str, Object]:
    """The template of each pod, by the object and the group that it belongs to."""
    found = {
        f"{each['kind']} {each['metadata']['name']}": each["spec"]["template"]
        for each in ALL
        if each["kind"] in ("Deployment", "StatefulSet")
    }
    ray = one("RayCluster", "ray")["spec"]
    found["RayCluster head"] = ray["headGroupSpec"]["template"]
    for group in ray["workerGroupSpecs"]:
        found[f"RayCluster {group['groupName']}"] = group["template"]
    return found


def containers(template: Object) -> list[Object]:
    """All containers of a pod; the one that stays is the last."""
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def container(kind: str, name: str) -> Object:
    found: Object = one(kind, name)["spec"]["template"]["spec"]["containers"][0]
    return found


def plain_env(container: Object) -> dict[str, str]:
    """The variables of a container that are written out."""
    return {e["name"]: e["value"] for e in container.get("env", []) if "value" in e}


def keda_query() -> str:
    (trigger,) = one("ScaledObject", "node")["spec"]["triggers"]
    return str(trigger["metadata"]["query"])
