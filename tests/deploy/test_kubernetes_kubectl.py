"""The commands of docs/kubernetes.md name files and Secrets that are there; where kubectl is
installed, it runs them without a cluster.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.deploy.manifests import ALL, KUBERNETES, templates
from tests.deploy.test_files import of
from tests.deploy.test_kubernetes_files import SECRETS
from tests.fixtures.server import ROOT

PAGE: Final = (ROOT / "docs" / "kubernetes.md").read_text()
COMMANDS: Final = [
    shlex.split(line) for line in re.findall(r"^ +(kubectl .*)$", PAGE, re.MULTILINE)
]
CREATING: Final = [words for words in COMMANDS if "secret" in words]
needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not installed"
)


def test_page_names_files_and_secrets_that_are_there() -> None:
    assert {words[words.index("secret") + 2] for words in CREATING} == SECRETS
    assert {words[2] for words in CREATING} == {"hotloop"}
    (applied,) = [words for words in COMMANDS if "apply" in words]
    assert (ROOT / applied[-1] / "kustomization.yaml").exists()
    (build,) = re.findall(r"^ +docker build (.*)$", PAGE, re.MULTILINE)
    assert (ROOT / re.findall(r"--file (\S+)", build)[0]).exists()
    (extras,) = re.findall(r"--build-arg (\w+)=", build)
    assert of("ARG")[0].startswith(f"{extras}=")
    folders = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert sorted(folders) == sorted(p.parent.name for p in KUBERNETES.glob("*/kustomization.yaml"))


@needs_kubectl
@pytest.mark.parametrize("words", CREATING, ids=lambda words: words[words.index("secret") + 2])
def test_kubectl_makes_the_secrets_with_the_keys_that_pods_read(
    words: list[str], tmp_path: Path
) -> None:
    example = (KUBERNETES / "hotloop.env.example").read_text()
    (tmp_path / "deploy" / "kubernetes").mkdir(parents=True)
    (tmp_path / "deploy" / "kubernetes" / "hotloop.env").write_text(example)
    for line in re.findall(r"^ +(openssl .*)$", PAGE, re.MULTILINE):
        subprocess.run(shlex.split(line), cwd=tmp_path, check=True, capture_output=True)
    made = yaml.safe_load(kubectl(*words[1:], "--dry-run=client", "--output=yaml", cwd=tmp_path))
    keys = set(made["data"])
    assert (
        keys
        >= {
            "hotloop": {"HOTLOOP_DATABASE_URL", "HOTLOOP_API_KEYS", "RAY_AUTH_TOKEN"},
            "postgres": {"password"},
            "hotloop-cluster-tls": {"tls.crt", "tls.key", "ca.crt"},
            "hotloop-cluster-ca": {"tls.crt", "tls.key"},
        }[made["metadata"]["name"]]
    )


@needs_kubectl
def test_kustomize_makes_the_objects_that_the_tests_read() -> None:
    made = list(yaml.safe_load_all(kubectl("kustomize", str(KUBERNETES / "try"))))
    assert {key(each) for each in made} == {key(each) for each in ALL}
    for each in made:
        assert each["metadata"]["namespace"] == "hotloop"
        assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "hotloop"
        (read,) = [one for one in ALL if key(one) == key(each)]
        assert without(each.get("spec", each.get("data"))) == without(
            read.get("spec", read.get("data"))
        )
    assert len(templates()) == 7


def key(each: dict[str, Any]) -> tuple[str, str]:
    return each["kind"], each["metadata"]["name"]


def without(value: Any) -> Any:
    """The value without what kustomize adds: the tag of an image, the label of all objects."""
    if isinstance(value, dict):
        found = {k: without(v) for k, v in value.items() if k != "app.kubernetes.io/part-of"}
        return {k: v for k, v in found.items() if not (k in ("labels", "metadata") and not v)}
    if isinstance(value, list):
        return [without(each) for each in value]
    return "hotloop" if value == "hotloop:latest" else value


def kubectl(*words: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        ["kubectl", *words], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
