"""A browser for all, a page for each test, a service for those that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures.browser import Browser, Page, running_browser
from tests.fixtures.server import Server, running_server
from tests.fixtures.waiting import wait_until
from tests.web.stub import Stub, running_stub


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.page() as page:
        yield page


@pytest.fixture(scope="package")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("data"), run_hosts=1) as server:
        wait_until(lambda: server.client.get("/health/ready").is_success, "the service is warm")
        yield server


@pytest.fixture
def stub(browser: Browser) -> Iterator[tuple[Stub, str]]:
    with running_stub() as stub:
        yield stub
