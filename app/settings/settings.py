"""All settings of the service. `hotloop.app.settings.environment` reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from hotloop.app.logs.setup import LogFormat, LogLevel, LogOptions
from hotloop.app.names import (
    CLUSTERS,
    ITEM_ID,
    Durability,
    InstructionSet,
    JwtAlgorithm,
    LongRuns,
    RedisLayout,
    Scope,
    StrategyName,
)
from hotloop.app.settings import cluster_rules, rules
from hotloop.app.settings.rules import PREFIX, refuse
from hotloop.app.settings.source_maps import (
    ColumnDefaults,
    ColumnMap,
    PinotIdColumn,
    PinotSql,
    RedisKey,
    SourceMap,
    check_redis_columns,
    pinot_columns_of,
    pinot_sql_of,
    redis_columns_of,
)
from hotloop.app.wording import echo
from hotloop.kernels import declared_workloads

_MIB: Final = 1024 * 1024


_DEFAULT: Final = declared_workloads()[0]


class SettingsError(Exception):
    """Settings that the service cannot start with; the text has a line for each fault."""


class ApiKeyEntry(BaseModel):
    """A key in HOTLOOP_API_KEYS, as `hotloop key NAME` prints it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]*$")
    hash: str
    scopes: frozenset[Scope] = Field(min_length=1)

    _hash = field_validator("hash", mode="before")(rules.key_digest)


class Settings(BaseSettings):
    """The settings: from arguments, else from the environment (`HOTLOOP_` + name), else defaults.

    The text below a setting is its description in docs/settings.md and in messages.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    # Serving: addresses, processes, the store.

    host: str = Field(default="127.0.0.1", min_length=1, max_length=255)
    """Address the server listens on. Without keys and without a JWT key it must be a loopback
    address."""
    port: int = Field(default=8001, ge=0, le=65_535)
    """TCP port the server listens on; 0 takes a free one."""
    fd: int | None = Field(default=None, ge=0, le=1_048_576)
    """File descriptor of an inherited socket that already listens, used instead of host and port.
    systemd's socket units pass the first one as 3."""
    node_port: int | None = Field(default=None, ge=0, le=65_535)
    """TCP port, on `HOTLOOP_HOST`, on which `hotloop node` answers `/health`, `/health/ready` and
    `/metrics`, under the same rules as the server; 0 takes a free one. When not set, a node answers
    no requests."""
    api_processes: int = Field(default=1, ge=1, le=64)
    """Processes that answer requests on the one port. Each has its own run hosts and executes its
    own background tasks."""
    data_dir: Path = Path("data")
    """Folder of the task store, results and uploads, created if missing. A relative path counts
    from the working directory."""
    database_url: SecretStr | None = None
    """PostgreSQL database of the task store, `postgresql://user:password@host:5432/name`, for more
    than one machine. When not set, an SQLite file in the data folder."""
    durability: Durability = Durability.POWER
    """Worst event that an answer survives: `power` waits until the disk has what it tells, so that
    not even a power cut loses it; `process` waits less, and a power cut may lose the last
    moments."""
    store_wait_seconds: float = Field(default=60.0, ge=0, le=3_600)
    """Seconds that a process waits at its start for a task store that cannot be reached; then it
    ends with status 3."""
    node_id: str | None = Field(default=None, min_length=1, max_length=64)
    """Name of this machine among those that share a database. When not set, the host name."""

    # Own workloads.

    workloads: Annotated[tuple[str, ...], NoDecode] = Field(default=(), max_length=1_000)
    """Own workloads, parted by commas: `module:function`, `module`, `file.py:function` or
    `file.py`; without a function, all of a module. Installed packages offer theirs by themselves,
    as entry points of the group `hotloop.workloads`."""
    workloads_dir: Path | None = None
    """Folder in which the modules and files of own workloads are looked for. When not set, modules
    must be installed or on PYTHONPATH, and files are looked for from the working directory."""
    reload: bool = False
    """True: own workloads are loaded anew when one of their files changes, for development."""

    # Runs and background tasks.

    run_hosts: int = Field(default=2, ge=1, le=16)
    """Processes that execute runs, each of them one run at a time. They are kept warm."""
    queue_limit: int = Field(default=16, ge=0, le=10_000)
    """Runs that may wait for a free run host; the next one is answered with 503."""
    sync_limit_seconds: float = Field(default=300.0, ge=0.1, le=86_400)
    """Highest estimate, in seconds, of a synchronous run. `HOTLOOP_LONG_RUNS` says what happens to
    a longer run."""
    long_runs: LongRuns = LongRuns.BACKGROUND
    """Answer to a synchronous run whose estimate is above the limit: `background` accepts it as a
    background task (202), `refuse` answers 422."""
    cancel_grace_seconds: float = Field(default=2.0, ge=0, le=60)
    """Seconds that a cancelled run may take to stop before its run host is killed."""
    shutdown_seconds: float = Field(default=10.0, ge=0, le=3_600)
    """Seconds that requests in progress get to finish when the server stops; at least
    `HOTLOOP_CANCEL_GRACE_SECONDS`."""
    drain_seconds: float = Field(default=0.0, ge=0, le=3_600)
    """Seconds that the server goes on answering after it was told to stop. It is no longer ready
    then, so that a load balancer sends requests elsewhere."""
    max_worker_threads: int = Field(default=256, ge=1, le=1_024)
    """Most threads that a run may use, whatever it asks for."""
    max_worker_processes: int | None = Field(default=None, ge=1, le=1_024)
    """Most processes that a run may use, whatever it asks for. When not set, four for each usable
    CPU."""
    memory_budget_bytes: int | None = Field(
        default=None, ge=256 * _MIB, le=1_024 * 1_024 * 1_024 * _MIB
    )
    """Bytes of memory that all runs together may need. Each run host has an equal part, and a run
    whose estimate is above that part is refused. When not set, 80 % of the memory of the machine or
    the container."""
    background_runs: int = Field(default=1, ge=0, le=16)
    """Background runs that this process executes at the same time, each on a run host. With 0 it
    only accepts tasks, and nodes execute them."""
    background_runs_in_all: int | None = Field(default=None, ge=1, le=10_000)
    """Background runs that all nodes together execute at the same time; unlimited when not set."""
    queue_poll_seconds: float = Field(default=0.25, ge=0.05, le=60)
    """Seconds between two queries of a process for background work that other processes have
    accepted or handed over. Work that it accepts itself begins at once."""
    stuck_shard_seconds: float = Field(default=60.0, ge=0, le=86_400)
    """Seconds without any progress after which an idle node takes over a shard of a living node;
    twice the predicted time of a batch if that is longer, and twice as long with each attempt that
    makes no progress. With 0 only the shards of dead nodes are taken over."""
    shard_items: int = Field(default=250_000, ge=1_000, le=1_000_000_000)
    """Items of a shard: a larger background task is cut into shards, so that nodes share it. Only
    with PostgreSQL."""
    retention_hours: float = Field(default=168.0, ge=0.01, le=876_000)
    """Hours that a finished task is kept, with its results."""
    pool_idle_seconds: float = Field(default=300.0, ge=0, le=86_400)
    """Seconds that an unused pool of workers is kept warm."""
    instruction_set: InstructionSet | None = None
    """Instruction set of kernels that have several, for tests and comparisons. When not set, the
    best one of the machine. The results are the same."""

    # Clusters.

    ray_address: str | None = Field(default=None, max_length=255)
    """Ray cluster of the strategy `ray`: `host:6379` of its head, on a machine that is a node of
    it; `ray://host:10001` from any other machine; or `local`, which starts one here for a try. It
    needs the extra `ray`. When not set, there is no such strategy."""
    dask_address: str | None = Field(default=None, max_length=255)
    """Dask cluster of the strategy `dask`: `tls://host:8786` or `tcp://host:8786` of its scheduler,
    or `local`, which starts one here for a try. It needs the extra `dask`. When not set, there is
    no such strategy."""
    cluster_tls_cert: Path | None = None
    """Certificate that the service shows to a cluster: a file in PEM format. Certificate, key and
    authority are set together."""
    cluster_tls_key: Path | None = None
    """Key of that certificate: a file in PEM format."""
    cluster_tls_ca: Path | None = None
    """Authority that has signed the certificates of clusters: a file in PEM format."""
    cluster_plaintext: bool = False
    """True: clusters on other machines may be used without TLS, over a network that nobody else can
    reach. Both engines execute the code that they are sent."""

    # The log and traces.

    log_format: LogFormat = LogFormat.CONSOLE
    """Form of a log line: `console` for people, `json` for machines."""
    log_level: LogLevel = LogLevel.INFO
    """Lowest level that is logged."""
    traces_url: str | None = Field(default=None, max_length=2_048)
    """OpenTelemetry collector that spans are sent to by OTLP over HTTP,
    `http://host:4318/v1/traces`. It needs the extra `otel`. When not set, no spans are made."""

    # Limits of one request.

    max_body_bytes: int = Field(default=16 * _MIB, ge=1_024, le=1_024 * _MIB)
    """Bytes of the largest request body. Uploads have a limit of their own."""
    max_upload_bytes: int = Field(default=1_024 * _MIB, ge=1_024, le=1_024 * 1_024 * _MIB)
    """Bytes of the largest upload, and of the items that an Arrow or Parquet upload unpacks to."""
    max_upload_rows: int = Field(default=10_000_000, ge=1, le=1_000_000_000)
    """Rows of the largest upload."""
    max_header_bytes: int = Field(default=32 * 1_024, ge=1_024, le=_MIB)
    """Bytes of the largest request line with its headers. There may be 100 headers."""
    header_seconds: float = Field(default=10.0, ge=0.1, le=3_600)
    """Seconds that a request's headers may take to arrive."""
    body_seconds: float = Field(default=60.0, ge=0.1, le=86_400)
    """Seconds that the service waits for a request's body, and one more for every 16,384 bytes of
    it that came."""
    write_seconds: float = Field(default=60.0, ge=0.1, le=86_400)
    """Seconds that a client may read nothing of an answer that waits for it; then its connection is
    closed."""

    # Access: keys, tokens, browsers, and the limits of a client.

    jwt_key: SecretStr | None = None
    """Key that bearer tokens (JWT) are checked with: a secret of at least 32 bytes for HS256, the
    public key as PEM for the others. When not set, tokens are refused."""
    jwt_algorithm: JwtAlgorithm | None = None
    """The only algorithm that tokens may be signed with. Needed with a JWT key."""
    jwt_audience: str | None = Field(default=None, min_length=1, max_length=255)
    """Value that `aud` of a token must have: the name of this service. Needed with a JWT key."""
    jwt_issuer: str | None = Field(default=None, min_length=1, max_length=255)
    """Value that `iss` of a token must have. Any when not set."""
    session_secret: SecretStr | None = None
    """Secret that signs the sessions of browsers: random text of at least 32 bytes, the same on all
    machines. When not set, the service makes one at its start, and sessions end with the service.
    """
    webhook_hosts: tuple[str, ...] = Field(default=(), max_length=100)
    """Hosts that the service may call when a task with a `webhook` ends; `*.name` covers all names
    below a name. When empty, requests with a webhook are refused."""
    webhook_secret: SecretStr | None = None
    """Secret that signs the calls of webhooks: random text of at least 32 bytes, which receivers
    know, too. Needed with webhook hosts."""
    client_tasks: int = Field(default=10_000, ge=1, le=10_000_000)
    """Background tasks of a client that may wait or run at the same time; the next one is refused.
    Without keys, all requests count as one client."""
    client_seconds: float = Field(default=604_800.0, ge=1, le=1e9)
    """Seconds that the background tasks of a client, waiting and running, may be estimated at
    together; a task that would exceed them is refused."""
    client_stored_bytes: int = Field(default=64 << 30, ge=1 << 20, le=1 << 50)
    """Bytes of inputs and results that the tasks of a client may have together, finished tasks
    included while they are kept; a task that would exceed them is refused."""
    api_keys: tuple[ApiKeyEntry, ...] = Field(default=(), max_length=1_000)
    """Keys of clients: a list of objects with `name`, `hash` and `scopes` (`read`, `run` or
    `admin`; each includes those before it). `hotloop key NAME` makes a key and
    its entry. Without keys and without a JWT key, everybody may use the service, but only from this
    machine."""
    metrics_open: bool = False
    """True: everybody may read `/metrics`. Otherwise a key with the scope `read` is needed."""
    allowed_hosts: tuple[str, ...] = Field(default=(), max_length=100)
    """Names under which clients reach the service, besides loopback names: the header Host without
    the port; `*.name` covers all names below a name. When empty, a service with keys accepts any
    name, and one without keys no other name."""
    cors_origins: tuple[str, ...] = Field(default=(), max_length=100)
    """Origins, like `https://app.example`, whose pages may send requests from a browser and read
    the answers. The service's own pages need no entry."""
    rate_limit: str | None = Field(default=None, min_length=1, max_length=64)
    """Requests that a client may send, like `600/minute`, `20/second` or `5000/2 hours`. Requests
    without a key are counted by address. Unlimited when not set."""
    rate_limit_storage: SecretStr | None = None
    """Redis that counts the requests of all processes, like `redis://host:6379/1`. When not set,
    each process counts its own."""

    # Sources of items.

    redis_url: SecretStr | None = None
    """Redis or Valkey of the cache stage: `redis://`, `rediss://` (TLS) or `unix://`, with user and
    password if needed."""
    redis_key: RedisKey = "item:{id}"
    """Key of an item; `{id}` stands for its id."""
    redis_layout: RedisLayout = RedisLayout.STRING
    """Value under a key: a column's value as text, a JSON object, or a hash with a field for each
    column."""
    redis_columns: ColumnMap = redis_columns_of(_DEFAULT)
    """Columns of the workload that the cache stage fills, each with the field that it is read from.
    The layout `string` has exactly one column."""
    redis_defaults: ColumnDefaults = {}
    """Value of a column when the key or the field is missing; a vector has it in each place. A
    column that is not named here has 0, or false; if 0 is out of its bounds, the item fails."""
    pinot_url: str | None = Field(default=None, max_length=2_048)
    """Apache Pinot broker of the database stage: `http://` or `https://`."""
    pinot_authorization: SecretStr | None = None
    """Authorization header for the broker: `Basic …` or `Bearer …`."""
    pinot_sql: PinotSql = pinot_sql_of(_DEFAULT)
    """Query for several items; `{ids}` stands for their ids. LIMIT is added to it."""
    pinot_id_column: PinotIdColumn = ITEM_ID.name
    """Column of the query's answer that has the id of the item."""
    pinot_columns: ColumnMap = pinot_columns_of(_DEFAULT)
    """Columns of the workload that the database stage fills, each with the column of the query's
    answer that it is read from."""
    workload_sources: dict[str, SourceMap] = Field(default={}, max_length=1_000)
    """Settings of single workloads: the name of a workload, and an object with those of
    `redis_key`, `redis_layout`, `redis_columns`, `redis_defaults`, `pinot_sql`, `pinot_id_column`
    and `pinot_columns` that differ for it."""
    sources: dict[str, str] = Field(default={}, max_length=64)
    """Your own sources: the name that a run asks for, and the `module:callable` that makes the
    stage."""
    source_timeout_seconds: float = Field(default=10.0, ge=0.01, le=3_600)
    """Seconds that one attempt of a query or lookup may take."""
    source_attempts: int = Field(default=6, ge=1, le=100)
    """Attempts of a query or lookup whose failure may be temporary; then its items fail."""
    source_outage_seconds: float = Field(default=30.0, ge=0, le=86_400)
    """Seconds that a run waits for a source that is down. After that, items fail at once until the
    source answers again."""

    # Rules beyond types and bounds.

    _data_dir = field_validator("data_dir")(rules.absolute_path)
    _workloads_dir = field_validator("workloads_dir")(rules.absolute_folder)
    _workloads = field_validator("workloads", mode="before")(rules.split_targets)
    _database_url = field_validator("database_url")(rules.postgresql_url)
    _node_id = field_validator("node_id")(rules.node_name)
    _ray_address = field_validator("ray_address")(cluster_rules.ray_address)
    _dask_address = field_validator("dask_address")(cluster_rules.dask_address)
    _cluster_files = field_validator("cluster_tls_cert", "cluster_tls_key", "cluster_tls_ca")(
        rules.readable_file
    )
    _traces_url = field_validator("traces_url")(rules.collector_url)
    _secrets = field_validator("session_secret", "webhook_secret")(rules.long_secret)
    _allowed_hosts = field_validator("allowed_hosts", "webhook_hosts")(rules.host_names)
    _cors_origins = field_validator("cors_origins")(rules.origins)
    _rate_limit = field_validator("rate_limit")(rules.rate)
    _rate_limit_storage = field_validator("rate_limit_storage")(rules.rate_storage_url)
    _redis_url = field_validator("redis_url")(rules.redis_url)
    _pinot_url = field_validator("pinot_url")(rules.pinot_url)
    _pinot_authorization = field_validator("pinot_authorization")(rules.pinot_authorization)
    _sources = field_validator("sources")(rules.own_sources)

    @field_validator("api_keys")
    @classmethod
    def _check_api_keys(cls, value: tuple[ApiKeyEntry, ...]) -> tuple[ApiKeyEntry, ...]:
        if len({entry.hash for entry in value}) < len(value):
            raise refuse("must not have the same hash twice; give every client a key of its own")
        return value

    @model_validator(mode="after")
    def _check_redis_columns(self) -> Self:
        check_redis_columns(self.redis_layout, self.redis_columns, self.workload_sources)
        return self

    @model_validator(mode="after")
    def _check_token_key(self) -> Self:
        needed = {"JWT_ALGORITHM": self.jwt_algorithm, "JWT_AUDIENCE": self.jwt_audience}
        if self.jwt_key is None:
            for name, value in (needed | {"JWT_ISSUER": self.jwt_issuer}).items():
                if value is not None:
                    raise refuse(
                        f"{PREFIX}{name} has no effect without {PREFIX}JWT_KEY; set both or neither"
                    )
            return self
        for name, value in needed.items():
            if value is None:
                raise refuse(f"{PREFIX}{name} must be set, because {PREFIX}JWT_KEY is set")
        assert self.jwt_algorithm is not None
        try:
            rules.load_key(self.jwt_key.get_secret_value(), self.jwt_algorithm)
        except ValueError as error:
            raise refuse(f"{PREFIX}JWT_KEY {error}") from None
        return self

    @model_validator(mode="after")
    def _check_clusters(self) -> Self:
        files = self.cluster_tls_cert, self.cluster_tls_key, self.cluster_tls_ca
        cluster_rules.check_clusters(self.clusters, files, self.cluster_plaintext)
        return self

    @model_validator(mode="after")
    def _check_webhooks(self) -> Self:
        if bool(self.webhook_hosts) != (self.webhook_secret is not None):
            raise refuse(
                f"{PREFIX}WEBHOOK_HOSTS and {PREFIX}WEBHOOK_SECRET need each other; set both or "
                "neither"
            )
        return self

    @model_validator(mode="after")
    def _check_shutdown(self) -> Self:
        if self.shutdown_seconds < self.cancel_grace_seconds:
            raise refuse(
                f"{PREFIX}SHUTDOWN_SECONDS must be at least {PREFIX}CANCEL_GRACE_SECONDS = "
                f"{self.cancel_grace_seconds:g} (got {self.shutdown_seconds:g}); raise the first "
                "or lower the second"
            )
        return self

    @model_validator(mode="after")
    def _check_loopback(self) -> Self:
        if not self.needs_authentication and not rules.is_loopback(self.host):
            raise refuse(
                f"{PREFIX}HOST must be a loopback address, like 127.0.0.1 (got "
                f"{echo(self.host)}), as long as {PREFIX}API_KEYS is empty and {PREFIX}JWT_KEY is "
                "not set: everybody who reaches the service could use it. "
                "`hotloop key NAME` makes a key"
            )
        return self

    @property
    def needs_authentication(self) -> bool:
        """True if clients must show credentials."""
        return bool(self.api_keys) or self.jwt_key is not None

    @property
    def clusters(self) -> dict[StrategyName, str]:
        """The addresses of the clusters that are configured, by their strategies."""
        found = {StrategyName.RAY: self.ray_address, StrategyName.DASK: self.dask_address}
        return {name: address for name, address in found.items() if address is not None}

    @property
    def offered_strategies(self) -> tuple[StrategyName, ...]:
        """The strategies that this service has, in the order in which they are shown."""
        return tuple(n for n in StrategyName if n not in CLUSTERS or n in self.clusters)

    @property
    def log_options(self) -> LogOptions:
        """Return the options with which this process writes its log."""
        return LogOptions(self.log_format, self.log_level)

    @property
    def store_location(self) -> Path | str:
        """Location of the task store: the data folder, or a database URL with its password."""
        return self.data_dir if self.database_url is None else self.database_url.get_secret_value()

    def secrets(self) -> list[str]:
        """The values of all settings that must not get into a log."""
        return list(rules.secrets_in([getattr(self, name) for name in type(self).model_fields]))


def variable_name(field: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + field.upper()
