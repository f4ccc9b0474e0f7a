"""Addresses of clusters, and the TLS that they need."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from hotloop.app.names import CLUSTERS, LOCAL_CLUSTER, StrategyName
from hotloop.app.settings.cluster_rules import cluster_host, cluster_port
from hotloop.app.settings.environment import load_settings
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.settings.test_rules import refusal


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, Path]:
    """The settings of three files that exist."""
    found = {f"cluster_tls_{name}": tmp_path / f"{name}.pem" for name in ("cert", "key", "ca")}
    for file in found.values():
        file.write_text("PEM")
    return found


@pytest.mark.parametrize(
    ("setting", "address", "host", "port"),
    [
        ("ray_address", "127.0.0.1:6379", "127.0.0.1", 6_379),
        ("ray_address", "ray://localhost:10001", "localhost", 10_001),
        ("dask_address", "tcp://127.0.0.1:8786", "127.0.0.1", 8_786),
        ("ray_address", LOCAL_CLUSTER, "127.0.0.1", None),
        ("dask_address", LOCAL_CLUSTER, "127.0.0.1", None),
    ],
)
def test_cluster_on_this_machine_needs_no_tls(
    setting: str, address: str, host: str, port: int | None
) -> None:
    settings = load_settings(**{setting: address})
    name = StrategyName(setting.removesuffix("_address"))
    assert settings.clusters == {name: address}
    assert settings.offered_strategies == (*LOCAL_STRATEGIES, name)
    assert (cluster_host(address), cluster_port(address)) == (host, port)


def test_no_cluster_is_offered_without_an_address() -> None:
    settings = load_settings()
    assert settings.clusters == {}
    assert settings.offered_strategies == LOCAL_STRATEGIES
    both = load_settings(ray_address="local", dask_address="local")
    assert both.offered_strategies == tuple(StrategyName)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ray",
        "auto",
        "LOCAL",
        "localhost",
        "localhost:",
        ":6379",
        "localhost:123456",
        "localhost:0",
        "localhost:65536",
        "localhost:6379/",
        "localhost:6379\n",
        "http://localhost:6379",
        "tcp://localhost:0",
        "tls://localhost:65536",
        "tcp://user@localhost:8786",
        "a b:6379",
        "ray://user:secret@localhost:10001",
        "ray://localhost:10001?password=secret",
        "x" * 256,
    ],
)
@pytest.mark.parametrize("engine", sorted(CLUSTERS))
def test_address_of_another_form_is_refused(engine: str, address: str) -> None:
    text = refusal(**{f"{engine}_address": address})
    assert text.startswith(f"HOTLOOP_{engine.upper()}_ADDRESS must ")
    assert "secret" not in text


@pytest.mark.parametrize(
    ("engine", "address"),
    [("ray", "ray://10.0.0.9:10001"), ("ray", "head:6379"), ("dask", "tcp://10.0.0.9:8786")],
)
def test_other_machine_needs_tls_or_an_open_word(
    engine: str, address: str, tls: dict[str, Any]
) -> None:
    setting = {f"{engine}_address": address}
    text = refusal(**setting)
    assert text.startswith(f"HOTLOOP_{engine.upper()}_ADDRESS is on another machine")
    assert "HOTLOOP_CLUSTER_TLS_CERT" in text
    assert "HOTLOOP_CLUSTER_PLAINTEXT=true" in text
    assert load_settings(**setting, cluster_plaintext=True).clusters == {engine: address}
    if engine == "ray":
        assert load_settings(**setting, **tls).clusters == {engine: address}
    else:
        assert "needs TLS" in refusal(**setting, **tls)  # tcp:// stays plain with any files


def test_tls_of_dask_is_in_its_address_and_needs_files(tls: dict[str, Any]) -> None:
    for host in ("10.0.0.9", "127.0.0.1"):
        setting = {"dask_address": f"tls://{host}:8786"}
        assert "HOTLOOP_CLUSTER_TLS_CERT" in refusal(**setting)
        assert "tls://" in refusal(**setting, cluster_plaintext=True)
        assert load_settings(**setting, **tls).clusters == {"dask": f"tls://{host}:8786"}


def test_files_of_tls_need_each_other_and_must_exist(tls: dict[str, Any]) -> None:
    for missing in tls:
        rest = {name: path for name, path in tls.items() if name != missing}
        assert "need each other; set all three or none" in refusal(**rest)
    folder = tls["cluster_tls_ca"].parent
    for wrong in (folder / "none.pem", folder, "a\0b"):
        text = refusal(**(tls | {"cluster_tls_ca": wrong}))
        assert text.startswith("HOTLOOP_CLUSTER_TLS_CA must")


@pytest.mark.parametrize(
    ("engine", "module", "address"),
    [("ray", "ray", "local"), ("dask", "distributed", "local")],
)
def test_address_needs_the_extra_that_has_the_engine(
    monkeypatch: pytest.MonkeyPatch, engine: str, module: str, address: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == module else find(name)
    )
    text = refusal(**{f"{engine}_address": address})
    assert f"pip install 'hotloop[{engine}]'" in text
