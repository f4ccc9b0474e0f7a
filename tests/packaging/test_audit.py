"""`make audit`, with a database of our own in the place of the public one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

import pytest
from packaging.utils import canonicalize_name

from tests.fixtures.server import ROOT, plain_environment

pytestmark = pytest.mark.long

PINNED: Final = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if "==" in line
)
FAULT: Final[dict[str, Any]] = {
    "id": "TEST-1",
    "summary": "known to be bad",
    "affected": [
        {
            "package": {"name": "starlette", "ecosystem": "PyPI"},
            "versions": [PINNED["starlette"]],
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999"}]}],
        }
    ],
}


@contextmanager
def database(answer: Callable[[str], Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """The address of the fake database, and the versions that clients asked about; `answer` is by
    package.
    """
    asked: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = query["package"]["name"]
            asked[name] = query["version"]
            body = json.dumps(answer(name)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
        finally:
            server.shutdown()
            thread.join()


def audit(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "audit"],
        cwd=ROOT,
        env=plain_environment() | {"PIP_AUDIT_OSV_URL": url, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_audit_checks_every_pinned_version() -> None:
    with database(lambda name: {}) as (url, asked):
        done = audit(url)
    assert done.returncode == 0, done.stderr
    assert "No known vulnerabilities found" in done.stderr
    canonical = {canonicalize_name(name): version for name, version in PINNED.items()}
    assert asked == canonical


def test_vulnerable_version_is_reported_with_its_fix() -> None:
    with database(lambda name: {"vulns": [FAULT]} if name == "starlette" else {}) as (url, _):
        done = audit(url)
    assert done.returncode != 0
    assert f"starlette {PINNED['starlette']}" in " ".join(done.stdout.split())
    assert "TEST-1" in done.stdout
    assert "999" in done.stdout


def test_unreachable_database_fails_the_audit() -> None:
    with database(lambda name: {}) as (url, _):
        pass
    assert audit(url).returncode != 0
