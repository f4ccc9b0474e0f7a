"""The page as such: its bytes, its policy, its fields, its widths, its accessibility."""

from __future__ import annotations

import itertools
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from hotloop.app.http.routes.pages import FOLDER
from tests.fixtures.browser import Page
from tests.fixtures.fake_services import TASK_ID
from tests.fixtures.second_workload import WORKLOAD
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
    files = {path for path in FOLDER.iterdir() if path.suffix in (".css", ".html", ".js")}
    files.remove(FOLDER / "report.js")  # for reports alone
    assert len(files) > 5
    assert sum(path.stat().st_size for path in files) < 80_000


def test_page_asks_nobody_else_and_breaks_no_rule_of_its_policy(
    stub: tuple[Stub, str], page: Page
) -> None:
    _, url = stub
    for view, title in VIEWS.items():
        page.open(f"{url}/dashboard#{view}")
        page.wait_for("#view h2", title)
        assert len(page.text("#view")) > 100, "it is not blank"
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


def test_chosen_workload_decides_the_parameters(stub: tuple[Stub, str], page: Page) -> None:
    services = stub[0].services
    services.workloads += (WORKLOAD,)
    try:
        page.open(f"{stub[1]}/dashboard#run")
        page.enter('#view [name="parameters.cpu_iterations"]', "7")
        page.choose('#view [name="workload"]', WORKLOAD.name)
        page.enter('#view [name="parameters.rate"]', "0.25")
        page.wait_for("#view pre", '{"workload":"growth","parameters":{"rate":0.25}}')
        page.wait_for("#run-file-hint", "item_id, start, months")
        assert not page.js("document.querySelector('[name=\"parameters.cpu_iterations\"]')")
    finally:
        services.workloads = services.workloads[:1]


def test_recommendation_has_the_fields_of_its_query(stub: tuple[Stub, str], page: Page) -> None:
    _, url = stub
    page.open(f"{url}/dashboard#recommend")
    page.wait_for("#view form")
    paths = page.js("fetch('/openapi.json').then((a) => a.json())")["paths"]
    parameters = paths["/api/v1/tasks/recommendations"]["get"]["parameters"]
    names = page.js("[...document.querySelectorAll('#view [name]')].map((node) => node.name)")
    assert set(names) == {parameter["name"] for parameter in parameters} - {"wait"}


def test_run_is_started_by_keyboard_alone(server: Server, page: Page) -> None:
    page.open(f"{server.url}/dashboard")
    page.wait_for("#view form")
    page.press("Tab")
    assert page.js("document.activeElement.textContent") == "Skip to the content"
    page.press("Enter")
    page.wait("document.activeElement.id === 'view'", "the content has the focus")
    for _ in range(6):  # five examples come first
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


PRESETS = {
    "Sequential, 100 items": {"items_count": 100, "strategy": "sequential"},
    "Async-batch, 100 items": {"items_count": 100, "workers": 1, "strategy": "async-batch"},
    "Multiprocessing, 50,000 items, 8 workers": {"workers": 8, "strategy": "multiprocessing"},
    "Hybrid, 5,000 items in flight": {
        "items_count": 5_000,
        "workers": 2,
        "io_concurrency": 5_000,
        "strategy": "hybrid",
    },
}


def press_preset(page: Page, text: str) -> None:
    buttons = "[...document.querySelectorAll('#view button')]"
    found = f"{buttons}.find((one) => one.textContent === {text!r})"
    page.wait(found, f"the example {text}")
    page.js(f"{found}.id = 'wanted'")
    page.click("#wanted")


def test_examples_fill_the_form(stub: tuple[Stub, str], page: Page) -> None:
    page.open(f"{stub[1]}/dashboard#run")
    page.enter('#view [name="batch_size"]', "7")
    for text, body in PRESETS.items():
        press_preset(page, text)
        sent = page.text("#view pre").split("-d '")[1].rstrip("'")
        assert json.loads(sent) == body, text
        assert page.js("document.activeElement.type") == "submit"
        page.js("document.querySelector('#wanted').id = ''")
    page.js("document.activeElement.click()")
    page.wait_for('#view [role="status"]', "Started")
    press_preset(page, "Compare, 1,000 items, 4 workers")
    page.wait_for("#view h2", "Compare")
    page.wait_for("#view pre", """-d '{"items_count":1000}'""")
    assert page.js("document.querySelector('#compare-workers').value") == "4"


def test_empty_batch_size_is_auto(stub: tuple[Stub, str], page: Page) -> None:
    page.open(f"{stub[1]}/dashboard#run")
    page.wait_for("#run-batch_size")
    field = "document.querySelector('#run-batch_size')"
    assert page.js(f"[{field}.value, {field}.placeholder, {field}.type]") == ["", "auto", "number"]
    page.enter("#run-batch_size", "25")
    page.wait_for("#view pre", '{"batch_size":25}')
    page.enter("#run-batch_size", "")
    page.js(f"{field}.value = '', {field}.dispatchEvent(new Event('input', {{bubbles: true}}))")
    page.wait_for("#view pre", "'{}'")


def test_running_task_is_above_the_form_on_a_phone(stub: tuple[Stub, str], page: Page) -> None:
    page.size(390, 844)
    page.open(f"{stub[1]}/dashboard#run")
    page.wait_for("#view form")
    page.click("#view .main")
    page.wait_for("#live .card")
    top = "(one) => document.querySelector(one).getBoundingClientRect().top"
    card, form, charts = page.js(f"['#live .card', '#view form', '#vitals'].map({top})")
    assert card < form < charts
    page.size(1_280, 900)
    left = "(one) => document.querySelector(one).getBoundingClientRect().left"
    form, card, charts = page.js(f"['#view form', '#live .card', '#vitals'].map({left})")
    assert form < card == charts


def test_wide_screen_is_used(stub: tuple[Stub, str], page: Page) -> None:
    page.size(1_920, 1_080)
    page.open(f"{stub[1]}/dashboard#task/{TASK_ID}")
    page.wait_for(".ranking")
    box = (
        "(one) => { const box = document.querySelector(one).getBoundingClientRect();"
        "return [box.left, box.right, box.top]; }"
    )
    view, matrix, ranking, aside = page.js(
        f"['#view', '.heatmap', '.ranking', '.service'].map({box})"
    )
    assert aside[1] - view[0] > 1_800
    assert matrix[1] < ranking[0], "side by side"
    assert abs(matrix[2] - ranking[2]) < 40


def test_charts_have_an_axis_and_names(stub: tuple[Stub, str], page: Page) -> None:
    page.open(f"{stub[1]}/dashboard")
    page.wait_for("#vitals .value", "400 MB")
    texts = page.js("[...document.querySelectorAll('.vital')].map((one) => one.innerText)")
    for text in texts:
        assert "10 min ago" in text
        assert "now" in text
    assert page.js(
        "[...document.querySelectorAll('.plot .scale span:first-child')].map((a) => a.textContent)"
    ) == ["1.00 ms", "500 MB", "100 %"]
    assert "API and runs: 400 MB, most 400 MB" in texts[1]
    assert "API alone: 100 MB" in texts[1]


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
