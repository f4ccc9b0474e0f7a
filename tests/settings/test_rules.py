"""Values that a rule refuses are refused in words that show no secret."""

from __future__ import annotations

import pytest

from hotloop.app.security.clients import new_key
from hotloop.app.security.gate import RateLimiter
from hotloop.app.settings.environment import load_settings
from hotloop.app.settings.rules import host_of, is_loopback
from hotloop.app.settings.settings import SettingsError
from tests.fixtures.access import keys_setting, make_key

SECRET = "s3cret"


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
def test_accepted_rates_can_be_parsed(rate: str) -> None:
    RateLimiter(load_settings(rate_limit=rate).rate_limit or "", None)


@pytest.mark.parametrize("url", ["http://a", "redis://", "redis://:s3cret@[::1", "memory://"])
def test_storage_of_rates_is_redis(url: str) -> None:
    text = refusal(rate_limit_storage=url)
    assert text.startswith("HOTLOOP_RATE_LIMIT_STORAGE must be like")
    assert "s3cret" not in text


@pytest.mark.parametrize("name", ["", "*", "https://a", "a:1", "a/b", "a.*.b", "[::1"])
def test_host_names_are_names(name: str) -> None:
    assert refusal(allowed_hosts=[name]).startswith("HOTLOOP_ALLOWED_HOSTS must be names")


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
        (
            "REDIS_URL",
            f"redis://:{SECRET}@cache?decode_responses=1",
            "may only have the options db",
        ),
        ("REDIS_URL", f"redis://:{SECRET}@cache?max_connections=1", "may only have the options db"),
        ("REDIS_KEY", "item", "must have {id} exactly once"),
        ("REDIS_KEY", "{id}{id}", "must have {id} exactly once"),
        ("REDIS_LAYOUT", "list", "must be 'string', 'json' or 'hash'"),
        ("REDIS_COLUMNS", "{}", "must have at least 1 entry"),
        ("REDIS_COLUMNS", '{"value": "v", "offset": "o"}', "exactly one column with the layout"),
        ("REDIS_DEFAULTS", '{"offset": NaN}', "must be a finite number"),
        (
            "WORKLOAD_SOURCES",
            '{"f": {"redis_key": "k"}}',
            "(at f, redis_key) must have {id} exactly",
        ),
        (
            "WORKLOAD_SOURCES",
            '{"f": {"pinot_sql": "SELECT 1"}}',
            "(at f, pinot_sql) must have {ids}",
        ),
        ("WORKLOAD_SOURCES", '{"f": {"redis_url": "x"}}', "(at f, redis_url) is not a known field"),
        ("WORKLOAD_SOURCES", '{"f": {"redis_columns": {"a": "b", "c": "d"}}}', "with the layout"),
        ("PINOT_URL", "broker:8099", "must be like http://broker:8099"),
        ("PINOT_URL", "ftp://broker", "must be like http://broker:8099"),
        ("PINOT_URL", f"http://user:{SECRET}@[::1", "must be like http://broker:8099"),
        ("PINOT_URL", "http://broker:port", "must be like http://broker:8099"),
        ("PINOT_URL", f"http://user:{SECRET}@broker", "set HOTLOOP_PINOT_AUTHORIZATION instead"),
        ("PINOT_URL", "http://broker?a=b", "must end with the host"),
        ("PINOT_AUTHORIZATION", SECRET, "must be one line, like Basic"),
        ("PINOT_AUTHORIZATION", f"Basic {SECRET}\r\nX: y", "must be one line, like Basic"),
        ("PINOT_SQL", "SELECT 1", "must have {ids} exactly once"),
        ("PINOT_SQL", "SELECT {ids} LIMIT 5", "without LIMIT and semicolon"),
        ("PINOT_SQL", "SELECT {ids};", "without LIMIT and semicolon"),
        ("SOURCES", '{"redis": "os:getcwd"}', "except none, pinot, redis, simulated"),
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
def test_wrong_setting_error_hides_secrets(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"HOTLOOP_{name}", value)
    text = refusal()
    assert f"HOTLOOP_{name}" in text
    assert words in text
    assert SECRET not in text


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LOCALHOST", "localhost."]
)
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", "0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.example.com", "127.0.0.1.nip"),
        *("127.0.0.1@evil", "2130706433", "0x7f.1", "127.1", "evil-localhost", "[::2]"),
    ],
)
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("localhost:8001", "localhost"),
        ("EXAMPLE.com", "example.com"),
        ("[::1]:8001", "[::1]"),
        ("[::1", ""),
        ("127.0.0.1:1:2", "127.0.0.1"),
        (" ", ""),
    ],
)
def test_host_of(authority: str, host: str) -> None:
    assert host_of(authority) == host
