"""Keys: how they are made, kept and looked for."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from hotloop.app.errors import MissingScopeError, UnauthorizedError
from hotloop.app.names import Scope
from hotloop.app.security.clients import ANYONE, ApiKey, Client, KeyRing, digest_of, new_key
from hotloop.app.security.gate import Credentials, Gate
from hotloop.app.settings.settings import ApiKeyEntry, Settings
from tests.fixtures.access import make_key

ALICE, BOB = make_key("alice"), make_key("bob", Scope.READ)


@pytest.fixture
def ring() -> KeyRing:
    return KeyRing([ALICE.api_key, BOB.api_key])


def test_keys_are_long_and_differ() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert {len(key) for key in keys} == {46}


def test_key_is_its_clients(ring: KeyRing) -> None:
    assert ring.find(ALICE.key).client == Client("alice", "key:alice", Scope.RUN)
    assert ring.find(BOB.key).client == Client("bob", "key:bob", Scope.READ)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "password",
        "hl_",
        "hl_" + "a" * 42,
        "hl_" + "a" * 44,
        "hl_" + "é" * 43,
        "hl_" + "\udcff" * 43,
        "hl_" + "a" * 43,
        "x" * 100_000,
        "hl_" + "a" * 43 + "\n",
        "hl_pz-kSiffAz50xUWvpJjlK0195uk1KgLMRVniSCS56dg",
    ],
)
def test_other_texts_are_nobodys(ring: KeyRing, key: str) -> None:
    with pytest.raises(UnauthorizedError) as caught:
        ring.find(key)
    assert not key or len(key) < 6 or key not in str(caught.value)


def test_word_somebody_made_up_is_refused_even_if_its_hash_is_set() -> None:
    with pytest.raises(UnauthorizedError, match="43 letters"):
        KeyRing([ApiKey("a", digest_of("letmein"), Scope.RUN)]).find("letmein")


def test_every_key_is_compared_whichever_it_is(
    ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[Any, Any]] = []
    compare = secrets.compare_digest

    def counting(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return compare(a, b)

    monkeypatch.setattr(secrets, "compare_digest", counting)
    for key in (ALICE.key, BOB.key):
        ring.find(key)
    with pytest.raises(UnauthorizedError):
        ring.find(new_key())
    assert len(compared) == 3 * 2
    assert all(isinstance(a, bytes) and isinstance(b, bytes) for a, b in compared)


def test_scopes_include_those_before_them() -> None:
    may = {s: [t for t in Scope if Client("x", "x", s).may(t)] for s in Scope}
    assert may == {
        Scope.READ: [Scope.READ],
        Scope.RUN: [Scope.READ, Scope.RUN],
        Scope.ADMIN: [Scope.READ, Scope.RUN, Scope.ADMIN],
    }
    with pytest.raises(MissingScopeError, match="bob lacks the scope `run`"):
        BOB.api_key.client.require(Scope.RUN)


def test_highest_scope_of_an_entry_counts() -> None:
    entry = ApiKeyEntry(name="a", hash="0" * 64, scopes=frozenset({Scope.READ, Scope.ADMIN}))
    assert ApiKey.of(entry).scope is Scope.ADMIN


def test_gate_without_keys_lets_anyone_in() -> None:
    gate = Gate(Settings())
    assert gate.admit(Credentials()) is ANYONE
    assert gate.admit(Credentials("nonsense")) is ANYONE


def test_gate_with_keys_lets_nobody_else_in() -> None:
    gate = Gate(Settings(api_keys=(ALICE.setting,)))
    assert gate.admit(Credentials(ALICE.key)).name == "alice"
    for shown in (Credentials(), Credentials(BOB.key)):
        with pytest.raises(UnauthorizedError):
            gate.admit(shown)
