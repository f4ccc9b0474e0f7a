"""A service that asks for keys, and a command's own, which asks for none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hotloop.app.names import Scope
from tests.fixtures.access import TestKey, keys_setting, make_key
from tests.fixtures.command_line import LITTLE, answer, hotloop, refusal
from tests.fixtures.server import Server, running_server

pytestmark = pytest.mark.long

ALICE, READER = make_key("alice"), make_key("reader", Scope.READ)
KEYS = keys_setting([ALICE, READER])


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("data"), api_keys=KEYS, run_hosts=1) as server:
        yield server


def with_key(key: TestKey, *arguments: str) -> tuple[int, str]:
    done = hotloop(*arguments, environment={"HOTLOOP_API_KEY": key.key})
    return done.returncode, done.stdout + done.stderr


def test_commands_send_the_key(guarded: Server) -> None:
    code, shown = with_key(ALICE, "run", *LITTLE, "--url", guarded.url)
    assert code == 0, shown
    listed = answer("tasks", "list", "--url", guarded.url, "--api-key", ALICE.key)
    assert listed["total"] == 1
    assert answer("tasks", "list", "--url", guarded.url, "--api-key", READER.key)["total"] == 0


def test_missing_key_or_scope_is_explained(guarded: Server) -> None:
    assert "X-API-Key" in refusal("run", *LITTLE, "--url", guarded.url)
    code, shown = with_key(READER, "run", *LITTLE, "--url", guarded.url)
    assert code == 2
    assert "`run`" in shown


def test_run_by_itself_asks_for_no_key_and_counts_nothing() -> None:
    settings = {
        "HOTLOOP_API_KEYS": KEYS,
        "HOTLOOP_HOST": "0.0.0.0",
        "HOTLOOP_ALLOWED_HOSTS": '["hotloop.example"]',
        "HOTLOOP_RATE_LIMIT": "1/day",
        "HOTLOOP_JWT_KEY": "s" * 32,
        "HOTLOOP_JWT_ALGORITHM": "HS256",
        "HOTLOOP_JWT_AUDIENCE": "hotloop",
    }
    done = hotloop("run", *LITTLE, environment=settings)
    assert done.returncode == 0, done.stderr
