"""Forms and results of a workload with values of every kind, on a service that has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.browser import Page
from tests.fixtures.server import Server, running_server
from tests.fixtures.third_workload import MODULE, NAME
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

ROWS: list[dict[str, Any]] = [
    {"item_id": 1, "inverted": False, "noise": 0, "samples": [1, -1, 0]},
    {"item_id": 2, "inverted": True, "noise": 5, "samples": [1, 2, 3.5]},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_HOTLOOP_WORKLOAD_MODULES", MODULE)
        with running_server(tmp_path_factory.mktemp("signals"), run_hosts=1) as server:
            wait_until(lambda: server.client.get("/health/ready").is_success, "it is warm")
            yield server


def open_form(page: Page, server: Server, view: str) -> None:
    page.open(f"{server.url}/dashboard#{view}")
    page.wait_for("#view form")
    page.choose('#view [name="workload"]', NAME)
    page.js("document.querySelectorAll('#view details').forEach((one) => { one.open = true; })")


def body_of(page: Page) -> Any:
    text = page.js("document.querySelector('#view pre').textContent")
    return json.loads(text.rpartition("-d '")[2].rstrip("'\n"))


@pytest.mark.parametrize("view", ["run", "compare"])
def test_form_has_a_field_of_each_kind(server: Server, page: Page, view: str) -> None:
    open_form(page, server, view)
    kinds = page.js(
        "Object.fromEntries([...document.querySelectorAll('#view [name^=\"parameters.\"]')]"
        ".map((one) => [one.name, one.type]))"
    )
    assert kinds == {
        "parameters.method": "select-one",
        "parameters.order": "select-one",
        "parameters.absolute": "checkbox",
        "parameters.workers": "number",
    }
    options = "[...document.querySelectorAll('#view [name=\"parameters.order\"] option')]"
    assert page.js(f"{options}.map((one) => one.value)") == ["1", "2", "2.5"]
    assert "1 … 9." in page.text(f"#{view}-parameters-workers-hint")
    assert page.text(f"#{view}-parameters-absolute-hint") == "Whether the sign is left out."
    assert '"samples":[0.5,0.5,0.5]' in page.js(
        "document.querySelector('#view textarea').placeholder"
    )
    assert body_of(page) == {"workload": NAME}
    page.choose('#view [name="parameters.order"]', "2.5")
    page.choose('#view [name="parameters.method"]', "mean")
    page.click('#view [name="parameters.absolute"]')
    page.enter('#view [name="parameters.workers"]', "3")
    page.enter('#view [name="workers"]', "2")
    chosen = {"method": "mean", "order": 2.5, "absolute": True, "workers": 3}
    assert body_of(page) == {"workload": NAME, "workers": 2, "parameters": chosen}
    page.choose('#view [name="workload"]', "loops")
    assert page.count('#view [name="parameters.method"]') == 0
    assert body_of(page) == {"workers": 2}
    page.choose('#view [name="workload"]', NAME)
    assert body_of(page)["parameters"] == chosen
    assert page.violations() == []
    assert page.faults == []


def test_run_of_given_items_shows_what_json_cannot_hold(server: Server, page: Page) -> None:
    open_form(page, server, "run")
    assert "item_id, inverted, noise, samples (3 values)" in page.text("#run-file-hint")
    page.enter('#view [name="items"]', json.dumps(ROWS))
    page.choose('#view [name="parameters.method"]', "mean")
    page.click("#view .main")
    page.wait_for("#live .badge", "completed")
    page.click("#live h3 a")
    page.wait_for("#view caption", "First results")
    text = page.text("#view .output")
    assert "1\tnot finite\tfalse" in text
    assert "2\t-0.4333333333333333\tfalse" in text
    assert page.violations() == []


def test_refused_parameter_is_explained_beside_its_field(server: Server, page: Page) -> None:
    open_form(page, server, "recommend")
    page.enter('#view [name="parameters.workers"]', "10")
    page.click("#view .main")
    page.wait_for("#recommend-parameters-workers-fault", "must be at most 9 (got")
    assert page.text("#recommend-workers-fault") == ""
    page.enter('#view [name="parameters.workers"]', "4")
    page.enter('#view [name="db"]', "none")
    page.enter('#view [name="cache"]', "none")
    page.click('#view [name="parameters.absolute"]')
    page.click("#view .main")
    page.wait_for(".output .lead", "is predicted to take")
    assert '"parameters": {"absolute": true, "workers": 4}' in page.text(".output")
    page.open(f"{server.url}/dashboard#run")
    page.wait_for("#view form")
    page.enter('#view [name="items"]', json.dumps([ROWS[0] | {"samples": [1, 2]}]))
    page.choose('#view [name="workload"]', NAME)
    page.click("#view .main")
    page.wait_for("#run-items-fault", "must have at least 3 entries (got 2 entries)")
