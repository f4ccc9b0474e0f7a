"""A start while the database cannot be reached, or refuses this service."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError

from hotloop.app.errors import StoreError, StoreUnavailableError
from hotloop.app.serving import node
from hotloop.app.serving.node import check_machine
from hotloop.app.settings.settings import Settings, SettingsError
from hotloop.app.tasks.store import open_store
from tests.fixtures.guarded import free_port

SECRET = "hush-hush-1"


def settings(tmp_path: Path, **changes: Any) -> Settings:
    url = f"postgresql://someone:{SECRET}@127.0.0.1:{free_port()}/hotloop"
    return Settings(data_dir=tmp_path, database_url=SecretStr(url), **changes)


def test_start_waits_for_a_database_and_gives_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StoreUnavailableError, match=r"HOTLOOP_DATABASE_URL: .* cannot be reached"):
        check_machine(settings(tmp_path, store_wait_seconds=0.01))
    assert "waiting for it for up to 0.01 s (HOTLOOP_STORE_WAIT_SECONDS)" in caplog.text
    assert "says: connection failed" in caplog.text  # the database's own words
    assert SECRET not in caplog.text


def test_start_continues_when_the_database_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    answers = threading.Event()

    def open_later(*_: object) -> Any:
        if answers.is_set():
            return open_store(tmp_path)
        answers.set()
        raise StoreUnavailableError("it is down")

    monkeypatch.setattr(node, "open_store", open_later)
    monkeypatch.setattr(node, "_PAUSE_SECONDS", 0.0)
    check_machine(settings(tmp_path))
    assert "it is down; waiting for it" in caplog.text


def test_stopping_process_waits_no_longer(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError):
        check_machine(settings(tmp_path), lambda: True)


@pytest.mark.parametrize(
    "words",
    ['FATAL:  password authentication failed for user "x"', 'FATAL:  database "x" does not exist'],
)
def test_refusal_by_the_database_is_a_wrong_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    refusal = StoreUnavailableError("it lets nobody in")
    refusal.__cause__ = OperationalError("", (), Exception(words))

    def refuse(*_: object) -> Any:
        raise refusal

    monkeypatch.setattr(node, "open_store", refuse)
    with pytest.raises(SettingsError, match="HOTLOOP_DATABASE_URL: it lets nobody in"):
        check_machine(settings(tmp_path))


def test_permanent_store_error_is_a_wrong_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Any:
        raise StoreError("it is of a newer version")

    monkeypatch.setattr(node, "open_store", refuse)
    with pytest.raises(SettingsError, match="newer version"):
        check_machine(settings(tmp_path))
