"""`python -m hotloop.app.strategies.cluster.driver SOCKET_FD CONFIG`: the client of a cluster.

Only a run host starts it. It ends with the run host, or when the cluster is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import traceback
from typing import Final

from hotloop.app.frames import STREAM_LIMIT, read_frame, write_frame
from hotloop.app.names import LOCAL_CLUSTER
from hotloop.app.strategies.cluster.engine import Engine, LostError, ParcelError
from hotloop.app.strategies.cluster.protocol import (
    CONNECT_SECONDS,
    PING_SECONDS,
    Alive,
    ClusterConfig,
    Compute,
    Computed,
    Lost,
    Prepare,
    Prepared,
    Stop,
    Stopped,
)
from hotloop.app.system import end_with_starter

_CLOSE_SECONDS: Final = 5.0


class Driver:
    """Obeys a run host, over a pair of streams."""

    def __init__(
        self, engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._engine = engine
        self._reader = reader
        self._writer = writer
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def serve(self) -> None:
        """Connect and obey until the run host closes the stream or the cluster is lost."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                workers = await self._engine.open()
        except (LostError, TimeoutError) as error:
            await self._tell_lost(str(error) or f"it did not answer for {CONNECT_SECONDS:g} s")
            return
        await self._send(Alive(workers))
        running = [asyncio.create_task(self._ping()), asyncio.create_task(self._read())]
        await asyncio.wait({*running, self._lost}, return_when=asyncio.FIRST_COMPLETED)
        for task in (*running, *self._tasks):
            task.cancel()
        if self._lost.done():
            await self._tell_lost(str(self._lost.exception()))
            return
        with contextlib.suppress(LostError, TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._engine.close()

    async def _tell_lost(self, text: str) -> None:
        with contextlib.suppress(ConnectionError):
            await self._send(Lost(text))

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            try:
                workers = await self._engine.ping()
            except LostError as error:
                self._lose(error)
                return
            await self._send(Alive(workers))

    def _lose(self, error: LostError) -> None:
        if not self._lost.done():
            self._lost.set_exception(error)

    async def _read(self) -> None:
        while True:
            try:
                message = await read_frame(self._reader)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            task = asyncio.create_task(self._obey(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _obey(self, message: Prepare | Compute | Stop) -> None:
        try:
            if isinstance(message, Prepare):
                await self._send(Prepared(await self._engine.prepare(message.payload)))
            elif isinstance(message, Stop):
                await self._engine.stop(message.run, message.parcels)
                await self._send(Stopped(message.run))
            else:
                await self._send(await self._computed(message))
        except LostError as error:
            self._lose(error)
        except Exception as fault:  # of this program, or of the engine: do not leave it waiting
            traceback.print_exc()
            self._lose(LostError(f"its driver met a fault ({type(fault).__name__}: {fault})"))

    async def _computed(self, message: Compute) -> Computed:
        try:
            return Computed(
                message.parcel, await self._engine.compute(message.parcel, message.payload)
            )
        except ParcelError as error:
            return Computed(message.parcel, None, error.fate, error.text)

    async def _send(self, message: object) -> None:
        await write_frame(self._writer, message)


def _ray_environment(config: ClusterConfig) -> dict[str, str]:
    """Return the variables that Ray reads when it is imported."""
    found = {"RAY_USAGE_STATS_ENABLED": "0"}
    if config.address == LOCAL_CLUSTER:
        # Its ports are open to the network, whatever address it is given: only this process and its
        # children know the token.
        found |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    elif config.tls is not None:
        found |= {
            "RAY_USE_TLS": "1",
            "RAY_TLS_SERVER_CERT": config.tls.cert,
            "RAY_TLS_SERVER_KEY": config.tls.key,
            "RAY_TLS_CA_CERT": config.tls.ca,
        }
    return found


def make_engine(config: ClusterConfig) -> Engine:
    """Make the client of an engine, and import it. Raises LostError if it is not installed."""
    try:
        if config.engine == "dask":
            from hotloop.app.strategies.cluster.dask_engine import DaskEngine

            return DaskEngine(config)
        os.environ |= _ray_environment(config)
        from hotloop.app.strategies.cluster.ray_engine import RayEngine

        return RayEngine(config)
    except ImportError as error:
        raise LostError(
            f"{config.engine} cannot be imported ({error}); install `hotloop[{config.engine}]`"
        ) from error


async def _serve(connection: socket.socket, config: ClusterConfig) -> None:
    reader, writer = await asyncio.open_connection(sock=connection, limit=STREAM_LIMIT)
    try:
        engine = make_engine(config)
    except LostError as error:
        await write_frame(writer, Lost(str(error)))
        return
    await Driver(engine, reader, writer).serve()
    await writer.drain()


def main() -> None:
    end_with_starter()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=int(sys.argv[1]))
    config = ClusterConfig.from_dict(json.loads(sys.argv[2]))
    asyncio.run(_serve(connection, config))
    # Threads of an engine may wait for their cluster for ever.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
