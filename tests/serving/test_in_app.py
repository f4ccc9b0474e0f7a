"""The service inside an application: app/serving/in_app.py, app/serving/disconnects.py.

The application and its workload are files, as users have them: other processes import them, too.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any, Final

import httpx
import psutil
import pytest
from fastapi import FastAPI

import hotloop
from tests.fixtures.own_modules import leaving_no_process
from tests.fixtures.processes import is_gone, tree
from tests.fixtures.waiting import wait_until

WORKLOADS: Final = """
import hotloop

@hotloop.workload(
    columns={"spot": hotloop.Float(0.01, 1e6)},
    parameters={"steps": hotloop.Integer(1, 10**12, default=100)},
    outputs={"price": hotloop.Float(), "turns": hotloop.Integer()},
)
def price(spot: float, steps: int) -> tuple[float, int]:
    if spot == 13.0:
        raise ValueError("unlucky")
    value = spot
    for _ in range(steps):
        value = value * 0.999 + 0.001
    return value, steps

@hotloop.workload
def double(number: float) -> float:
    return 2.0 * number
"""

APP: Final = """
import os
from contextlib import asynccontextmanager

import hotloop
from fastapi import FastAPI
from .workloads import double, price

hot = hotloop.Hotloop(price, double, data_dir=os.environ["DATA"], run_hosts=1)
opened = []

@asynccontextmanager
async def lifespan(app):
    opened.append(await hot.call(double, 1.0))
    yield
    opened.append("closed")

app = FastAPI(lifespan=lifespan)
hot.install(app)
app.mount("/hotloop", hot.asgi)

@app.get("/ping")
async def ping() -> str:
    return "pong"

@app.get("/price")
async def get_price(spot: float, steps: int = 100) -> list[float]:
    return list(await hot.call(price, spot=spot, steps=steps))

@app.get("/double")
async def get_double(number: float) -> float:
    return await hot.caller(double, kernel="python", record="none")(number)

@app.post("/many")
async def post_many(spots: list[float], strategy: str = "auto") -> dict:
    found = await hot.run(price, {"spot": spots}, {"steps": 5}, strategy=strategy)
    return {"price": found["price"].tolist(), "failed": found.failed.tolist(),
            "errors": [each.reason for each in found.errors], "task_id": found.task_id}

@app.post("/task")
async def post_task(spots: list[float]) -> str:
    return await hot.submit(price, {"spot": spots}, {"steps": 7}, idempotency_key="k" + str(spots))

@app.get("/task/{task_id}")
async def get_task(task_id: str) -> dict:
    seen = [event.status async for event in hot.events(task_id)]
    found = await hot.result(task_id)
    return {"turns": found["turns"].tolist(), "last": seen[-1]}

@app.post("/retry/{task_id}")
async def retry(task_id: str) -> list[bool]:
    await hot.retry_failed(task_id)
    return (await hot.result(task_id)).failed.tolist()

@app.post("/resume/{task_id}")
async def resume(task_id: str) -> None:
    await hot.resume(task_id)
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a package with an application and its workloads."""
    folder = tmp_path_factory.mktemp("in_app")
    (folder / "shop").mkdir()
    for name, text in {"__init__": "", "workloads": WORKLOADS, "main": APP}.items():
        (folder / "shop" / f"{name}.py").write_text(dedent(text), encoding="utf-8")
    (folder / "data").mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(folder))
        patched.setenv("DATA", str(folder / "data"))
        yield folder


@pytest.fixture(scope="module")
def shop(package: Path) -> ModuleType:
    return import_module("shop.main")


def test_client(app: FastAPI) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would rather have the successor of httpx
        return import_module("fastapi.testclient").TestClient(app, base_url="http://localhost")


test_client.__test__ = False  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def client(shop: ModuleType) -> Iterator[Any]:
    with leaving_no_process():
        with test_client(shop.app) as client:
            yield client
        assert shop.opened == [2.0, "closed"]


def expected(spot: float, steps: int) -> float:
    for _ in range(steps):
        spot = spot * 0.999 + 0.001
    return spot


def test_call_returns_what_the_function_returns(client: Any) -> None:
    assert client.get("/price", params={"spot": 7.5}).json() == [expected(7.5, 100), 100]
    assert client.get("/price", params={"spot": 7.5, "steps": 3}).json() == [expected(7.5, 3), 3]
    assert client.get("/double", params={"number": 4.25}).json() == 8.5


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({"spot": 13.0}, 500, "ValueError: unlucky at "),
        ({"spot": -1.0}, 422, "must be from 0.01 to 1000000.0, not -1.0"),
        ({"spot": 1.0, "steps": 0}, 422, "parameter 'steps' must be from 1 to "),
    ],
)
def test_errors_are_problems(client: Any, query: dict[str, float], status: int, words: str) -> None:
    answer = client.get("/price", params=query)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]


@pytest.mark.parametrize("strategy", ["auto", "threading", "multiprocessing"])
def test_run_returns_all_outputs(client: Any, strategy: str) -> None:
    spots = [1.0, 13.0, *map(float, range(20, 120))]
    found = client.post("/many", json=spots, params={"strategy": strategy}).json()
    assert found["failed"] == [spot == 13.0 for spot in spots]
    assert [each for each in found["errors"] if "unlucky" in each] == found["errors"] != []
    good = [p for p, failed in zip(found["price"], found["failed"], strict=True) if not failed]
    assert good == [expected(spot, 5) for spot in spots if spot != 13.0]
    status = client.get(f"/hotloop/api/v1/tasks/status/{found['task_id']}").json()
    assert status["status"] == "completed"


def test_task_is_accepted_once_and_followed_to_its_end(client: Any) -> None:
    first, again = (client.post("/task", json=[1.0, 2.0]).json() for _ in range(2))
    assert first == again
    assert client.get(f"/task/{first}").json() == {"turns": [7, 7], "last": "completed"}


def test_failed_items_are_tried_again(client: Any) -> None:
    task_id = client.post("/task", json=[1.0, 13.0]).json()
    assert client.get(f"/task/{task_id}").json()["last"] == "completed"
    assert client.post(f"/retry/{task_id}").json() == [False, True]
    refused = client.post(f"/resume/{task_id}")
    assert refused.status_code == 409
    assert "only a failed or cancelled task" in refused.json()["detail"]


def test_mounted_service_has_its_page_and_the_workloads(client: Any) -> None:
    assert client.get("/hotloop/health").is_success
    assert "price" in client.get("/hotloop/api/v1/tasks/kernels").text
    assert client.get("/hotloop/dashboard").is_success


def test_call_outside_of_the_lifespan_says_what_is_missing(package: Path) -> None:
    shop = import_module("shop.workloads")
    hot = hotloop.Hotloop(shop.double, data_dir=str(package / "data"))
    with pytest.raises(RuntimeError, match=r"FastAPI\(lifespan=hot\.lifespan\)"):
        asyncio.run(hot.call(shop.double, 1.0))


def test_words_that_are_unknown_are_refused_with_the_choices(client: Any, shop: ModuleType) -> None:
    answer = client.post("/many", json=[1.0], params={"strategy": "hybridd"})
    assert answer.status_code == 422
    assert "strategy: 'hybridd' is unknown; choose from: sequential, " in answer.json()["detail"]


@contextmanager
def served(
    package: Path, *options: str, gunicorn: bool = False
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The application under uvicorn or gunicorn, as users start it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ["uvicorn", "--port", str(port)]
    if gunicorn:
        worker = "uvicorn_worker.UvicornWorker"
        server = ["gunicorn", "--worker-class", worker, "--bind", f"127.0.0.1:{port}"]
    command = [sys.executable, "-m", *server, "shop.main:app", *options]
    environment = os.environ | {"DATA": str(package / "data"), "PYTHONPATH": _python_path()}
    with subprocess.Popen(command, cwd=package, env=environment) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: _answers(f"{url}/ping"), "it answers", 60)
            yield url, process
        finally:
            below = set(tree(process.pid))
            process.terminate()
            process.wait(60)
            wait_until(lambda: all(map(is_gone, below)), f"all of {below} are gone")


def _python_path() -> str:
    return os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.getenv("PYTHONPATH")]))


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def _busy(process: psutil.Process) -> float:
    return sum(sum(p.cpu_times()[:2]) for p in process.children(recursive=True))


def test_client_that_leaves_frees_the_cpu(package: Path) -> None:
    with served(package) as (url, process):
        httpx.get(f"{url}/price", params={"spot": 1.0, "steps": 10}, timeout=60)
        top = psutil.Process(process.pid)
        with httpx.Client(timeout=0.2) as client, pytest.raises(httpx.ReadTimeout):
            client.get(f"{url}/price", params={"spot": 1.0, "steps": 10**11})

        def is_idle() -> bool:
            before = _busy(top)
            wait_until(lambda: _answers(f"{url}/ping"), "it answers")
            tasks = httpx.get(f"{url}/hotloop/api/v1/tasks/results?status=running").json()
            return bool(tasks["total"] == 0 and _busy(top) - before < 0.05)

        wait_until(is_idle, "the run is cancelled", 30)


@pytest.mark.long
@pytest.mark.parametrize("gunicorn", [False, True], ids=["uvicorn", "gunicorn"])
def test_several_server_processes(package: Path, gunicorn: bool) -> None:
    with served(package, "--workers", "2", gunicorn=gunicorn) as (url, _):
        for number in range(20):
            answer = httpx.get(f"{url}/double", params={"number": number}, timeout=60)
            assert answer.json() == 2.0 * number
