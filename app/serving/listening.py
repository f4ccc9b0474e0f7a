"""The socket that requests come in by: a new one, or one that somebody keeps open for us."""

from __future__ import annotations

import os
import socket

from hotloop.app.security.addresses import is_loopback
from hotloop.app.settings.settings import Settings, SettingsError

BACKLOG = 2048
"""Connections that wait until they are accepted; the system may allow fewer."""


def open_listener(settings: Settings) -> socket.socket:
    """Bound and, if it was inherited, already listening. Raises SettingsError."""
    if settings.fd is not None:
        listener = _inherited(settings.fd)
        if not (settings.needs_authentication or _is_local(listener)):
            place = address_of(listener)
            listener.close()
            raise SettingsError(
                f"HOTLOOP_FD = {settings.fd} listens on {place}, which is not loopback: as long as "
                "HOTLOOP_API_KEYS is empty and HOTLOOP_JWT_KEY is not set, everybody who reaches "
                "it could use the service. `hotloop key NAME` makes a key"
            )
        return listener
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise SettingsError(
            f"HOTLOOP_HOST and HOTLOOP_PORT: cannot listen on {settings.host} port {settings.port} "
            f"({error.strerror or error}); end what listens there, or choose another port"
        ) from error
    return listener


def _inherited(descriptor: int) -> socket.socket:
    """A duplicate, so that whoever closes it leaves the descriptor as it was."""
    try:
        listener = socket.socket(fileno=os.dup(descriptor))
        listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        reason = error.strerror or error
        raise SettingsError(
            f"HOTLOOP_FD = {descriptor} is no socket of this process ({reason}); it is to be "
            "inherited, as systemd's socket units pass theirs, the first as 3. Unset it to listen "
            "on HOTLOOP_HOST and HOTLOOP_PORT."
        ) from error
    if not listens:
        listener.close()
        raise SettingsError(f"HOTLOOP_FD = {descriptor} is a socket that does not listen")
    return listener


def _is_local(listener: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        return True
    return is_loopback(listener.getsockname()[0])


def address_of(listener: socket.socket) -> str:
    """As a URL, or the path of a Unix socket."""
    name = listener.getsockname()
    if listener.family == socket.AF_INET6:
        return f"http://[{name[0]}]:{name[1]}"
    return f"http://{name[0]}:{name[1]}" if listener.family == socket.AF_INET else f"unix:{name}"
