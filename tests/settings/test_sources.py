"""Settings of sources that are wrong are refused in words that show no secret."""

from __future__ import annotations

import os

import pytest

from hotloop.app.settings.environment import load_settings
from hotloop.app.settings.settings import SettingsError
from hotloop.app.settings.sources import PREFIX

SECRET = "s3cret"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache",
        f"redis://user:{SECRET}@cache:6379/0",
        f"rediss://:{SECRET}@[::1]:6379/1?ssl_cert_reqs=none&ssl_ca_certs=/ca.pem",
        f"unix://:{SECRET}@/run/redis.sock?db=2",
    ],
)
def test_addresses_of_redis_are_kept_and_hidden(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HOTLOOP_REDIS_URL", url)
    settings = load_settings()
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == url
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("REDIS_URL", "", "must be like redis://"),
        ("REDIS_URL", SECRET, "must be like redis://"),
        ("REDIS_URL", f"http://:{SECRET}@cache", "must be like redis://"),
        ("REDIS_URL", f"redis://:{SECRET}@", "must be like redis://"),
        ("REDIS_URL", f"redis://:{SECRET}@cache:port", "must be like redis://"),
        ("REDIS_URL", f"redis://:{SECRET}@cache:70000", "must be like redis://"),
        ("REDIS_URL", f"redis://:{SECRET}@[::1", "must be like redis://"),
        ("REDIS_URL", f"redis://:{SECRET}@cache?decode_responses=1", "must have no options but"),
        ("REDIS_URL", f"redis://:{SECRET}@cache?max_connections=1", "must have no options but"),
        ("REDIS_KEY", "item", "must have {id} exactly once"),
        ("REDIS_KEY", "{id}{id}", "must have {id} exactly once"),
        ("REDIS_LAYOUT", "list", "must be 'string', 'json' or 'hash'"),
        ("REDIS_COLUMNS", "{}", "must have at least 1 entry"),
        ("REDIS_COLUMNS", '{"value": "v", "offset": "o"}', "exactly one column with the layout"),
        ("REDIS_DEFAULTS", '{"offset": NaN}', "must be a finite number"),
        ("PINOT_URL", "broker:8099", "must be like http://broker:8099"),
        ("PINOT_URL", "ftp://broker", "must be like http://broker:8099"),
        ("PINOT_URL", f"http://user:{SECRET}@[::1", "must be like http://broker:8099"),
        ("PINOT_URL", "http://broker:port", "must be like http://broker:8099"),
        ("PINOT_URL", f"http://user:{SECRET}@broker", "give them as HOTLOOP_PINOT_AUTHORIZATION"),
        ("PINOT_URL", "http://broker?a=b", "must end with the host"),
        ("PINOT_AUTHORIZATION", SECRET, "must be one line, like Basic"),
        ("PINOT_AUTHORIZATION", f"Basic {SECRET}\r\nX: y", "must be one line, like Basic"),
        ("PINOT_SQL", "SELECT 1", "must have {ids} exactly once"),
        ("PINOT_SQL", "SELECT {ids} LIMIT 5", "without LIMIT and semicolon"),
        ("PINOT_SQL", "SELECT {ids};", "without LIMIT and semicolon"),
        ("SOURCES", '{"redis": "os:getcwd"}', "other than none, pinot, redis, simulated"),
        ("SOURCES", '{"Own": "os:getcwd"}', "must have names of small letters"),
        ("SOURCES", '{"own": "no_such_module:x"}', "module:callable for own"),
        ("SOURCES", '{"own": "tests.fixtures.own_source:nothing"}', "module:callable for own"),
        ("SOURCES", '{"own": "tests.fixtures.own_source:NOT_CALLABLE"}', "cannot be called"),
        ("SOURCES", '{"own": ""}', "module:callable for own"),
        ("SOURCE_TIMEOUT_SECONDS", "0", "must be at least 0.01"),
        ("SOURCE_ATTEMPTS", "0", "must be at least 1"),
        ("SOURCE_OUTAGE_SECONDS", "-1", "must be at least 0"),
    ],
)
def test_wrong_one_is_told_without_a_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"HOTLOOP_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    text = str(caught.value)
    assert f"HOTLOOP_{name}" in text
    assert words in text
    assert SECRET not in text
