"""The service that a command asks: a running one, or one of the command's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hotloop.app.cli.exits import CommandError, Stopped, StopSignals, print_error
from hotloop.app.cli.screen import Screen, progress_line

if TYPE_CHECKING:
    from hotloop.app.cli.service_client import ServiceClient

_TIMEOUT_SECONDS: Final = 120.0
"""The longest wait for an answer, or for its next piece: an idle stream of events sends one every
15 s.
"""


class Purpose(Enum):
    """The reason for a service of its own, which decides where its store is and if it executes."""

    WORK = auto()
    """Execute something, with its tasks in `--data-dir` or in a folder that is gone at the end."""
    ASK = auto()
    """Execute nothing. The data folder is `--data-dir`, else the configured one if it is there,
    else one that is gone at the end."""
    KEEP = auto()
    """Keep something in `--data-dir`, else in the configured folder, made if it is missing."""
    LOOK = auto()
    """Look at the tasks of the store in `--data-dir`, else of the configured store."""
    RESUME = auto()
    """Execute tasks of that store."""


@dataclass(frozen=True, slots=True)
class Target:
    """The service or the folder that the options of a command name."""

    url: str | None
    api_key: str | None
    data_dir: Path | None


@contextmanager
def connected(
    target: Target, screen: Screen, purpose: Purpose = Purpose.WORK
) -> Iterator[ServiceClient]:
    """A client of the named service, or else of a service inside this process, which is warm unless
    the command only looks at its store. The screen says so while such a service is imported,
    started and ended, as each takes seconds.
    """
    if target.url is not None:
        with _remote(target, target.url) as client:
            yield client
        return
    is_awaited = purpose is not Purpose.LOOK
    with ExitStack() as stack:
        with screen.waiting("starting a service of this command's own", is_long=is_awaited) as say:
            from hotloop.app.cli import own_service
            from hotloop.app.cli.service_client import ServiceClient

            executes = purpose in (Purpose.WORK, Purpose.RESUME)
            if purpose in (Purpose.LOOK, Purpose.RESUME):
                settings = own_service.settings_of_the_store(target.data_dir, executes)
            else:
                settings = own_service.settings_of_one_command(
                    target.data_dir, stack, executes=executes, keeps=purpose is Purpose.KEEP
                )
            client = ServiceClient(stack.enter_context(own_service.own_service(settings)))
            if is_awaited:
                say("waiting until the kernels of this command's own service are warm")
                client.wait_ready()
        try:
            yield client
        finally:
            with screen.waiting("ending the service of this command"):
                stack.close()


@contextmanager
def _remote(target: Target, url: str) -> Iterator[ServiceClient]:
    import httpx

    from hotloop.app.cli.service_client import ServiceClient

    if target.data_dir is not None:
        raise CommandError("--data-dir is for commands without --url; leave one of the two out")
    headers = {} if target.api_key is None else {"X-API-Key": target.api_key}
    timeout = httpx.Timeout(_TIMEOUT_SECONDS, connect=10.0)
    try:
        http = httpx.Client(base_url=url, headers=headers, timeout=timeout)
    except (httpx.InvalidURL, UnicodeEncodeError) as error:
        raise CommandError(f"--url or --api-key cannot be sent: {error}") from error
    with http:
        yield ServiceClient(http)


@contextmanager
def cancelled_when_stopped(
    client: ServiceClient, task_id: str, signals: StopSignals, screen: Screen
) -> Iterator[None]:
    """Cancel the task when a signal ends the block; a second signal leaves at once."""
    try:
        yield
    except Stopped:
        print_error(f"cancelling {task_id} …")
        with screen.waiting("cancelling"):
            view = client.call("DELETE", f"/{task_id}")
        print_error(progress_line(view))
        raise


def watch(
    client: ServiceClient, task_id: str, screen: Screen, unit: str = "items"
) -> dict[str, Any]:
    """Show a task's progress until it has ended; return the service's view of it."""
    with screen.progress(unit) as show:
        for progress in client.progress(task_id):
            show(progress)
    with screen.waiting("fetching the result"):
        view: dict[str, Any] = client.call("GET", f"/status/{task_id}")
    return view
