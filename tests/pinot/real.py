"""A real Apache Pinot: ZooKeeper, controller, broker and servers, each a process, on free ports.

Every process listens on 127.0.0.1 only, except for the port on which a server takes a broker's
queries: Pinot has no setting for its address.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from benchmarks.items import flights_csv
from tests.fixtures.waiting import wait_until

HERE = Path(__file__).resolve().parent
CLUSTER = "hotloop"
TABLE = "flights"
CARRIERS = ("AA", "DL", "UA", "WN")
START_SECONDS = 60.0
"""More than a start takes on a busy machine."""

OPENED = (
    "java.lang",
    "java.lang.reflect",
    "java.nio",
    "java.util",
    "jdk.internal.misc",
    "sun.nio.ch",
)
JAVA = (
    "java",
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED),
    # A process that lives for seconds gains nothing from the better compiler.
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-Xmx512m",
    # A process that was killed is missed after six seconds and not after thirty.
    "-Dzk.session.timeout=6000",
    f"-Dlog4j2.configurationFile={HERE / 'log4j2.xml'}",
)

SCHEMA = {
    "schemaName": TABLE,
    "dimensionFieldSpecs": [
        {"name": "item_id", "dataType": "LONG"},
        {"name": "offset", "dataType": "INT"},
        {"name": "carrier", "dataType": "STRING"},
    ],
    "metricFieldSpecs": [{"name": "value", "dataType": "DOUBLE"}],
}


class Flight(NamedTuple):
    """A row of the table."""

    item_id: int
    value: float
    offset: int
    carrier: str


def flights(count: int) -> list[Flight]:
    """The rows of the table, by item id: those of the benchmarks, with a carrier."""
    _, *lines = flights_csv(count).decode().splitlines()
    rows = (line.split(",") for line in lines)
    return [
        Flight(int(item), float(value), int(offset), CARRIERS[int(item) % len(CARRIERS)])
        for item, value, offset in rows
    ]


class Process:
    """A process of the cluster; it can be killed and restarted."""

    def __init__(
        self, name: str, role: str, jars: Path, folder: Path, options: Mapping[str, object]
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._folder = folder
        file = folder / f"{name}.properties"
        file.write_text("".join(f"{key}={value}\n" for key, value in options.items()))
        self._command = [
            *JAVA,
            f"-Djava.io.tmpdir={folder}",
            "-cp",
            # Sorted, so that the same class is found first everywhere.
            ":".join(map(str, sorted(jars.glob("*.jar")))),
            "groovy.ui.GroovyMain",
            str(HERE / "start.groovy"),
            role,
            str(file),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start in a new process group, safe from Ctrl-C; it ends when the pipe to it closes."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The process stays alive but silent. After six seconds the cluster declares it dead."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


class Pinot:
    """A running cluster; `query` asks its broker."""

    def __init__(self, jars: Path, folder: Path, servers: int) -> None:
        zookeeper, controller, broker, *ports = _free_ports(3 + 2 * servers)
        keeper = f"127.0.0.1:{zookeeper}"
        self.controller_url = f"http://127.0.0.1:{controller}"
        self.broker_url = f"http://127.0.0.1:{broker}"
        self.client = httpx.Client(timeout=60)
        self.rows = 0
        """The number of segments of the table."""
        self.zookeeper = Process(
            "zookeeper",
            "zookeeper",
            jars,
            folder,
            {
                "clientPort": zookeeper,
                "clientPortAddress": "127.0.0.1",
                "dataDir": folder / "zookeeper",
                "tickTime": 1_000,
                "maxClientCnxns": 0,
                "admin.enableServer": "false",
            },
        )
        self.controller = Process(
            "controller",
            "controller",
            jars,
            folder,
            {
                "controller.helix.cluster.name": CLUSTER,
                "controller.zk.str": keeper,
                "controller.host": "127.0.0.1",
                "controller.port": controller,
                "controller.data.dir": folder / "controller",
                **_http("controller", controller),
            },
        )
        self.broker = Process(
            "broker",
            "broker",
            jars,
            folder,
            {
                "pinot.cluster.name": CLUSTER,
                "pinot.zk.server": keeper,
                "pinot.broker.hostname": "127.0.0.1",
                "pinot.broker.client.queryPort": broker,
                **_http("pinot.broker.client", broker),
            },
        )
        self.servers = [
            Process(
                f"server-{number}",
                "server",
                jars,
                folder,
                {
                    "pinot.cluster.name": CLUSTER,
                    "pinot.zk.server": keeper,
                    "pinot.server.netty.host": "127.0.0.1",
                    "pinot.server.netty.port": ports[2 * number],
                    "pinot.server.grpc.enable": "false",
                    "pinot.server.adminapi.port": ports[2 * number + 1],
                    **_http("pinot.server.adminapi", ports[2 * number + 1]),
                    "pinot.server.instance.dataDir": folder / f"server-{number}" / "data",
                    "pinot.server.instance.segmentTarDir": folder / f"server-{number}" / "tar",
                },
            )
            for number in range(servers)
        ]
        self._server_urls = [f"http://127.0.0.1:{port}" for port in ports[1::2]]

    @property
    def processes(self) -> list[Process]:
        return [self.zookeeper, self.controller, self.broker, *self.servers]

    def query(
        self, sql: str, headers: Mapping[str, str] | None = None, **body: Any
    ) -> httpx.Response:
        return self.client.post(
            f"{self.broker_url}/query/sql", json={"sql": sql} | body, headers=headers
        )

    def start(self) -> None:
        """Return when every process is healthy."""
        self.zookeeper.start()
        self.controller.start()
        self._wait_for(self.controller, self.controller_url)
        # The others end where there is no cluster yet: the controller makes it.
        for process in (self.broker, *self.servers):
            process.start()
        self._wait_for(self.broker, self.broker_url)
        for server, url in zip(self.servers, self._server_urls, strict=True):
            self._wait_for(server, url)

    def create_table(self, name: str, schema: Mapping[str, object]) -> None:
        self._must(self.client.post(f"{self.controller_url}/schemas", json=schema))
        table = {
            "tableName": name,
            "tableType": "OFFLINE",
            "segmentsConfig": {"schemaName": name, "replication": "1"},
            "tenants": {},
            "tableIndexConfig": {"loadMode": "MMAP"},
            "metadata": {},
        }
        self._must(self.client.post(f"{self.controller_url}/tables", json=table))

    def ingest(self, table: str, content: str) -> None:
        """Add the rows of a CSV text as one segment; it is not yet loaded on return."""
        self._must(
            self.client.post(
                f"{self.controller_url}/ingestFromFile",
                params={
                    "tableNameWithType": f"{table}_OFFLINE",
                    "batchConfigMapStr": json.dumps({"inputFormat": "csv"}),
                },
                files={"file": ("rows.csv", content.encode())},
            )
        )

    def load_flights(self, count: int) -> None:
        """The table and its rows, in as many segments as there are servers, one on each."""
        self.create_table(TABLE, SCHEMA)
        rows = flights(count)
        parts = len(self.servers)
        for part in range(parts):
            lines = (",".join(map(str, row)) for row in rows[part::parts])
            self.ingest(TABLE, "\n".join([",".join(Flight._fields), *lines, ""]))
        self.rows = count
        self.wait_until_whole()

    def count(self, table: str) -> int:
        """The number of rows that the broker finds; 0 until it finds all segments."""
        answer = self.query(f"SELECT COUNT(*) FROM {table}").json()
        if answer["exceptions"] or "resultTable" not in answer:
            return 0
        return int(answer["resultTable"]["rows"][0][0])

    def wait_until_whole(self) -> None:
        wait_until(
            lambda: self.count(TABLE) == self.rows,
            f"{self.rows:,} flights are found",
            START_SECONDS,
            0.05,
        )

    def restart_broker(self) -> None:
        """Kill the broker, start it again on the same port, and wait for all flights."""
        self.broker.kill()
        self.broker.start()
        self._wait_for(self.broker, self.broker_url)
        self.wait_until_whole()

    def kill(self) -> None:
        """End every process, at once."""
        for process in reversed(self.processes):
            process.kill()

    def _must(self, response: httpx.Response) -> None:
        assert response.is_success, response.text

    def _wait_for(self, process: Process, url: str) -> None:
        def healthy() -> bool:
            assert process.alive, f"{process.name} has ended"
            try:
                return self.client.get(f"{url}/health").text == "OK"
            except httpx.TransportError:
                return False

        wait_until(healthy, f"{process.name} is healthy", START_SECONDS, 0.05)


@contextmanager
def running_pinot(jars: Path, servers: int = 1, rows: int = 50_000) -> Iterator[Pinot]:
    """A cluster with the table `flights`; `jars` is the folder that `fetch.sh` filled."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hotloop-pinot-")))
        pinot = Pinot(jars, folder, servers)
        stack.callback(pinot.client.close)
        stack.callback(pinot.kill)
        try:
            pinot.start()
            pinot.load_flights(rows)
        except BaseException as error:
            for process in pinot.processes:
                if process.log.exists():
                    error.add_note(f"{process.log.name}: {process.log.read_text()[-2_000:]}")
            raise
        yield pinot


def _http(prefix: str, port: int) -> dict[str, object]:
    """An HTTP listener on the loopback address."""
    return {
        f"{prefix}.access.protocols": "http",
        f"{prefix}.access.protocols.http.host": "127.0.0.1",
        f"{prefix}.access.protocols.http.port": port,
    }


def _free_ports(count: int) -> list[int]:
    """Different ports without a listening process."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
