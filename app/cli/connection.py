"""Whom a command asks: a running service, or one of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hotloop.app.cli.screen import Screen
    from hotloop.app.cli.service_client import ServiceClient
    from hotloop.app.settings.settings import Settings

_TIMEOUT_SECONDS: Final = 120.0
"""Of an answer, or of the next piece of one: an idle stream of events has one every 15 s."""


@dataclass(frozen=True, slots=True)
class Target:
    """What the options of a command name."""

    url: str | None
    api_key: str | None
    data_dir: Path | None


@contextmanager
def connected(
    target: Target, screen: Screen, *, only_asks: bool = False
) -> Iterator[ServiceClient]:
    """To run something: the named service; or one of this process, with its tasks in `data_dir` or
    in a folder that is gone at the end.

    A command that `only_asks`, and has nothing executed, may use the configured folder, if that is
    there.
    """
    if target.url is not None:
        with _remote(target) as client:
            yield client
        return

    def settings(folders: ExitStack) -> Settings:
        from hotloop.app.cli import own_service

        data_dir = target.data_dir
        if data_dir is None and only_asks:
            data_dir = own_service.configured_folder()
        folder = folders.enter_context(own_service.data_folder(data_dir))
        return own_service.settings_of_one_command(folder, executes=not only_asks)

    with _own(settings, screen, is_awaited=True) as client:
        yield client


@contextmanager
def connected_to_keep(target: Target, screen: Screen) -> Iterator[ServiceClient]:
    """Connect to the service that keeps something in the data folder: the named one, or one of
    this process that uses `data_dir`, else the configured folder, which is made if it is missing.
    """
    if target.url is not None:
        with _remote(target) as client:
            yield client
        return

    def settings(_: ExitStack) -> Settings:
        from hotloop.app.cli import own_service

        folder = target.data_dir or own_service.configured_path()
        return own_service.settings_of_one_command(folder, executes=False)

    with _own(settings, screen, is_awaited=True) as client:
        yield client


@contextmanager
def connected_to_store(
    target: Target, screen: Screen, *, executes: bool = False
) -> Iterator[ServiceClient]:
    """To look at tasks: the named service; or the store in `data_dir`, else the configured one.
    This process takes work from there only if it `executes`.
    """
    if target.url is not None:
        with _remote(target) as client:
            yield client
        return

    def settings(_: ExitStack) -> Settings:
        from hotloop.app.cli import own_service

        return own_service.settings_of_the_store(target.data_dir, executes)

    with _own(settings, screen, is_awaited=executes) as client:
        yield client


@contextmanager
def _remote(target: Target) -> Iterator[ServiceClient]:
    import httpx

    from hotloop.app.cli.exits import CommandError
    from hotloop.app.cli.service_client import ServiceClient

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
def _own(
    settings_of: Callable[[ExitStack], Settings], screen: Screen, *, is_awaited: bool
) -> Iterator[ServiceClient]:
    """A service of this process, warm if `is_awaited`. Importing it and starting it take seconds,
    as does ending it: the screen says so.
    """
    with ExitStack() as stack:
        with screen.waiting("starting a service of this command's own", is_long=is_awaited) as say:
            from hotloop.app.cli.own_service import own_service
            from hotloop.app.cli.service_client import ServiceClient

            http = stack.enter_context(own_service(settings_of(stack)))
            client = ServiceClient(http)
            if is_awaited:
                say("waiting until the kernels of this command's own service are warm")
                client.wait_ready()
        try:
            yield client
        finally:
            with screen.waiting("ending the service of this command"):
                stack.close()
