"""Settings of access that are wrong are refused in words that show no key."""

from __future__ import annotations

import os

import pytest

from hotloop.app.security.keys import new_key
from hotloop.app.security.rates import RateLimiter
from hotloop.app.settings.environment import load_settings
from hotloop.app.settings.settings import SettingsError
from hotloop.app.settings.sources import PREFIX
from tests.fixtures.access import keys_setting, make_key


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


def refusal(**arguments: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(**arguments)
    return str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "hotloop.example", "127.0.0.1.evil"])
def test_open_service_stays_on_loopback(host: str) -> None:
    text = refusal(host=host)
    assert text.startswith("HOTLOOP_HOST must be a loopback address")
    assert "HOTLOOP_API_KEYS" in text
    assert "hotloop key" in text
    assert load_settings(host=host, api_keys=(make_key("alice").setting,)).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_loopback_needs_no_key(host: str) -> None:
    assert not load_settings(host=host).needs_authentication


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [make_key("alice"), make_key("bob"), make_key("alice")]
    monkeypatch.setenv("HOTLOOP_API_KEYS", keys_setting(keys))
    assert [entry.name for entry in load_settings().api_keys] == ["alice", "bob", "alice"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{", "HOTLOOP_API_KEYS is not valid JSON"),
        ("KEY", "HOTLOOP_API_KEYS is not valid JSON"),
        ('["KEY"]', "must be an object"),
        ('[{"name": "a", "hash": "KEY", "scopes": ["run"]}]', "0, hash) must be the SHA-256"),
        ('[{"name": "a", "hash": 7, "scopes": ["run"]}]', "0, hash) must be the SHA-256"),
        ('[{"name": "a", "scopes": ["run"]}]', "0, hash) is required"),
        ('[{"name": "a", "hash": "HASH", "scopes": []}]', "must have at least 1 entry"),
        ('[{"name": "a", "hash": "HASH", "scopes": ["all"]}]', "must be 'read', 'run' or 'admin'"),
        ('[{"name": "a b", "hash": "HASH", "scopes": ["run"]}]', "0, name) must match"),
        ('[{"name": "a", "hash": "HASH", "scopes": ["run"], "key": 1}]', "0, key) is not a known"),
        ("[ENTRY, ENTRY]", "the same hash twice"),
    ],
)
def test_wrong_keys_are_refused(monkeypatch: pytest.MonkeyPatch, value: str, words: str) -> None:
    key = new_key()
    entry = '{"name": "a", "hash": "HASH", "scopes": ["run"]}'
    value = value.replace("ENTRY", entry).replace("HASH", "0" * 64).replace("KEY", key)
    monkeypatch.setenv("HOTLOOP_API_KEYS", value)
    text = refusal()
    assert words in text
    if words != "must be an object":
        assert key not in text
    assert "Unset it for the default, []." in text


@pytest.mark.parametrize(
    "origin",
    [
        *("*", "https://*", "https://*.example", "app.example", "https://app.example/", "null"),
        *("ftp://app.example", "https://u:p@app.example", "https://app.example:x", "https://"),
    ],
)
def test_origins_are_whole_and_no_wildcards(origin: str) -> None:
    assert refusal(cors_origins=[origin]).startswith("HOTLOOP_CORS_ORIGINS must be origins")


@pytest.mark.parametrize("rate", ["600", "0/minute", "x/minute", "6/fortnight", "1/minute;2/hour"])
def test_rate_is_a_count_and_a_time(rate: str) -> None:
    assert refusal(rate_limit=rate).startswith("HOTLOOP_RATE_LIMIT must be like")


@pytest.mark.parametrize("rate", ["600/minute", "20/second", "5000/2 hours", "1/Day", "7/3minutes"])
def test_rates_that_are_taken_can_be_read(rate: str) -> None:
    RateLimiter(load_settings(rate_limit=rate).rate_limit or "", None)


@pytest.mark.parametrize("url", ["http://a", "redis://", "redis://:s3cret@[::1", "memory://"])
def test_storage_of_rates_is_redis(url: str) -> None:
    text = refusal(rate_limit_storage=url)
    assert text.startswith("HOTLOOP_RATE_LIMIT_STORAGE must be like")
    assert "s3cret" not in text


@pytest.mark.parametrize("name", ["", "*", "https://a", "a:1", "a/b", "a.*.b", "[::1"])
def test_host_names_are_names(name: str) -> None:
    assert refusal(allowed_hosts=[name]).startswith("HOTLOOP_ALLOWED_HOSTS must be names")
