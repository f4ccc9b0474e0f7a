"""Requests that browsers were tricked into are refused; those of allowed pages are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from hotloop.app.factory import create_app
from hotloop.app.settings.settings import Settings
from tests.fixtures.access import make_key
from tests.fixtures.client import Client, open_client
from tests.fixtures.fake_services import FakeServices

KEY = make_key("alice")
RUN = "/api/v1/tasks/hybrid"
Open = Callable[..., Client]


@pytest.fixture
def start() -> Iterator[Open]:
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            open_client(create_app(Settings(**settings), FakeServices().open))
        )


@pytest.mark.parametrize("path", ["/", "/health", "/docs", "/api/v1/tasks", "/nowhere"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8001", "10.0.0.1", "localhost.evil"]
)
def test_open_service_answers_loopback_names_only(start: Open, path: str, host: str) -> None:
    response = start().get(path, headers={"Host": host})
    assert response.status_code == 403
    assert response.headers["content-type"] == "application/problem+json"
    assert "HOTLOOP_ALLOWED_HOSTS" in response.json()["detail"]


@pytest.mark.parametrize("host", ["localhost:8001", "127.0.0.1", "127.0.0.2:80", "[::1]:8001"])
def test_loopback_names_are_accepted(start: Open, host: str) -> None:
    assert start().get("/health", headers={"Host": host}).status_code == 200
    settings = {"allowed_hosts": ("hotloop.example",), "api_keys": (KEY.setting,)}
    assert start(**settings).get("/health", headers={"Host": host}).status_code == 200


def test_service_with_keys_answers_any_or_listed_names(start: Open) -> None:
    headers = {"Host": "a.hotloop.example:443"}
    assert start(api_keys=(KEY.setting,)).get("/health", headers=headers).status_code == 200
    for hosts, status in (
        (("hotloop.example",), 403),
        (("A.hotloop.example",), 200),
        (("*.hotloop.example",), 200),
        (("*.example",), 200),
        (("*.a.hotloop.example",), 403),
    ):
        client = start(api_keys=(KEY.setting,), allowed_hosts=hosts)
        assert client.get("/health", headers=headers).status_code == status, hosts


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Origin": "https://localhost"},
    {"Origin": "http://localhost.evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"},
    {"Sec-Fetch-Site": "nonsense"},
]
OWN: list[dict[str, str]] = [
    {},
    {"Origin": "http://localhost"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"},
    {"Sec-Fetch-Site": "none"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("keys", [(), (KEY.setting,)], ids=["open", "keys"])
def test_foreign_origins_cannot_change_anything(
    start: Open, keys: tuple[object, ...], headers: dict[str, str]
) -> None:
    client = start(api_keys=keys)
    for method, path in (("POST", RUN), ("DELETE", "/api/v1/tasks/results")):
        response = client.request(method, path, headers=headers | KEY.headers)
        assert response.status_code == 403
        assert response.json()["type"] == "urn:hotloop:problem:forbidden"
        assert "access-control-allow-origin" not in response.headers
    assert client.get("/api/v1/tasks", headers=headers | KEY.headers).status_code == 200


@pytest.mark.parametrize("headers", OWN, ids=str)
def test_own_pages_and_other_programs_are_served(start: Open, headers: dict[str, str]) -> None:
    assert start().post(RUN, json={}, headers=headers).status_code == 200


def test_no_origin_may_read_until_it_is_listed(start: Open) -> None:
    origin = {"Origin": "https://app.example"}
    asked = origin | {"Access-Control-Request-Method": "POST"}
    answer = start().get("/api/v1/tasks", headers=origin)
    assert "access-control-allow-origin" not in answer.headers

    client = start(cors_origins=("https://app.example",))
    preflight = client.request("OPTIONS", RUN, headers=asked)
    assert preflight.status_code == 200
    answer = client.post(RUN, json={}, headers=origin | {"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200
    for response in (preflight, answer):
        assert response.headers["access-control-allow-origin"] == "https://app.example"
        assert "access-control-allow-credentials" not in response.headers
    other = {"Origin": "https://evil.example"}
    assert client.post(RUN, json={}, headers=other).status_code == 403
    assert "access-control-allow-origin" not in client.get("/", headers=other).headers
