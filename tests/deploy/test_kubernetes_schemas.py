"""The objects of deploy/kubernetes have only fields that Kubernetes, KEDA and KubeRay know.

The schemas of Kubernetes' own objects are the published ones. Those of KEDA and KubeRay are of the
fields that we use, closed to all others; what they embed of Kubernetes is held against the
published schema of an object that embeds the same.
"""

from __future__ import annotations

import copy
from typing import Any, Final

import jsonschema
import kubernetes_validate
import pytest

from tests.deploy.manifests import ALL, FOLDERS, KUBERNETES, Object, kustomization, one

VERSION: Final = "1.37"
TEXT: Final = {"type": "string"}
COUNT: Final = {"type": "integer", "minimum": 0}
ANY: Final = {"type": "object"}
"""Held against a schema of Kubernetes."""


def closed(**properties: Any) -> dict[str, Any]:
    """The schema of an object that has these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def headed(version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    names = {"apiVersion": {"const": version}, "kind": {"const": kind}}
    return closed(**names, metadata=closed(name=TEXT), spec=spec)


SCALED_OBJECT: Final = headed(
    "keda.sh/v1alpha1",
    "ScaledObject",
    closed(
        scaleTargetRef=closed(name=TEXT),
        minReplicaCount=COUNT,
        maxReplicaCount=COUNT,
        pollingInterval=COUNT,
        cooldownPeriod=COUNT,
        advanced=closed(horizontalPodAutoscalerConfig=closed(behavior=ANY)),
        triggers={
            "type": "array",
            "items": closed(
                type={"const": "postgresql"},
                # KEDA's own map of text to text; a wrong name is found when the trigger starts.
                metadata=closed(connectionFromEnv=TEXT, query=TEXT, targetQueryValue=TEXT),
            ),
        },
    ),
)
PARAMETERS: Final = {"type": "object", "additionalProperties": TEXT}
"""Held against `ray start` by test_kubernetes_clusters.py."""
RAY_CLUSTER: Final = headed(
    "ray.io/v1",
    "RayCluster",
    closed(
        rayVersion=TEXT,
        headGroupSpec=closed(rayStartParams=PARAMETERS, template=ANY),
        workerGroupSpecs={
            "type": "array",
            "items": closed(
                groupName=TEXT,
                replicas=COUNT,
                minReplicas=COUNT,
                maxReplicas=COUNT,
                rayStartParams=PARAMETERS,
                template=ANY,
            ),
        },
    ),
)


def of_kubernetes(version: str, kind: str, **fields: Any) -> None:
    """Raise jsonschema.ValidationError unless Kubernetes knows such an object."""
    data = {"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, **fields}
    kubernetes_validate.validate(data, VERSION, strict=True)


def check(each: Object) -> None:
    """Raise jsonschema.ValidationError for an object with a wrong field or value."""
    if each["kind"] == "ScaledObject":
        jsonschema.validate(each, SCALED_OBJECT)
        spec = each["spec"]
        autoscaler = spec["advanced"]["horizontalPodAutoscalerConfig"]
        target = {"kind": "Deployment", **spec["scaleTargetRef"]}
        scale = {"scaleTargetRef": target, "maxReplicas": spec["maxReplicaCount"], **autoscaler}
        of_kubernetes("autoscaling/v2", "HorizontalPodAutoscaler", spec=scale)
    elif each["kind"] == "RayCluster":
        jsonschema.validate(each, RAY_CLUSTER)
        for group in (each["spec"]["headGroupSpec"], *each["spec"]["workerGroupSpecs"]):
            of_kubernetes("v1", "PodTemplate", template=group["template"])
    else:
        kubernetes_validate.validate(each, VERSION, strict=True)


@pytest.mark.parametrize("each", ALL, ids=lambda e: f"{e['kind']}-{e['metadata']['name']}")
def test_objects_have_known_fields_only(each: Object) -> None:
    check(each)


SMALL = {"Service", "ScaledObject", "PodDisruptionBudget"}
"""Kinds with few fields. A copy of each object is checked for each of its fields, which takes
seconds for a large one."""


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of each field of an object that is not a free map or a list of words."""
    if isinstance(value, list):
        return [p for at, each in enumerate(value) for p in places(each, (*path, at))]
    if not isinstance(value, dict):
        return []
    free = {"labels", "matchLabels", "annotations", "limits", "requests", "data"}
    free |= {"rayStartParams", "selector"}
    if path and path[-1] in free and "matchLabels" not in value:
        return []
    return [
        p for name, each in value.items() for p in ((*path, name), *places(each, (*path, name)))
    ]


@pytest.mark.parametrize(
    "each",
    [
        pytest.param(
            each,
            id=f"{each['kind']}-{each['metadata']['name']}",
            marks=() if each["kind"] in SMALL else pytest.mark.long,
        )
        for each in ALL
        if each["kind"] != "ConfigMap"
    ],
)
def test_typo_in_any_field_is_found(each: Object) -> None:
    """Each field in turn gets another letter at its end."""
    tried = 0
    for *above, name in places(each):
        if name in ("apiVersion", "kind") and not above:
            continue
        wrong = copy.deepcopy(each)
        parent = wrong
        for step in above:
            parent = parent[step]
        parent[f"{name}x"] = parent.pop(name)
        try:
            check(wrong)
        except (jsonschema.ValidationError, kubernetes_validate.ValidationError):
            tried += 1
        else:
            pytest.fail(f"{'.'.join(map(str, above))}.{name}x is taken for a field")
    assert tried >= 5


@pytest.mark.parametrize("name", FOLDERS)
def test_kustomization_names_files_that_exist(name: str) -> None:
    folder = KUBERNETES / name
    asked = kustomization(folder)
    assert asked["apiVersion"] == "kustomize.config.k8s.io/v1beta1"
    assert asked["kind"] == "Kustomization"
    assert all((folder / each).exists() for each in asked["resources"])
    unnamed = {path.name for path in folder.glob("*.yaml")} - set(asked["resources"])
    assert unnamed == {"kustomization.yaml"}
    assert asked.get("namespace", "hotloop") == "hotloop"
    for image in asked.get("images", []):
        assert set(image) == {"name", "newName", "newTag"}


def test_folder_of_everything_names_every_folder() -> None:
    asked = kustomization(KUBERNETES / "try")["resources"]
    assert {f"../{name}" for name in FOLDERS} - {"../try"} == set(asked)
    assert one("RayCluster", "ray")["spec"]["workerGroupSpecs"]
