"""Whom a command asks: a running service, or one of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from app.cli.service_client import ServiceClient

_TIMEOUT_SECONDS: Final = 120.0
"""Of an answer, or of the next piece of one: an idle stream of events has one every 15 s."""


@dataclass(frozen=True, slots=True)
class Target:
    """What the options of a command name."""

    url: str | None
    api_key: str | None
    data_dir: Path | None


@contextmanager
def connected(target: Target, *, only_asks: bool = False) -> Iterator[ServiceClient]:
    """To run something: the named service; or one of this process, with its tasks in `data_dir` or
    in a folder that is gone at the end.

    Who `only_asks`, and has nothing executed, may use the configured folder, if that is there.
    """
    if target.url is not None:
        with _remote(target) as client:
            yield client
        return
    from app.cli import own_service

    data_dir = target.data_dir
    if data_dir is None and only_asks:
        data_dir = own_service.configured_folder()
    with (
        own_service.data_folder(data_dir) as folder,
        _own(own_service.settings_of_one_command(folder, executes=not only_asks)) as client,
    ):
        client.wait_ready()
        yield client


@contextmanager
def connected_to_store(target: Target, *, executes: bool = False) -> Iterator[ServiceClient]:
    """To look at tasks: the named service; or the store in `data_dir`, else the configured one.
    This process takes work from there only if it `executes`.
    """
    if target.url is not None:
        with _remote(target) as client:
            yield client
        return
    from app.cli import own_service

    with _own(own_service.settings_of_the_store(target.data_dir, executes)) as client:
        yield client


@contextmanager
def _remote(target: Target) -> Iterator[ServiceClient]:
    import httpx

    from app.cli.exits import CommandError
    from app.cli.service_client import ServiceClient

    if target.data_dir is not None:
        raise CommandError("--data-dir is for commands without --url; leave one of the two out")
    headers = {} if target.api_key is None else {"X-API-Key": target.api_key}
    timeout = httpx.Timeout(_TIMEOUT_SECONDS, connect=10.0)
    try:
        http = httpx.Client(base_url=target.url or "", headers=headers, timeout=timeout)
    except (httpx.InvalidURL, UnicodeEncodeError) as error:
        raise CommandError(f"--url or --api-key cannot be sent: {error}") from error
    with http:
        yield ServiceClient(http)


@contextmanager
def _own(settings: object) -> Iterator[ServiceClient]:
    from app.cli.own_service import own_service
    from app.cli.service_client import ServiceClient
    from app.settings import Settings

    assert isinstance(settings, Settings)
    with own_service(settings) as http:
        yield ServiceClient(http)
