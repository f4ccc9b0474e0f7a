"""The interactive documentation, rendered by a real browser under its own policy."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.fixtures.browser import Page
from tests.fixtures.server import Server

pytestmark = pytest.mark.long

CONTENT = {"/docs": ".opblock", "/redoc": "[data-section-id]"}
"""A selector that each page fills once for each route."""


@pytest.mark.parametrize("path", CONTENT)
def test_documentation_renders_without_errors(server: Server, page: Page, path: str) -> None:
    page.open(server.url + path)
    page.wait_for(CONTENT[path])
    routes = page.js("fetch('/openapi.json').then((answer) => answer.json())")["paths"]
    methods = sum(map(len, routes.values()))
    assert methods > 15
    assert page.count(CONTENT[path]) >= methods
    assert "Compare strategies" in page.text("body")
    assert page.faults == []
    netlocs = {urlsplit(url).netloc for url in page.requests if url.startswith("http")}
    assert netlocs == {urlsplit(server.url).netloc}


def test_documentation_follows_the_theme(server: Server, page: Page) -> None:
    page.theme("dark")
    page.open(f"{server.url}/docs")
    page.wait_for(".opblock")
    background = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.js(background)
    page.theme("light")
    page.wait(f"{background} !== '{dark}'", "the page is light")
    assert page.faults == []


def test_documentation_page_sends_a_request(server: Server, page: Page) -> None:
    page.open(f"{server.url}/docs")
    page.click("#operations-service-get_health .opblock-summary-control")
    page.click("#operations-service-get_health .try-out__btn")
    page.click("#operations-service-get_health .execute")
    page.wait_for("#operations-service-get_health .live-responses-table", "200")
    assert page.faults == []


@pytest.mark.parametrize("path", CONTENT)
def test_injected_script_is_refused(server: Server, page: Page, path: str) -> None:
    page.open(server.url + path)
    page.wait_for(CONTENT[path])
    page.js(
        "document.body.append(Object.assign(document.createElement('script'),"
        "{textContent: 'window.injected = true'}))"
    )
    assert page.js("window.injected ?? null") is None
    assert any("Content Security Policy" in fault for fault in page.faults)
