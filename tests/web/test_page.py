"""The page as such: its bytes, its policy, its fields, its widths, its accessibility."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.routes.dashboard import FOLDER
from tests.fixtures.browser import Page
from tests.fixtures.fake_services import TASK_ID
from tests.fixtures.server import Server
from tests.web.stub import Stub

pytestmark = pytest.mark.long

VIEWS = {
    "compare": "Compare",
    "history": "History",
    "recommend": "Recommend",
    "run": "Run",
    f"task/{TASK_ID}": "Comparison",
}


def test_page_is_small() -> None:
    files = sorted(path for path in FOLDER.iterdir() if path.suffix in (".css", ".html", ".js"))
    assert len(files) > 5
    assert sum(path.stat().st_size for path in files) < 60_000


def test_page_asks_nobody_else_and_breaks_no_rule_of_its_policy(
    stub: tuple[Stub, str], page: Page
) -> None:
    _, url = stub
    for view, title in VIEWS.items():
        page.open(f"{url}/dashboard#{view}")
        page.wait_for("#view h2", title)
    page.wait("!document.querySelector('.vital .value').textContent.includes('…')", "figures")
    assert page.faults == []
    assert {urlsplit(address).netloc for address in page.requests} == {urlsplit(url).netloc}
    # That a breach would have been seen:
    page.js("document.body.setAttribute('style', 'color: red')")
    page.wait("getComputedStyle(document.body).color !== 'rgb(255, 0, 0)'", "it is refused")
    assert any("Content Security Policy" in fault for fault in page.faults)


@pytest.mark.parametrize("view", sorted(VIEWS))
def test_view_fits_and_is_accessible(stub: tuple[Stub, str], page: Page, view: str) -> None:
    _, url = stub
    page.open(f"{url}/dashboard#{view}")
    page.wait_for("#view h2", VIEWS[view])
    if view == "recommend":
        page.click("#view .main")
        page.wait_for("#view h3", "hybrid × numba")
    page.js("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for width, theme in itertools.product((360, 900, 1_440), ("dark", "light")):
        page.size(width, 800)
        page.theme(theme)
        assert page.js("document.documentElement.scrollWidth <= innerWidth"), width
        assert page.js("matchMedia('(prefers-color-scheme: dark)').matches") == (theme == "dark")
        assert page.violations() == [], (width, theme)


def test_live_task_and_its_result_are_accessible(server: Server, page: Page) -> None:
    body = {"items_count": 60, "db_delay_ms": 0, "batch_size": 20}
    task = server.client.post("/api/v1/tasks/background", json=body).json()
    page.size(360, 800)
    page.open(f"{server.url}/dashboard#task/{task['task_id']}")
    page.wait_for("#view dl", "Checksum")
    assert page.violations() == []
    assert page.js("document.documentElement.scrollWidth <= innerWidth")
    page.theme("dark")
    assert page.violations() == []


def test_axe_would_find_something(stub: tuple[Stub, str], page: Page) -> None:
    _, url = stub
    page.open(f"{url}/dashboard#run")
    page.wait_for("#view h2", "Run")
    page.js("document.querySelector('#view label').remove()")
    assert any(fault.startswith("label") for fault in page.violations())


def expected_fields(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each field of a model, those of models in it by dotted names."""
    found: dict[str, dict[str, Any]] = {}
    for name, spec in schema["properties"].items():
        inner = schemas.get(spec.get("$ref", "").rsplit("/", 1)[-1], {})
        if "properties" in inner:
            deeper = expected_fields(inner, schemas)
            found |= {f"{name}.{key}": value for key, value in deeper.items()}
        else:
            found[name] = spec
    return found


@pytest.mark.parametrize(
    ("view", "model"), [("compare", "CompareRequest"), ("run", "BackgroundRequest")]
)
def test_form_has_every_field_with_the_bounds_and_default_of_its_model(
    stub: tuple[Stub, str], page: Page, view: str, model: str
) -> None:
    _, url = stub
    page.open(f"{url}/dashboard#{view}")
    page.wait_for("#view form")
    schemas = page.js("fetch('/openapi.json').then((a) => a.json())")["components"]["schemas"]
    expected = expected_fields(schemas[model], schemas)
    shown: list[dict[str, str]] = page.js(
        "[...document.querySelectorAll('#view [name]')].map((node) => ({name: node.name, "
        "type: node.type, min: node.min ?? '', max: node.max ?? '', value: node.value, "
        "checked: String(node.checked)}))"
    )
    assert {field["name"] for field in shown} == set(expected)
    assert len(expected) > 20
    bounded = 0
    for field in shown:
        spec = expected[field["name"]]
        if field["type"] == "number" and "minimum" in spec:
            bounded += 1
            assert float(field["min"]) == spec["minimum"], field
            assert float(field["max"]) == spec["maximum"], field
            assert float(field["value"]) == spec["default"], field
        if isinstance(spec.get("default"), bool):
            assert field["checked"] == str(spec["default"]).lower()
        if field["type"] == "select-one":
            assert field["value"] == spec["default"], field
    assert bounded >= 9
    assert "'{}'" in page.text("#view pre"), "defaults are not sent"


def test_what_is_entered_is_what_curl_would_send(stub: tuple[Stub, str], page: Page) -> None:
    page.open(f"{stub[1]}/dashboard#run")
    page.enter('#view [name="workers"]', "3")
    page.enter('#view [name="parameters.cpu_iterations"]', "7")
    page.wait_for("#view pre", '{"workers":3,"parameters":{"cpu_iterations":7}}')
    page.click('nav a[href="#compare"]')
    page.wait_for("#view h2", "Compare")
    assert page.js("document.querySelector('#compare-workers').value") == "3"


def test_recommendation_has_the_fields_of_its_query(stub: tuple[Stub, str], page: Page) -> None:
    _, url = stub
    page.open(f"{url}/dashboard#recommend")
    page.wait_for("#view form")
    paths = page.js("fetch('/openapi.json').then((a) => a.json())")["paths"]
    parameters = paths["/api/v1/tasks/recommendations"]["get"]["parameters"]
    names = page.js("[...document.querySelectorAll('#view [name]')].map((node) => node.name)")
    assert set(names) == {parameter["name"] for parameter in parameters}


def test_run_is_started_by_keyboard_alone(server: Server, page: Page) -> None:
    page.open(f"{server.url}/dashboard")
    page.wait_for("#view form")
    page.press("Tab")
    assert page.js("document.activeElement.textContent") == "Skip to the content"
    page.press("Enter")
    page.wait("document.activeElement.id === 'view'", "the content has the focus")
    page.press("Tab")
    assert page.js("document.activeElement.name") == "items_count"
    assert page.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.call("Input.insertText", text="12")
    seen = []
    while page.js("document.activeElement.type") != "submit":
        page.press("Tab")
        seen.append(page.js("document.activeElement.name || document.activeElement.localName"))
        assert len(seen) < 30, seen
    assert seen[:3] == ["strategy", "kernel", "workers"]
    page.press("Enter")
    page.wait_for('#view [role="status"]', "Started")


def test_command_is_copied_or_marked(server: Server, page: Page) -> None:
    page.open(f"{server.url}/dashboard#run")
    page.wait_for("#view pre")
    page.js("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.click("#view .command button")
    page.wait("/Copied|Marked/.test(document.querySelector('#view .command').innerText)", "told")
    assert page.js("getSelection().toString()").startswith("curl -s http")


def test_service_without_a_page_of_its_own_says_so(server: Server, page: Page) -> None:
    page.open(f"{server.url}/dashboard#task/task_00000000_1")
    page.wait_for('#view [role="alert"]', "There is no such task")
