"""Every answer has its headers, errors and pages too; HEAD is GET without the body."""

from __future__ import annotations

import mimetypes
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html.parser import HTMLParser

import httpx
import pytest

from hotloop.app.errors import ServiceError
from hotloop.app.factory import create_app
from hotloop.app.http.guards.answers import DOCUMENTATION, NOTHING, documentation_policy
from hotloop.app.http.routes.pages import HEADERS
from hotloop.app.settings.settings import Settings
from tests.fixtures.access import endpoints
from tests.fixtures.client import Client, open_client
from tests.fixtures.fake_services import TASK_ID, FakeServices

STATUS = f"/api/v1/tasks/status/{TASK_ID}"
READABLE = [
    path.replace("{task_id}", TASK_ID)
    for method, path in endpoints(create_app(Settings(), FakeServices().open))
    if method == "GET" and not path.startswith(("/dashboard", "/redoc/"))
]


@pytest.fixture
def services() -> FakeServices:
    return FakeServices()


@pytest.fixture
def client(services: FakeServices) -> Iterator[Client]:
    mimetypes.init()
    with open_client(create_app(Settings(max_body_bytes=1_024), services.open)) as client:
        yield client


def seen(response: httpx.Response) -> None:
    headers = response.headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize("path", READABLE)
def test_every_route_has_security_headers(client: Client, path: str) -> None:
    response = client.get(path)
    seen(response)
    assert response.headers["cache-control"] == "no-store"
    if path not in DOCUMENTATION:
        assert response.headers["content-security-policy"] == NOTHING


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/api.js", "/dashboard/dashboard.css"])
def test_dashboard_keeps_its_own_policy(client: Client, path: str) -> None:
    response = client.get(path)
    seen(response)
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
    again = client.get(path, headers={"If-None-Match": response.headers["etag"]})
    assert again.status_code == 304
    seen(again)


def test_errors_have_security_headers(client: Client, services: FakeServices) -> None:
    services.error = ServiceError("it broke")
    answers = {500: client.get(STATUS), 404: client.get("/nowhere"), 405: client.post("/health")}
    answers[413] = client.post("/api/v1/tasks/hybrid", content=b" " * 2_000)
    answers[403] = client.get("/", headers={"Host": "evil.example"})
    for status, response in answers.items():
        assert response.status_code == status
        seen(response)
        assert response.headers["content-security-policy"] == NOTHING
        assert response.headers["cache-control"] == "no-store"


def test_faults_have_security_headers(client: Client, services: FakeServices) -> None:
    services.error = ValueError("secret")
    response = client.get(STATUS)
    assert (response.status_code, response.json()["status"]) == (500, 500)
    seen(response)


def test_bundled_files_may_be_kept(client: Client) -> None:
    response = client.get("/static-offline-docs/swagger-ui.css")
    seen(response)
    assert "cache-control" not in response.headers
    response = client.get("/redoc/redoc.standalone.js")
    seen(response)
    assert response.headers["cache-control"] == "max-age=86400"


class Elements(HTMLParser):
    """The elements of a page: tag, attributes and, for scripts, the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is not None:
            tag, attributes, text = self.found[-1]
            self.found[-1] = tag, attributes, text + data

    def scripts(self) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, text) for tag, attributes, text in self.found if tag == "script"]


def hashed(script: str) -> str:
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"


def script_sources(policy: str) -> list[str]:
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert parts["default-src"] == "'none'"
    return parts["script-src"].split()


def test_policy_names_inline_scripts_and_no_others() -> None:
    page = (
        b'<script src="/a.js"></script>\n<script>one()</script><script></script>\n'
        b'<!-- <script>comment()</script> --><SCRIPT type="module">\n"</p>" + "\xc3\xa9"</SCRIPT>'
        b'<script src="/b.js"> ignored() </script><p>text</p>'
    )
    expected = [hashed("one()"), hashed(""), hashed('\n"</p>" + "\u00e9"')]
    assert script_sources(documentation_policy(page)) == ["'self'", *expected]


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_documentation_allows_its_own_scripts_only(client: Client, path: str) -> None:
    response = client.get(path)
    scripts = Elements(response.text).scripts()
    inline = [text for attributes, text in scripts if "src" not in attributes]
    assert bool(inline) == (path == "/docs")
    sources = script_sources(response.headers["content-security-policy"])
    assert sources == ["'self'", *map(hashed, inline)]
    linked = [str(attributes["src"]) for attributes, _ in scripts if "src" in attributes]
    assert all(source.startswith(("/static-offline-docs/", "/redoc/")) for source in linked)


@pytest.mark.parametrize("path", READABLE)
def test_head_is_get_without_the_body(client: Client, services: FakeServices, path: str) -> None:
    headers = {"X-Request-ID": "both"}
    got = client.get(path, headers=headers)
    response = client.request("HEAD", path, headers=headers)
    assert response.status_code == got.status_code
    assert response.content == b""
    assert response.headers == got.headers
    if path.startswith("/api/v1/tasks/results/"):
        assert services.closed_exports == 2


def test_head_of_events_answers_at_once(client: Client, services: FakeServices) -> None:
    services.stays_silent = True
    response = client.request("HEAD", f"/api/v1/tasks/events/{TASK_ID}")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert services.watching == 0


def test_head_of_an_unknown_path_is_404(client: Client) -> None:
    response = client.request("HEAD", "/nowhere")
    assert (response.status_code, response.content) == (404, b"")
    assert client.request("HEAD", "/api/v1/tasks/hybrid").status_code == 405
