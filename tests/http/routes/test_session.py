"""Browsers sign in with a key and then send a cookie: sessions of `routes/service.py`."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from hotloop.app.factory import create_app
from hotloop.app.http.access import PAGE_HEADER
from hotloop.app.names import Scope
from hotloop.app.security.clients import (
    COOKIE,
    SESSION_SECONDS,
    KeyRing,
    Session,
    Sessions,
    digest_of,
    new_key,
)
from hotloop.app.settings.settings import Settings
from tests.fixtures.access import TestKey, make_key
from tests.fixtures.client import Client, open_client
from tests.fixtures.fake_services import FakeServices

ALICE, READER = make_key("alice"), make_key("reader", Scope.READ)
SECRET = "0123456789abcdef0123456789abcdef"
SETTINGS = Settings(api_keys=(ALICE.setting, READER.setting), session_secret=SECRET)  # type: ignore[arg-type]
TASKS = "/api/v1/tasks/results"
OWN_PAGE = {PAGE_HEADER: "hotloop", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def services() -> FakeServices:
    return FakeServices()


@pytest.fixture
def client(services: FakeServices) -> Iterator[Client]:
    with open_client(create_app(SETTINGS, services.open)) as client:
        yield client


def sign_in(client: Client, key: TestKey = ALICE, **headers: str) -> httpx.Response:
    return client.post("/session", json={"key": key.key}, headers=headers)


def cookie_of(answer: httpx.Response) -> dict[str, str]:
    """Send the cookie by hand, so that no client's jar changes it."""
    (token,) = re.findall(rf"{COOKIE}=([^;]+)", answer.headers["set-cookie"])
    return {"Cookie": f"{COOKIE}={token}"}


def test_cookie_is_inaccessible_to_scripts_and_other_sites(client: Client) -> None:
    answer = sign_in(client)
    assert answer.status_code == 200
    assert answer.json()["name"] == "alice"
    assert answer.json()["scope"] == "run"
    parts = answer.headers["set-cookie"].lower().split("; ")
    assert {"httponly", "samesite=strict", "path=/", f"max-age={SESSION_SECONDS}"} <= set(parts)
    assert "secure" not in parts
    assert ALICE.key not in answer.headers["set-cookie"]


def test_cookie_of_https_is_sent_over_https_only(services: FakeServices) -> None:
    with open_client(create_app(SETTINGS, services.open)) as client:
        answer = client.post("https://localhost/session", json={"key": ALICE.key})
        assert "secure" in answer.headers["set-cookie"].lower().split("; ")


def test_session_is_the_client(client: Client, services: FakeServices) -> None:
    cookie = cookie_of(sign_in(client))
    assert client.get(TASKS, headers=cookie).status_code == 200
    assert client.delete(TASKS, headers=cookie | OWN_PAGE).status_code == 200
    assert set(services.clients) == {"key:alice"}
    assert client.get("/session", headers=cookie).json()["name"] == "alice"


def test_session_has_the_scope_of_its_key(client: Client) -> None:
    cookie = cookie_of(sign_in(client, READER))
    assert client.get(TASKS, headers=cookie).status_code == 200
    answer = client.delete(TASKS, headers=cookie | OWN_PAGE)
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:hotloop:problem:missing-scope")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {PAGE_HEADER: "hotloop"},
        {"Sec-Fetch-Site": "same-origin"},
        {PAGE_HEADER: "XMLHttpRequest", "Sec-Fetch-Site": "same-origin"},
        OWN_PAGE | {"Sec-Fetch-Site": "same-site"},
        OWN_PAGE | {"Sec-Fetch-Site": "cross-site"},
        OWN_PAGE | {"Sec-Fetch-Site": "none"},
        {PAGE_HEADER: "hotloop", "Origin": "http://localhost:9999"},
        {PAGE_HEADER: "hotloop", "Origin": "https://localhost"},
        {PAGE_HEADER: "hotloop", "Origin": "null"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/session", TASKS])
def test_other_pages_change_nothing_with_the_cookie(
    client: Client, services: FakeServices, headers: dict[str, str], path: str
) -> None:
    cookie = cookie_of(sign_in(client))
    answer = client.delete(path, headers=cookie | headers)
    assert answer.status_code == 403, answer.text
    assert "set-cookie" not in answer.headers
    assert services.calls == []


def test_browser_with_a_matching_origin_is_accepted(client: Client) -> None:
    headers = cookie_of(sign_in(client)) | {PAGE_HEADER: "hotloop", "Origin": "http://localhost"}
    assert client.delete(TASKS, headers=headers).status_code == 200


def test_origin_that_may_ask_is_not_the_service_itself(services: FakeServices) -> None:
    settings = SETTINGS.model_copy(update={"cors_origins": ("https://app.example",)})
    with open_client(create_app(settings, services.open)) as client:
        headers = cookie_of(sign_in(client)) | {PAGE_HEADER: "hotloop"}
        headers |= {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
        assert client.delete(TASKS, headers=headers).status_code == 403
        allowed = client.get(TASKS, headers=headers).headers
        assert "access-control-allow-credentials" not in allowed


def test_key_overrides_a_cookie(client: Client, services: FakeServices) -> None:
    headers = cookie_of(sign_in(client, READER)) | ALICE.headers
    assert client.delete(TASKS, headers=headers).status_code == 200
    assert services.clients[-1] == "key:alice"


def forged(digest: str, expires: int, key: TestKey = ALICE) -> dict[str, str]:
    ours = Sessions(SECRET, KeyRing([key.api_key]))
    token = ours.token_of(Session(key.api_key, expires))
    assert token.startswith(digest_of(key.key))
    return {"Cookie": f"{COOKIE}={token.replace(digest_of(key.key), digest)}"}


def test_cookies_that_are_not_ours_are_refused(client: Client) -> None:
    later = int(time.time()) + 60
    digest = digest_of(ALICE.key)
    assert client.get(TASKS, headers=forged(digest, later)).status_code == 200
    stranger = make_key("alice")
    (token,) = re.findall("=(.*)", forged(digest, later)["Cookie"])
    for cookie in (
        forged(digest, int(time.time()) - 1),
        forged(digest_of(READER.key), later),
        forged(digest_of(stranger.key), later, stranger),
        {"Cookie": f"{COOKIE}={token.replace(str(later), str(later + 9_999))}"},
        {"Cookie": f"{COOKIE}={token[:-1]}{'0' if token[-1] != '0' else '1'}"},
        {"Cookie": f"{COOKIE}={token}0"},
        {"Cookie": f"{COOKIE}="},
        {"Cookie": f"{COOKIE}=x.y.z"},
    ):
        assert client.get(TASKS, headers=cookie).status_code == 401, cookie
        assert client.get("/session", headers=cookie).json()["name"] is None


def test_session_of_another_secret_is_refused(services: FakeServices) -> None:
    settings = SETTINGS.model_copy(update={"session_secret": None})
    with open_client(create_app(settings, services.open)) as one:
        cookie = cookie_of(sign_in(one))
        assert one.get(TASKS, headers=cookie).status_code == 200
    with open_client(create_app(settings, services.open)) as another:
        assert another.get(TASKS, headers=cookie).status_code == 401


@pytest.mark.parametrize("key", ["", "password", new_key()], ids=["none", "word", "foreign"])
def test_wrong_key_does_not_sign_in(client: Client, key: str) -> None:
    answer = client.post("/session", json={"key": key})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert not key or key not in answer.text


@pytest.mark.parametrize("body", [{}, {"key": 7}, {"key": "x", "more": 1}])
def test_malformed_sign_in_is_explained(client: Client, body: dict[str, object]) -> None:
    assert client.post("/session", json=body).status_code == 422


def test_sign_in_with_invalid_text_is_a_problem(client: Client) -> None:
    answer = client.post(
        "/session", content=b"\x1b\xc3\x00", headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    described = client.get("/openapi.json").json()["paths"]["/session"]["post"]["responses"]
    assert "400" in described


def test_sign_in_that_is_too_large_is_not_read(client: Client) -> None:
    for content in ({"key": "x" * 4_096}, {"key": ["x"] * 10_000}):
        answer = client.post("/session", json=content)
        assert (answer.status_code, answer.json()["type"]) == (
            413,
            "urn:hotloop:problem:payload-too-large",
        )
        assert "HOTLOOP" not in answer.json()["detail"], "no setting raises the bound"


def test_sign_in_without_length_is_413_once_it_is_too_long(client: Client) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b" " * 512

    headers = {"Content-Type": "application/json"}
    answer = client.post("/session", content=pieces(), headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (
        413,
        "urn:hotloop:problem:payload-too-large",
    )


def test_signing_in_is_counted(services: FakeServices) -> None:
    settings = SETTINGS.model_copy(update={"rate_limit": "2/hour"})
    with open_client(create_app(settings, services.open)) as client:
        statuses = [client.post("/session", json={"key": "x"}).status_code for _ in range(3)]
        assert statuses == [401, 401, 429]


def test_signing_out_removes_the_cookie(client: Client) -> None:
    cookie = cookie_of(sign_in(client))
    answer = client.delete("/session", headers=cookie | OWN_PAGE)
    assert (answer.status_code, answer.json()["name"]) == (200, None)
    assert f'{COOKIE}=""' in answer.headers["set-cookie"]
    assert "max-age=0" in answer.headers["set-cookie"].lower()
    assert client.delete("/session").status_code == 200


def test_service_without_keys_signs_in_anyone(services: FakeServices) -> None:
    with open_client(create_app(Settings(), services.open)) as client:
        assert client.get("/session").json()["name"] == "anyone"
        answer = client.post("/session", json={"key": "x"})
        assert answer.json() == {"name": "anyone", "scope": "admin", "expires_at": None}
        assert "set-cookie" not in answer.headers
