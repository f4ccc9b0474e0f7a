"""docs/in-your-app.md in an empty folder: the application before and after, as it is written."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.fixtures.guarded import leashed
from tests.fixtures.own_modules import leaving_no_process
from tests.fixtures.server import ROOT, plain_environment
from tests.fixtures.waiting import wait_until

PAGE: Final = (ROOT / "docs" / "in-your-app.md").read_text("utf-8")
BLOCKS: Final = re.findall(r"^```(python|sh)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
BEFORE, PRICES, AFTER, WITH_LIFESPAN = (text for kind, text in BLOCKS if kind == "python")
SERVE, CURL = (text for kind, text in BLOCKS if kind == "sh")

PLAIN_PRICES: Final = re.sub(r"import hotloop\n|@hotloop.*?^\)\n", "", PRICES, flags=re.M | re.S)
"""The function before it was a workload."""


@contextmanager
def started(folder: Path, shop: str, prices: str) -> Iterator[str]:
    """The application, started by the command of the page; gives its address."""
    (folder / "shop.py").write_text(shop, encoding="utf-8")
    (folder / "prices.py").write_text(prices, encoding="utf-8")
    command = SERVE.replace("8000", "0").split()
    environment = plain_environment() | {"PYTHONPATH": str(ROOT)}
    with (
        leaving_no_process(),
        subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
        leashed(process),
    ):
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                break
        else:
            raise AssertionError("".join(lines))
        try:
            yield f"http://127.0.0.1:{found[1]}"
        finally:
            process.terminate()
            process.communicate(timeout=60)


def curl(address: str) -> str:
    command = CURL.replace("localhost:8000", address.removeprefix("http://"))
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    return done.stdout


def test_application_gives_the_same_before_and_after(tmp_path: Path) -> None:
    with started(tmp_path, BEFORE, PLAIN_PRICES) as address:
        before = curl(address)
    with started(tmp_path, AFTER, PRICES) as address:
        assert curl(address) == before
        assert httpx.get(f"{address}/ping").json() == "pong"
    assert float(before) > 0


@pytest.mark.long
def test_application_with_a_lifespan_of_its_own(tmp_path: Path) -> None:
    lifespan = (
        "from contextlib import asynccontextmanager\n"
        "@asynccontextmanager\nasync def my_lifespan(app):\n    yield\n"
    )
    old = "hot = hotloop.Hotloop(price)\napp = FastAPI(lifespan=hot.lifespan)\n"
    assert old in AFTER
    shop = AFTER.replace(old, lifespan + WITH_LIFESPAN)
    with started(tmp_path, shop, PRICES) as address:
        assert float(curl(address)) > 0
        answer = httpx.get(f"{address}/price", params={"spot": -1})
        assert (answer.status_code, answer.json()["status"]) == (422, 422)
        kernels = f"{address}/hotloop/api/v1/tasks/kernels"
        wait_until(lambda: '"price"' in httpx.get(kernels).text, "it is mounted", 60)
