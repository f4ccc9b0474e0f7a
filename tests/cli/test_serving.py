"""`hotloop key`; tests that start servers test the other commands of app/cli/serving.py."""

from __future__ import annotations

import json

import pytest

from hotloop.app.names import Scope
from hotloop.app.security.clients import Client
from hotloop.app.security.gate import Credentials, Gate
from hotloop.app.settings.settings import Settings
from tests.fixtures.command_line import here


def test_key_is_printed_with_the_entry_that_lets_it_in() -> None:
    lines = here("key", "carol", "--scope", "admin").stdout.splitlines()
    key, entry = (line for line in lines if line[:2] in ("hl", '{"'))
    assert key not in entry
    client = Gate(Settings(api_keys=json.loads(f"[{entry}]"))).admit(Credentials(key))
    assert client == Client("carol", "key:carol", Scope.ADMIN)


@pytest.mark.parametrize("name", ["", "a b", "ä", "-x", "a" * 65, "a\n"])
def test_key_refuses_names_that_cannot_be_one(name: str) -> None:
    done = here("key", "--", name)
    assert done.returncode == 2
    assert done.stderr.startswith("name must")
    assert done.stdout == ""
