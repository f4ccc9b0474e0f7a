"""The service inside this process, for one command: no port, nothing left when it ends."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import uvicorn

from hotloop.app.cli.exits import CommandError, NoStoreError, UnreachableError
from hotloop.app.errors import StoreUnavailableError
from hotloop.app.factory import create_app
from hotloop.app.logs.setup import LogLevel, set_up_logging
from hotloop.app.serving.node import check_machine
from hotloop.app.serving.server import Server
from hotloop.app.settings.environment import load_settings
from hotloop.app.settings.settings import Settings, SettingsError
from hotloop.app.wiring import open_services

_OPEN: Final[dict[str, Any]] = {
    "host": "127.0.0.1",
    "api_keys": (),
    "rate_limit": None,
    **dict.fromkeys(("jwt_key", "jwt_algorithm", "jwt_audience", "jwt_issuer")),
}
"""No keys: only this user can reach the service, and only this command knows of it."""

_MAX_SOCKET_PATH: Final = 90
"""Characters; systems allow little more than 100."""


def settings_of_one_command(
    data_dir: Path | None, folders: ExitStack, *, executes: bool, keeps: bool
) -> Settings:
    """Settings for a store that only this command uses. It lies in `data_dir`; without one, a
    command that executes nothing uses the configured folder if it is there or the command `keeps`
    something in it. Otherwise it lies in a folder that `folders` removes.
    """
    if data_dir is None and not executes:
        configured = _loaded().data_dir
        data_dir = configured if keeps or configured.is_dir() else None
    if data_dir is None:
        made = tempfile.TemporaryDirectory(prefix="hotloop-data-", ignore_cleanup_errors=True)
        data_dir = Path(folders.enter_context(made))
    own: dict[str, Any] = {"database_url": None, "run_hosts": 1, "background_runs": int(executes)}
    if executes:
        own["queue_poll_seconds"] = 0.05  # only this command's own task waits
    return _checked(_loaded(data_dir=data_dir, **own))


def settings_of_the_store(data_dir: Path | None, executes: bool) -> Settings:
    """Settings for the configured store, or the one in `data_dir`, which other processes may use.
    Raises NoStoreError if there is none.
    """
    own: dict[str, Any] = {"run_hosts": 1, "background_runs": int(executes)}
    own["store_wait_seconds"] = 0
    if data_dir is not None:
        own |= {"data_dir": data_dir, "database_url": None}
    settings = _loaded(**own)
    if settings.database_url is None and not any(settings.data_dir.glob("*.sqlite3")):
        raise NoStoreError(
            f"No tasks are kept in {settings.data_dir}. Name the folder of a service's tasks with "
            "--data-dir or HOTLOOP_DATA_DIR, or a running service with --url."
        )
    return _checked(settings)


def _loaded(**arguments: Any) -> Settings:
    try:
        return load_settings(**_OPEN, **arguments)
    except SettingsError as error:
        raise CommandError(str(error)) from error


def _checked(settings: Settings) -> Settings:
    try:
        check_machine(settings)
    except SettingsError as error:
        raise CommandError(str(error)) from error
    except StoreUnavailableError as error:
        raise UnreachableError(str(error)) from error
    return settings


@contextmanager
def own_service(settings: Settings) -> Iterator[httpx.Client]:
    """A client of a service that runs in a thread of this process while the block lasts.

    The service listens on a socket in a folder that only this user can open. Its run hosts end with
    it, and with this process, even when that is killed. It starts no calibration by itself, as that
    would end with it. Its log goes to stderr, with warnings only unless the settings say otherwise.
    """
    if "log_level" not in settings.model_fields_set:
        settings = settings.model_copy(update={"log_level": LogLevel.WARNING})
    set_up_logging(settings.log_options, "command", settings.secrets())
    with _socket_folder() as folder:
        path = str(folder / "service")
        app = create_app(settings, partial(open_services, calibrates_unasked=False))
        config = uvicorn.Config(
            app,
            uds=path,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        server = Server(app, config)
        failure: list[BaseException] = []
        thread = threading.Thread(target=_serve, args=(server, failure), name="service")
        # The process does not wait for it when a second signal ends the program at once.
        thread.daemon = True
        thread.start()
        try:
            while not server.started and thread.is_alive():
                thread.join(0.01)
            if not server.started:
                raise UnreachableError(f"the service of this command does not start: {failure}")
            transport = httpx.HTTPTransport(uds=path)
            # Answers contain curl commands: for a service that listens as the settings say, which
            # this one does not.
            address = f"http://localhost:{settings.port or 8001}"
            with httpx.Client(
                transport=transport, base_url=address, timeout=None, trust_env=False
            ) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


def _serve(server: Server, failure: list[BaseException]) -> None:
    try:
        server.run()
    except BaseException as error:  # the main thread reports it
        failure.append(error)


@contextmanager
def _socket_folder() -> Iterator[Path]:
    place = None if len(tempfile.gettempdir()) <= _MAX_SOCKET_PATH - 30 else "/tmp"
    with tempfile.TemporaryDirectory(prefix="hotloop-", dir=place) as folder:
        yield Path(folder)
