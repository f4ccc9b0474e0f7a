"""The files of deploy/ contain what they must, and no secret or unknown setting."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from hotloop.app.serving.processes import CLOSE_SECONDS
from hotloop.app.settings.settings import Settings, variable_name
from tests.fixtures.server import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = sorted(COMPOSE["services"])
UNITS = sorted(path.name for path in (DEPLOY / "systemd").glob("*.service"))
SETTINGS = {variable_name(name) for name in Settings.model_fields}


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile: word and rest, with continuation lines joined."""
    text = (DEPLOY / "Dockerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", "")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(word, rest) for word, rest in lines]


def of(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|m)?", text).groups()  # type: ignore[union-attr]
    return float(number) * (60 if unit == "m" else 1)


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read(DEPLOY / "systemd" / name)
    return parser


def test_image_has_pinned_parts_and_no_root_user() -> None:
    for base in of("FROM"):
        assert re.match(r"python:\d+\.\d+-slim-\w+( AS \w+)?$", base), base
    assert not of("ADD")
    words = [word for word, _ in instructions()]
    last_stage = words[len(words) - words[::-1].index("FROM") :]
    user = last_stage.index("USER")
    assert "RUN" not in last_stage[user:]
    assert of("USER") == ["10001:10001"]
    assert of("HEALTHCHECK")
    assert of("ENTRYPOINT") == ['["hotloop"]']
    assert "PASSWORD" not in (DEPLOY / "Dockerfile").read_text().upper()


def test_image_copies_existing_files_only() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [s for rest in of("COPY") if "--from" not in rest for s in rest.split()[:-1]]
    assert {"app", "hotloop", "kernels", "pyproject.toml"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, source


def test_image_uses_known_settings_only() -> None:
    names = set(re.findall(r"\b(HOTLOOP_\w+)=", "\n".join(of("ENV"))))
    assert names - {"HOTLOOP_REQUIRE_CYTHON"} <= SETTINGS


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_has_a_health_check_restarts_and_limits(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["restart"] == "unless-stopped"
    assert service["init"] is True
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    limits = service["deploy"]["resources"]["limits"]
    assert limits["cpus"]
    assert limits["memory"]
    assert service["pids_limit"] > 0
    image = service["image"]
    assert image.startswith("${HOTLOOP_IMAGE") or re.search(r":v?\d", image), image
    assert "ports" not in service or all(p.startswith("127.0.0.1:") for p in service["ports"])


@pytest.mark.parametrize("name", ["api", "node"])
def test_services_use_known_settings_and_have_time_to_stop(name: str) -> None:
    service = COMPOSE["services"][name]
    environment = service["environment"]
    assert set(environment) <= SETTINGS
    defaults = {n: Settings.model_fields[n].default for n in ("drain_seconds", "shutdown_seconds")}
    needed = sum(float(environment.get(variable_name(n), d)) for n, d in defaults.items())
    assert seconds(service["stop_grace_period"]) > needed + CLOSE_SECONDS
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    conditions = {needs["condition"] for needs in service["depends_on"].values()}
    assert conditions == {"service_healthy"}


def test_no_file_contains_a_secret() -> None:
    for path in sorted(DEPLOY.rglob("*")):
        if path.is_file():
            for name, value in re.findall(
                r"(\w*PASSWORD\w*)[:=](?!\?)[ \t]*(\S*)", path.read_text()
            ):
                assert not value or value.startswith("${"), (path.name, name)
    example = (DEPLOY / "hotloop.env.example").read_text()
    asked = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text()))
    assert asked == set(re.findall(r"^(\w+)=$", example, re.MULTILINE))


def test_compose_mounts_files_that_exist() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), source
            else:
                assert source in COMPOSE["volumes"], source


@pytest.mark.parametrize("name", UNITS)
def test_unit_is_hardened_and_has_time_to_stop(name: str) -> None:
    service = unit(name)["Service"]
    for key, value in {
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "KillMode": "mixed",
        "User": "hotloop",
        "PrivateTmp": "yes",
    }.items():
        assert service[key] == value
    assert service["MemoryMax"]
    text = (DEPLOY / "systemd" / name).read_text()
    variables = dict(re.findall(r"^Environment=(\w+)=(\S+)$", text, re.MULTILINE))
    assert set(variables) <= SETTINGS
    assert variables["HOTLOOP_DATA_DIR"] == f"/var/lib/{service['StateDirectory']}"
    graceful = float(variables["HOTLOOP_SHUTDOWN_SECONDS"])
    assert seconds(service["TimeoutStopSec"]) > graceful + CLOSE_SECONDS
    assert "MemoryDenyWriteExecute=yes" not in text  # Numba


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for path in (DEPLOY / "systemd").iterdir():
        start = f"ExecStart={shutil.which('true')}"
        text = re.sub(r"^ExecStart=\S+", start, path.read_text(), flags=re.MULTILINE)
        (tmp_path / path.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "hotloop" in line], done.stderr


def test_service_unit_uses_the_socket_unit() -> None:
    assert unit("hotloop.socket")["Socket"]["ListenStream"] == "127.0.0.1:8001"
    assert unit("hotloop.service")["Unit"]["Requires"] == "hotloop.socket"
    assert "HOTLOOP_FD=3" in (DEPLOY / "systemd" / "hotloop.service").read_text()


def test_rules_and_dashboard_are_complete() -> None:
    (group,) = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert len(set(names)) == len(names) >= 10
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("page", "warn")
        assert rule["annotations"]["summary"]
    dashboard = json.loads((DEPLOY / "grafana" / "hotloop.json").read_text())
    places = set()
    for panel in dashboard["panels"]:
        assert panel["title"]
        assert panel["targets"]
        assert all(target["expr"] for target in panel["targets"])
        place = panel["gridPos"]["x"], panel["gridPos"]["y"]
        assert place not in places
        places.add(place)
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert config["rule_files"] == ["rules.yml"]
    assert [job["job_name"] for job in config["scrape_configs"]] == ["hotloop"]


def test_health_command_of_the_image_is_a_list_of_words() -> None:
    (check,) = of("HEALTHCHECK")
    command = json.loads(check[check.index("CMD ") + 4 :])
    assert command[:2] == ["python", "-c"]
    assert shlex.join(command)
