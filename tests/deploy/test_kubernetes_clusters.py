"""The commands of Dask and Ray in deploy/kubernetes start, with the certificates that
docs/kubernetes.md makes, and their workers come in.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from hotloop.app.names import StrategyName
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import BatchResult
from hotloop.app.strategies.cluster.protocol import ClusterConfig, TlsFiles
from hotloop.app.strategies.pools import PoolLimits, Pools
from hotloop.app.strategies.registry import STRATEGIES
from tests.deploy.manifests import container, one, plain_env
from tests.fixtures.guarded import free_port, leashed
from tests.fixtures.plans import expected_checksum, make_plan, total_checksum
from tests.fixtures.processes import is_gone, tree
from tests.fixtures.server import ROOT
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

BIN = Path(sys.executable).parent
MOUNT = "/etc/hotloop/tls"
HEAD, WORKER = "127.0.0.2", "127.0.0.3"
"""Addresses of pods. Ray takes 127.0.0.1 for the address of the machine, but not these."""

_AGENT = "dashboard-agent-listen-port"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the Secrets, as the page has them made."""
    folder = tmp_path_factory.mktemp("tls")
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    commands = re.findall(r"^ *(openssl .*)$", page, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        subprocess.run(shlex.split(command), cwd=folder, check=True, capture_output=True)
    return folder


@contextmanager
def started(command: list[str], log: Path, env: Mapping[str, str]) -> Iterator[None]:
    """A process that is ended with all processes below it, as a container is."""
    with (
        log.open("w") as output,
        subprocess.Popen(
            command,
            env={**os.environ, "HOME": str(log.parent), **env},
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as process,
        leashed(process),
    ):
        try:
            yield
            assert process.poll() is None, log.read_text()
        finally:
            print(log.read_text())
            below = tree(process.pid) if process.poll() is None else []
            process.terminate()
            try:
                process.wait(timeout=30)
            finally:
                for each in filter(psutil.pid_exists, [process.pid, *(b.pid for b in below)]):
                    with_id = psutil.Process(each)
                    if with_id in below or each == process.pid:
                        with_id.send_signal(signal.SIGKILL)
                wait_until(lambda: all(map(is_gone, below)), "nothing is left")


def answers(address: str, port: int) -> bool:
    """Do what the kubelet does for a `tcpSocket`."""
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


def asked(program: str, **env: str) -> str:
    """Return the output of a Python program, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def lets_in(certificates: Path, address: str, port: int, *, shows: bool) -> bool:
    """Return True if a server speaks to a client, which `shows` its certificate or does not."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(certificates / "ca.crt")
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    client.set_alpn_protocols(["h2"])
    if shows:
        client.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
    with socket.create_connection((address, port), timeout=30) as plain:
        try:
            with client.wrap_socket(plain) as wrapped:
                return wrapped.recv(1) != b""
        except ssl.SSLError:
            return False


def compute_with_certificates(engine: StrategyName, address: str, folder: Path) -> None:
    """Execute a run as the service does, on the cluster at an address."""
    files = TlsFiles(*(str(folder / name) for name in ("tls.crt", "tls.key", "ca.crt")))
    plan = make_plan(engine, items=GeneratedItems(500), batch_size=20)

    async def results() -> list[BatchResult]:
        pools = Pools(PoolLimits(2, 2, 2), clusters=[ClusterConfig(engine, address, 2, files)])
        strategy = STRATEGIES[engine](pools)
        try:
            await strategy.prepare(plan)
            return [result async for result in strategy.run(plan)]
        finally:
            await pools.close()

    assert total_checksum(asyncio.run(results())) == expected_checksum(plan)


def dask_command(name: str, changes: Mapping[str, str]) -> list[str]:
    of_it = container("Deployment", name)
    words = [*of_it["command"], *of_it["args"]]
    for old, new in changes.items():
        assert any(old in word for word in words), old
        words = [word.replace(old, new) for word in words]
    return [str(BIN / words[0]), *words[1:], "--host=127.0.0.1"]


def test_dask_worker_comes_in_and_only_certificates_are_let_in(
    certificates: Path, tmp_path: Path
) -> None:
    port, worker_port, nanny_port = (free_port() for _ in range(3))
    files = {MOUNT: str(certificates)}
    scheduler = dask_command("dask-scheduler", {"8786": str(port), **files})
    changes = {"dask-scheduler:8786": f"127.0.0.1:{port}", "=/tmp": f"={tmp_path}", **files}
    changes |= {"8788": str(worker_port), "8789": str(nanny_port)}
    worker = dask_command("dask-worker", changes)
    with (
        started(scheduler, tmp_path / "scheduler.log", {}),
        started(worker, tmp_path / "worker.log", {}),
    ):
        every = (port, worker_port, nanny_port)
        wait_until(lambda: all(answers("127.0.0.1", p) for p in every), "all answer", 60)
        program = f"""
from distributed import Client
from distributed.security import Security
security = Security(
    require_encryption=True,
    tls_ca_file={str(certificates / "ca.crt")!r},
    tls_client_cert={str(certificates / "tls.crt")!r},
    tls_client_key={str(certificates / "tls.key")!r},
)
with Client("tls://127.0.0.1:{port}", security=security, timeout=30) as client:
    client.wait_for_workers(1, timeout=60)
    print(client.submit(abs, -42).result(timeout=30))
"""
        assert asked(program) == "42"
        compute_with_certificates(StrategyName.DASK, f"tls://127.0.0.1:{port}", certificates)

        assert lets_in(certificates, "127.0.0.1", port, shows=True)
        assert not lets_in(certificates, "127.0.0.1", port, shows=False)


def ray_command(group: dict[str, Any], ports: Mapping[str, int], *options: str) -> list[str]:
    """`ray start` as KubeRay makes it of the parameters: words for true, left out for false, except
    where Ray takes a value.
    """
    words = [str(BIN / "ray"), "start", *options, "--block"]
    # KubeRay adds both, with ports of a pod's own.
    words += [f"--{name}={free_port()}" for name in ("metrics-export-port", _AGENT)]
    words += ["--min-worker-port=0", "--max-worker-port=0"]  # any; free_port's are among Ray's
    memory = group["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    words.append(f"--memory={int(memory.removesuffix('Gi')) << 30}")
    for name, value in group["rayStartParams"].items():
        if value == "true":
            words.append(f"--{name}")
        else:
            assert value != "false" or name == "include-dashboard"
            words.append(f"--{name}={ports.get(name, value)}")
    return words


def ray_environment(pod: dict[str, Any], certificates: Path, address: str) -> dict[str, str]:
    """The variables of a pod of Ray, once its init container has made the certificate."""
    folder = certificates / address
    folder.mkdir()
    (init,) = pod["initContainers"]
    assert init["command"][0] == "sh"
    (folder / "tls.crt").write_bytes((certificates / "ca.crt").read_bytes())
    (folder / "tls.key").write_bytes((certificates / "ca.key").read_bytes())
    made = folder / "made"
    made.mkdir()
    env = {name: value.replace(MOUNT, str(made)) for name, value in plain_env(init).items()}
    env |= {"CA": str(folder), "POD_IP": address}
    env["FQ_RAY_IP"] = "ray-head-svc.hotloop.svc.cluster.local"
    command = [*init["command"], *init["args"]]
    subprocess.run(command, env={**os.environ, **env}, check=True, capture_output=True)
    assert {path.name for path in made.iterdir()} == {"ca.crt", "tls.crt", "tls.key"}
    assert (made / "tls.key").stat().st_mode & 0o077 == 0
    found = {k: v.replace(MOUNT, str(made)) for k, v in plain_env(pod["containers"][0]).items()}
    return found | {"RAY_AUTH_TOKEN": "t" * 32}


def test_ray_takes_the_parameters_and_its_worker_comes_in(
    certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = one("RayCluster", "ray")["spec"]
    head, (workers,) = spec["headGroupSpec"], spec["workerGroupSpecs"]
    temporary = Path(tempfile.mkdtemp(prefix="ray-"))  # sockets need a short path
    names = ("node-manager-port", "object-manager-port", "ray-client-server-port")
    ports = [{name: free_port() for name in names} for _ in range(2)]
    gcs = free_port()
    environment = ray_environment(head["template"]["spec"], certificates, HEAD)
    worker_environment = ray_environment(workers["template"]["spec"], certificates, WORKER)
    client = {
        **{k: v for k, v in environment.items() if k.startswith("RAY_")},
        "RAY_TLS_SERVER_CERT": str(certificates / "tls.crt"),
        "RAY_TLS_SERVER_KEY": str(certificates / "tls.key"),
        "RAY_TLS_CA_CERT": str(certificates / "ca.crt"),
    }
    own = ("--head", f"--node-ip-address={HEAD}", f"--port={gcs}", f"--temp-dir={temporary}")
    command = ray_command(head, ports[0], *own)
    joining = (f"--node-ip-address={WORKER}", f"--address={HEAD}:{gcs}")
    worker = ray_command(workers, ports[1], *joining)
    program = f"""
import sys, time, ray
while not ray.is_initialized():
    try:
        ray.init("ray://{HEAD}:{ports[0]["ray-client-server-port"]}", log_to_driver=False)
    except (ConnectionError, RuntimeError) as error:  # a busy machine was too slow for Ray
        print(error, file=sys.stderr)
while ray.cluster_resources().get("CPU") != 2:
    time.sleep(0.2)
print(ray.get(ray.remote(lambda: 42).remote()), [n["NodeManagerAddress"] for n in ray.nodes()])
"""
    try:
        with started(command, temporary / "head.log", environment | {"HOME": str(temporary)}):
            client_port = ports[0]["ray-client-server-port"]
            wait_until(lambda: answers(HEAD, client_port), "the head is ready", 60)
            assert answers(HEAD, gcs)
            with started(worker, temporary / "worker.log", worker_environment):
                port = ports[1]["node-manager-port"]
                wait_until(lambda: answers(WORKER, port), "the worker is ready", 60)
                assert asked(program, **client) in (
                    f"42 ['{HEAD}', '{WORKER}']",
                    f"42 ['{WORKER}', '{HEAD}']",
                )
                for name, value in client.items():
                    monkeypatch.setenv(name, value)
                address = f"ray://{HEAD}:{client_port}"
                compute_with_certificates(StrategyName.RAY, address, certificates)
                assert lets_in(certificates, HEAD, client_port, shows=True)
                assert not lets_in(certificates, HEAD, client_port, shows=False)
                done = subprocess.run(
                    [str(BIN / "ray"), "health-check", f"--address={HEAD}:{gcs}"],
                    env={**os.environ, **client, "RAY_AUTH_TOKEN": "f" * 32},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode != 0
                assert "InvalidAuthToken" in done.stderr
    finally:
        for log in temporary.glob("session_2*/logs/ray_client_server*.err"):
            print(log.name, log.read_text()[-3000:])
        shutil.rmtree(temporary, ignore_errors=True)
