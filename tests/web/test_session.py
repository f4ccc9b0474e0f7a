"""Signing in, by the key, and out."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from hotloop.app.names import Scope
from hotloop.app.security.clients import new_key
from tests.fixtures.access import keys_setting, make_key
from tests.fixtures.browser import Browser, Page
from tests.fixtures.server import Server, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

ALICE, BOB, READER = make_key("alice"), make_key("bob"), make_key("reader", Scope.READ)
DOOR_IS_OPEN = "document.querySelector('#door')?.open"
OPEN_TO_ALL = ("/dashboard", "/session", "/health")


@pytest.fixture(scope="module")
def guarded(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with keys; its client has one."""
    folder = tmp_path_factory.mktemp("data")
    keys = keys_setting([ALICE, BOB, READER])
    with running_server(folder, run_hosts=1, api_keys=keys) as server:
        server.client.headers.update(ALICE.headers)
        wait_until(lambda: server.client.get("/health/ready").is_success, "the service is warm")
        yield server


def open_door(page: Page, server: Server, view: str = "run") -> None:
    page.open(f"{server.url}/dashboard#{view}")
    page.wait(DOOR_IS_OPEN, "a key is asked for")


def sign_in(page: Page, key: str) -> None:
    page.enter("#key", key)
    page.press("Enter")


def forget_cookies(page: Page) -> None:
    page.call("Network.clearBrowserCookies")


def test_page_asks_for_a_key_first(guarded: Server, page: Page) -> None:
    open_door(page, guarded)
    paths = {urlsplit(url).path for url in page.requests if url.startswith("http")}
    assert "/session" in paths
    assert all(path.startswith(OPEN_TO_ALL) for path in paths), paths
    assert page.js("document.querySelector('#view').children.length") == 1, "noscript alone"
    assert not page.js("document.querySelector('#out').checkVisibility()")
    assert page.faults == [], "that nobody is signed in is no error"


def test_key_signs_in(guarded: Server, page: Page) -> None:
    open_door(page, guarded)
    sign_in(page, f" {ALICE.key} ")
    page.wait_for("#view h2", "Run")
    assert not page.js(DOOR_IS_OPEN)
    assert page.js("document.cookie") == "", "scripts cannot read it"
    assert page.js("document.querySelector('#key').value") == ""
    page.enter('#view [name="items_count"]', "7")
    page.click("#view .main")
    page.wait_for('#view [role="status"]', "Started")
    task_id = page.text('#view [role="status"] a')
    assert guarded.client.get(f"/api/v1/tasks/status/{task_id}").json()["total_items"] == 7
    theirs = guarded.client.get(f"/api/v1/tasks/status/{task_id}", headers=BOB.headers)
    assert theirs.status_code == 404, "it is the task of whose key was shown"
    page.open(f"{guarded.url}/dashboard#history")
    page.wait_for("#view code", task_id)
    assert page.faults == []


@pytest.mark.parametrize("key", ["a word", new_key()], ids=["word", "foreign"])
def test_wrong_key_is_refused_and_can_be_corrected(guarded: Server, page: Page, key: str) -> None:
    open_door(page, guarded)
    sign_in(page, key)
    page.wait_for('#refusal [role="alert"]', "key")
    assert page.js(DOOR_IS_OPEN)
    assert key not in page.text("body")
    sign_in(page, READER.key)
    page.wait_for("#view h2", "Run")
    assert not page.js(DOOR_IS_OPEN)
    page.click("#view .main")
    page.wait_for('#view [role="alert"]', "scope")


def test_dialog_cannot_be_closed_by_keys(guarded: Server, page: Page) -> None:
    open_door(page, guarded)
    for _ in range(3):
        page.press("Escape")
    assert page.js(DOOR_IS_OPEN)
    page.press("Tab")
    assert page.js("document.querySelector('#door').contains(document.activeElement)")


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_dialog_fits_and_is_accessible(guarded: Server, page: Page, theme: str) -> None:
    page.size(360, 640)
    page.theme(theme)
    open_door(page, guarded)
    assert page.js("document.activeElement.id") == "key"
    sign_in(page, "a word")
    page.wait_for('#refusal [role="alert"]')
    assert page.violations() == []
    assert page.js("document.documentElement.scrollWidth <= innerWidth")
    page.js("document.querySelector('#key').parentElement.before(document.querySelector('#key'))")
    assert any(fault.startswith("label") for fault in page.violations())


def test_page_continues_after_signing_in_again(guarded: Server, page: Page) -> None:
    open_door(page, guarded)
    sign_in(page, ALICE.key)
    page.enter('#view [name="items_count"]', "13")
    forget_cookies(page)
    page.click("#view .main")
    page.wait(DOOR_IS_OPEN, "a key is asked for again")
    sign_in(page, ALICE.key)
    page.wait(f"!{DOOR_IS_OPEN}", "the dialog is gone")
    assert page.js("document.querySelector('#run-items_count').value") == "13"
    page.click("#view .main")
    page.wait_for('#view [role="status"]', "Started")


def test_next_client_sees_nothing_of_the_previous_one(guarded: Server, page: Page) -> None:
    body = {"items_count": 5_000, "batch_size": 10, "strategy": "sequential", "db_delay_ms": 100}
    task_id = guarded.client.post("/api/v1/tasks/background", json=body).json()["task_id"]
    try:
        open_door(page, guarded)
        sign_in(page, ALICE.key)
        page.wait_for("#live .badge")
        page.enter('#view [name="items_count"]', "13")
        forget_cookies(page)
        page.wait(DOOR_IS_OPEN, "the next question finds nobody signed in")
        sign_in(page, BOB.key)
        # The page is loaded anew, with what the new client may see.
        anew = "document.querySelector('#vitals .value') && !document.querySelector('#live .card')"
        page.wait(f"{DOOR_IS_OPEN} === false && {anew}", "what the first one saw is gone")
        page.wait_for("#view form")
        assert page.js("document.querySelector('#run-items_count').value") == "50000"
        page.click('nav a[href="#history"]')
        page.wait_for("#view", "No task matches.")
    finally:
        guarded.client.delete(f"/api/v1/tasks/{task_id}")


def test_signing_out_ends_the_session(guarded: Server, page: Page) -> None:
    open_door(page, guarded, "history")
    sign_in(page, ALICE.key)
    page.wait_for("#view h2", "History")
    page.click("#out")
    page.wait(f"document.readyState === 'complete' && {DOOR_IS_OPEN}", "a key is asked for")
    assert page.text("#view") == ""
    assert page.js("fetch('/api/v1/tasks/results').then((answer) => answer.status)") == 401


def test_service_without_keys_shows_no_dialog(server: Server, page: Page) -> None:
    page.open(f"{server.url}/dashboard")
    page.wait_for("#view h2", "Run")
    assert not page.js(DOOR_IS_OPEN)
    assert not page.js("document.querySelector('#out').checkVisibility()")
