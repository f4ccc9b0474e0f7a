"""Addresses of this machine that no other one can reach."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether an address or name (`[::1]` or `::1`) means this machine alone, without asking for
    what a name stands for.
    """
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def host_of(authority: str) -> str:
    """`authority` without its port, in small letters."""
    text = authority.strip().lower()
    if text.startswith("["):
        return text[: text.find("]") + 1]
    return text.partition(":")[0]
