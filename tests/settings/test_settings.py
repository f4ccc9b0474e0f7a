"""settings.settings, environment, reference: where values come from, bounds, and messages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from hotloop.app.settings.environment import drop_settings, load_settings, run_host_environment
from hotloop.app.settings.reference import settings_markdown
from hotloop.app.settings.settings import Settings, SettingsError, variable_name
from hotloop.app.system import INNER_THREAD_VARIABLES


def test_settings_without_environment_are_the_defaults() -> None:
    settings = load_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8001)
    assert (settings.run_hosts, settings.queue_limit) == (2, 16)
    assert settings.max_worker_processes is None
    assert settings.data_dir == Path.cwd() / "data"


def test_environment_overrides_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTLOOP_PORT", "0")
    assert load_settings().port == 0


def test_argument_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTLOOP_PORT", "9000")
    assert load_settings(port=9001).port == 9001


def test_settings_cannot_be_changed() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HOTLOOP_PORT", "70000", 'HOTLOOP_PORT must be at most 65,535 (got "70000")'),
        ("HOTLOOP_PORT", "", 'HOTLOOP_PORT must be an integer (got "")'),
        ("HOTLOOP_PORT", "1.5", 'HOTLOOP_PORT must be an integer (got "1.5")'),
        ("HOTLOOP_RUN_HOSTS", "0", 'must be at least 1 (got "0")'),
        ("HOTLOOP_SYNC_LIMIT_SECONDS", "nan", 'must be a finite number (got "nan")'),
        ("HOTLOOP_SYNC_LIMIT_SECONDS", "inf", 'must be a finite number (got "inf")'),
        ("HOTLOOP_HOST", "", "must have at least 1 character"),
        ("HOTLOOP_MAX_WORKER_PROCESSES", "0", "must be at least 1"),
    ],
)
def test_wrong_variable_is_named_with_bound_value_and_way_out(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    text = str(caught.value)
    assert text.startswith(variable)
    assert words in text
    assert "Unset it for the default, " in text


def test_error_lists_all_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTLOOP_PORT", "x")
    monkeypatch.setenv("HOTLOOP_QUEUE_LIMIT", "-1")
    monkeypatch.setenv("HOTLOOP_PROT", "1")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert [line.split()[0] for line in str(caught.value).splitlines()] == [
        "HOTLOOP_PROT",
        "HOTLOOP_PORT",
        "HOTLOOP_QUEUE_LIMIT",
    ]


def test_unknown_variable_is_refused_with_close_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTLOOP_RUN_HOST", "2")
    with pytest.raises(SettingsError, match="Did you mean HOTLOOP_RUN_HOSTS"):
        load_settings()


def test_unknown_variable_error_lists_known_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("hotloop_zzzz", "2")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert all(variable_name(field) in str(caught.value) for field in Settings.model_fields)


@pytest.mark.parametrize("variable", ["HOTLOOP_REQUIRE_CYTHON", "HOTLOOP_BUILD_DEBUG"])
def test_variable_of_the_build_is_allowed(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    assert load_settings().port == 8001


def test_unknown_argument_is_refused() -> None:
    with pytest.raises(SettingsError, match="prot is not a setting"):
        load_settings(prot=1)


def test_shutdown_shorter_than_the_grace_is_refused() -> None:
    with pytest.raises(SettingsError, match="HOTLOOP_CANCEL_GRACE_SECONDS = 2 \\(got 1\\)"):
        load_settings(shutdown_seconds=1)


def test_null_character_in_a_path_is_refused() -> None:
    with pytest.raises(SettingsError, match="HOTLOOP_DATA_DIR must not contain a null"):
        load_settings(data_dir="a\0b")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hush",
        "mysql://hush@host/name",
        "postgresql+psycopg://u:hush@host/name",
        "postgresql://u:hush@host",
        "postgresql://u:hush@host/",
        "postgresql://u:hush@host:many/name",
        "postgresql://u:hu#sh@host/name",
        "postgresql://u:hush@[host/name",
        "sqlite:///hush",
    ],
)
def test_database_url_of_another_kind_is_refused_without_a_word_of_it(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("HOTLOOP_DATABASE_URL", url)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    text = str(caught.value)
    assert text.startswith("HOTLOOP_DATABASE_URL must be like postgresql://user:password@host")
    assert "hush" not in text


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///name?host=/run/postgresql",
        "postgresql://host/name",
        "postgresql://user:pass%23word@host:5432/name?sslmode=require",
    ],
)
def test_database_url_is_where_the_store_is(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert load_settings().store_location == Path.cwd() / "data"
    monkeypatch.setenv("HOTLOOP_DATABASE_URL", url)
    settings = load_settings()
    assert settings.store_location == url
    assert "pass" not in repr(settings)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "x" * 65])
def test_name_of_a_node_is_plain(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HOTLOOP_NODE_ID", name)
    with pytest.raises(SettingsError, match="HOTLOOP_NODE_ID must"):
        load_settings()


def test_every_number_has_bounds_and_every_setting_a_description() -> None:
    for row in settings_markdown().splitlines():
        if row.startswith("| `"):
            variable, kind, _, bounds, description = (
                cell.strip() for cell in row[1:-1].split(" | ")
            )
            without = kind in ("path", "secret", "true or false")
            assert (bounds != "–") != without, variable
            assert description.endswith(".")


def test_run_host_environment_keeps_inner_libraries_on_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("OTHER", "kept")
    environment = run_host_environment()
    assert environment["OTHER"] == "kept"
    assert {environment[name] for name in INNER_THREAD_VARIABLES} == {"1"}
    assert os.environ["OMP_NUM_THREADS"] == "8"


def test_run_host_environment_has_no_settings_and_no_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secrets = {
        "HOTLOOP_DATABASE_URL": "postgresql://user:hush-hush@host/name",
        "hotloop_redis_url": "redis://:hush-hush@host",
        "HOTLOOP_API_KEY": "hush-hush",
        "PGPASSWORD": "hush-hush",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=hush-hush",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    environment = run_host_environment()
    assert not secrets.keys() & environment.keys()
    assert not any("hush-hush" in value for value in environment.values())
    assert environment["PATH"] == os.environ["PATH"]


def test_loaded_settings_are_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTLOOP_REDIS_URL", "redis://:hush-hush@host")
    monkeypatch.setenv("PGPASSWORD", "hush-hush")
    drop_settings()
    assert "HOTLOOP_REDIS_URL" not in os.environ
    assert os.environ["PGPASSWORD"] == "hush-hush"  # what connects to the store reads it


def test_committed_reference_is_the_generated_one() -> None:
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == settings_markdown(), (
        "run: python -m hotloop.app.settings.reference > docs/settings.md"
    )
