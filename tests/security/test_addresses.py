"""What is this machine alone, and the host in an authority."""

from __future__ import annotations

import pytest

from hotloop.app.security.addresses import host_of, is_loopback


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
