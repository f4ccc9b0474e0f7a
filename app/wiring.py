"""Builds the services of one process (runs, tasks, kernels, health) and closes them in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from hotloop.app.check.storage import Certificates
from hotloop.app.comparison.execution import ComparisonBody
from hotloop.app.comparison.service import ComparisonService
from hotloop.app.database.threads import in_store_thread, new_store_threads
from hotloop.app.errors import StoreError
from hotloop.app.execution.background import BackgroundService
from hotloop.app.execution.batch_seconds import batch_predictor
from hotloop.app.execution.calls import CallService
from hotloop.app.execution.client_limits import ClientStorage
from hotloop.app.execution.context import Bodies, RunContext
from hotloop.app.execution.events import EventHub
from hotloop.app.execution.kinds import Kinds
from hotloop.app.execution.maintenance import Upkeep, remove_orphans, take_work
from hotloop.app.execution.micro_batches import MicroBatches
from hotloop.app.execution.run_body import RunBody
from hotloop.app.execution.runner import TaskRunner
from hotloop.app.execution.runs import LongRunService, RunService
from hotloop.app.execution.small_tasks import SmallTaskService
from hotloop.app.execution.tasks import TaskService
from hotloop.app.execution.webhooks import WebhookService
from hotloop.app.names import TaskKind
from hotloop.app.observability.clusters import ClusterMonitor
from hotloop.app.observability.health import HealthService, SourceMonitor
from hotloop.app.observability.lag import LoopLagMonitor
from hotloop.app.observability.metrics import Metrics
from hotloop.app.observability.samplers import GaugeSampler, VitalsService
from hotloop.app.observability.tracing import exporting
from hotloop.app.prediction.calibration_file import stored_results
from hotloop.app.prediction.calibrations import Calibrations
from hotloop.app.prediction.machine import KernelService
from hotloop.app.prediction.memory import MemoryBudget, default_budget_bytes
from hotloop.app.prediction.recommendation import RecommendationService
from hotloop.app.runhost.config import RunHostConfig
from hotloop.app.runhost.host_pool import HostPoolOptions, RunHostPool
from hotloop.app.settings.environment import run_host_environment
from hotloop.app.settings.settings import Settings
from hotloop.app.strategies.cluster.protocol import ClusterConfig, TlsFiles
from hotloop.app.strategies.pools import PoolLimits
from hotloop.app.system import usable_cpu_count
from hotloop.app.tasks.folder import DataFolder
from hotloop.app.tasks.needs import NOTHING
from hotloop.app.tasks.nodes import NodeStore, new_node_id
from hotloop.app.tasks.recording import Recorder
from hotloop.app.tasks.small import MOST_CLAIMED
from hotloop.app.tasks.store import TaskStore, open_store
from hotloop.app.tasks.stuck import StuckShards
from hotloop.app.tasks.work_queue import QueueOptions, WorkQueue
from hotloop.app.workloads.catalogue import Catalogue, CatalogueOptions

logger = logging.getLogger(__name__)

BODIES: Final[Bodies] = {TaskKind.RUN: RunBody(), TaskKind.COMPARISON: ComparisonBody()}

PROCESSES_PER_CPU = 4
"""Default limit of a run's worker processes for each usable CPU."""


@dataclass(frozen=True, slots=True)
class Services:
    """All services of one process."""

    store: TaskStore

    node: str
    """This process's id among the processes that share the database."""
    runs: RunService
    calls: CallService
    tasks: TaskService
    background: BackgroundService
    comparisons: ComparisonService
    recommendations: RecommendationService
    kernels: KernelService
    catalogue: Catalogue
    health: HealthService
    vitals: VitalsService
    metrics: Metrics


@asynccontextmanager
async def open_services(
    settings: Settings, role: str = "api", *, calibrates_unasked: bool = True
) -> AsyncIterator[Services]:
    """Open all services, and close them in the opposite order when the block ends. The run hosts
    go on starting while requests are answered. Without `calibrates_unasked`, a calibration begins
    only if a request asks for one. Raises StoreError.
    """
    usable_cpus = usable_cpu_count()
    threads = new_store_threads()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(exporting(settings.traces_url, role))
        folder = await asyncio.to_thread(DataFolder, settings.data_dir)
        sources = SourceMonitor(_configured_sources(settings))
        metrics = Metrics(sources)
        observe = metrics.transaction_ended
        store = await in_store_thread(
            open_store, settings.store_location, observe=observe, durability=settings.durability
        )
        stack.push_async_callback(_close, store.close)
        node_id = new_node_id(settings.node_id)
        nodes = await in_store_thread(NodeStore, store.engine, node_id, role)
        await in_store_thread(_tidy, store, folder, nodes)
        config = _host_config(settings, usable_cpus)
        options = HostPoolOptions(
            count=settings.run_hosts,
            queue_limit=settings.queue_limit,
            cancel_grace_seconds=settings.cancel_grace_seconds,
            environment=run_host_environment(),
        )
        hosts = RunHostPool(config, options)
        call_hosts = RunHostPool(replace(config, for_calls=True), replace(options, count=1))
        hosts.start()
        stack.push_async_callback(hosts.close)
        memory = await asyncio.to_thread(_memory_budget, settings, usable_cpus)
        catalogue = Catalogue(
            CatalogueOptions(
                targets=settings.workloads,
                folder=settings.workloads_dir,
                data_folder=settings.data_dir,
                usable_cpus=usable_cpus,
                memory_bytes=memory.run_bytes,
                environment=run_host_environment(),
                reload=settings.reload,
            ),
            hosts,
            call_hosts,
        )
        catalogue.start()
        stack.push_async_callback(catalogue.close)
        clusters = ClusterMonitor(settings.clusters)
        await clusters.start()
        stack.push_async_callback(clusters.close)
        sampler = GaugeSampler(metrics, hosts, store)
        sampler.start()
        stack.push_async_callback(sampler.close)
        calibrations = Calibrations(
            settings.data_dir,
            hosts,
            config,
            partial(stored_results, store, nodes.node_id),
            catalogue,
            clusters,
            begins_unasked=calibrates_unasked,
        )
        stack.push_async_callback(calibrations.close)
        certificates = Certificates(settings.data_dir)
        bodies = {**BODIES, TaskKind.RUN: RunBody(certificates)}
        context = RunContext(
            settings=settings,
            usable_cpus=usable_cpus,
            node=nodes.node_id,
            hosts=hosts,
            catalogue=catalogue,
            calibrations=calibrations,
            store=store,
            folder=folder,
            lag=LoopLagMonitor(),
            sources=sources,
            clusters=clusters,
            metrics=metrics,
            memory=memory,
            storage=ClientStorage(store.stored_bytes, settings.client_stored_bytes),
            certificates=certificates,
            bodies=bodies,
        )
        recorder = Recorder(store.engine)
        kinds = Kinds(context, recorder)
        batches = MicroBatches(call_hosts, metrics.micro_batch_ended)
        stack.push_async_callback(batches.close)
        small = SmallTaskService(context, kinds, batches)
        stack.push_async_callback(small.close)
        runner = TaskRunner(context, small)
        stuck = StuckShards(
            store.engine,
            nodes.node_id,
            settings.stuck_shard_seconds,
            batch_predictor(context),
            metrics.stuck_shard_taken,
        )
        queue = WorkQueue(
            store.engine,
            nodes.node_id,
            runner.execute,
            QueueOptions(
                settings.background_runs,
                settings.background_runs_in_all,
                MOST_CLAIMED,
                settings.queue_poll_seconds,
            ),
            lambda: hosts.alive_count > 0,
            stuck if settings.stuck_shard_seconds else None,
        )
        if not settings.background_runs:
            await in_store_thread(nodes.publish, NOTHING)
        upkeep = Upkeep(context, queue, nodes)
        stack.push_async_callback(upkeep.close)
        await upkeep.start()
        stack.push_async_callback(_close, queue.close)
        webhooks = WebhookService(settings, store)
        webhooks.start()
        stack.push_async_callback(webhooks.close)
        hub = EventHub(store, bodies)
        stack.push_async_callback(hub.close)
        vitals = VitalsService(context.lag, usable_cpus)
        stack.push_async_callback(vitals.close)
        background = BackgroundService(context, queue, hub, small)
        stack.push_async_callback(background.close)
        # The runner closes before the queue, so that other nodes can take over its shards, and
        # before `background`, because a run may become a background task until it ends.
        stack.push_async_callback(runner.close)
        stack.callback(queue.take_no_more)
        if settings.background_runs:
            taking = asyncio.create_task(take_work(context, nodes, queue))
            stack.push_async_callback(asyncio.wait, [taking])
            stack.callback(taking.cancel)
        long_runs = LongRunService(context, background, nodes)
        runs = RunService(context, runner, background, long_runs)
        calls = CallService(context, runs, batches, kinds, recorder)
        stack.push_async_callback(calls.close)
        stack.callback(threads.hurry)
        yield Services(
            store=store,
            node=nodes.node_id,
            runs=runs,
            calls=calls,
            tasks=TaskService(context, runner),
            background=background,
            comparisons=ComparisonService(context, runner, background),
            recommendations=RecommendationService(
                settings, catalogue, calibrations, store, memory.run_bytes
            ),
            kernels=KernelService(catalogue, certificates),
            catalogue=catalogue,
            health=HealthService(
                hosts, store, sources, settings.run_hosts, clusters, lambda: upkeep.failure
            ),
            vitals=vitals,
            metrics=metrics,
        )


async def _close(close: Callable[[], None]) -> None:
    """Close a part that uses the store. Log a warning if the store fails or hangs."""
    try:
        await in_store_thread(close)
    except StoreError as error:
        logger.warning("closed without a last write to the store: %s", error)


def _tidy(store: TaskStore, folder: DataFolder, nodes: NodeStore) -> None:
    """End the tasks that killed processes left behind, and remove files that no task needs."""
    interrupted = remove_orphans(store, folder, nodes)
    removed = folder.sweep(store.needing_files)
    if interrupted or removed:
        logger.warning(
            "an earlier process was killed: %d tasks ended, %d files removed",
            len(interrupted),
            len(removed),
        )


def _configured_sources(settings: Settings) -> tuple[str, ...]:
    addresses = {"redis": settings.redis_url, "pinot": settings.pinot_url}
    return tuple(name for name, address in addresses.items() if address is not None)


def _memory_budget(settings: Settings, usable_cpus: int) -> MemoryBudget:
    config = _host_config(settings, usable_cpus)
    return MemoryBudget(
        (settings.memory_budget_bytes or default_budget_bytes()) // settings.run_hosts,
        PoolLimits(config.max_worker_threads, config.max_worker_processes, usable_cpus),
    )


def _host_config(settings: Settings, usable_cpus: int) -> RunHostConfig:
    return RunHostConfig(
        max_worker_threads=settings.max_worker_threads,
        max_worker_processes=settings.max_worker_processes or PROCESSES_PER_CPU * usable_cpus,
        usable_cpus=usable_cpus,
        pool_idle_seconds=settings.pool_idle_seconds,
        instruction_set=settings.instruction_set,
        clusters=_clusters(settings, usable_cpus),
        log_format=settings.log_format,
        log_level=settings.log_level,
    )


def _clusters(settings: Settings, usable_cpus: int) -> tuple[ClusterConfig, ...]:
    files = settings.cluster_tls_cert, settings.cluster_tls_key, settings.cluster_tls_ca
    tls = TlsFiles(*map(str, files)) if all(files) else None
    return tuple(
        ClusterConfig(engine, address, usable_cpus, tls)
        for engine, address in settings.clusters.items()
    )
