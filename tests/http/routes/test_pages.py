"""The dashboard's files as they are served."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest

from hotloop.app.http.routes.pages import FOLDER
from tests.fixtures.client import Client

NAMES = sorted(path.name for path in FOLDER.iterdir() if path.suffix != ".html")
MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def test_page_allows_its_own_resources_only(client: Client) -> None:
    answer = client.get("/dashboard")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_page_names_no_other_server(client: Client) -> None:
    sources = re.findall(r'(?:src|href)="([^"#]+)"', client.get("/dashboard").text)
    assert len(sources) >= 4
    for source in sources:
        assert re.fullmatch(r"[a-z/.]+", source), "relative, below the path of the service"
        assert client.get(urljoin("/dashboard", source)).status_code == 200, source


@pytest.mark.parametrize("name", NAMES)
def test_file_has_its_media_type_and_its_policy(client: Client, name: str) -> None:
    answer = client.get(f"/dashboard/{name}")
    assert answer.content == (FOLDER / name).read_bytes()
    assert answer.headers["content-type"] == MEDIA_TYPES[name.rsplit(".", 1)[1]]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/main.js"])
def test_known_file_answers_304(client: Client, path: str) -> None:
    first = client.get(path)
    assert first.headers["cache-control"] == "no-cache"
    etag = first.headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b""), known
        assert again.headers["etag"] == etag
    assert client.get(path, headers={"If-None-Match": '"other"'}).content == first.content


@pytest.mark.parametrize("name", ["dashboard.html", "nothing.js", "..%2Fversion.py", "__init__.py"])
def test_unknown_file_of_the_page_is_404(client: Client, name: str) -> None:
    answer = client.get(f"/dashboard/{name}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
