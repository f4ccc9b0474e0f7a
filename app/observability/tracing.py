"""OpenTelemetry spans of requests, runs, measurements of comparisons and batches.

Without HOTLOOP_TRACES_URL the API of OpenTelemetry, which FastAPI installs, does nothing, and the
SDK is not imported. Run hosts and workers make no spans: the result of a batch has its times, and
the process that collects results makes the span.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hotloop.app.logs.origin import current
from hotloop.app.runhost.messages import Batches
from hotloop.app.strategies.base import Plan
from hotloop.app.tasks.model import Shard
from hotloop.app.version import VERSION

logger = logging.getLogger(__name__)

EXPORT_SECONDS: Final = 5.0
"""Time that a collector may take to receive spans; then they are dropped."""

_HEADER: Final = "traceparent"
_PROPAGATOR: Final = TraceContextTextMapPropagator()


def tracer() -> trace.Tracer:
    """The tracer of the service. Without an exporter its spans record nothing."""
    return trace.get_tracer("hotloop", VERSION)


def context_of(traceparent: str | None) -> Context:
    """The context for spans that continue a W3C trace; a malformed `traceparent` is ignored."""
    return _PROPAGATOR.extract({} if traceparent is None else {_HEADER: traceparent}, Context())


def traceparent_of(span: trace.Span) -> str | None:
    """The W3C trace context of a span; None if the span belongs to no trace."""
    context = span.get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


@asynccontextmanager
async def exporting(url: str | None, role: str) -> AsyncIterator[None]:
    """Send the spans of this process to an OTLP collector, `http://host:4318/v1/traces`, in
    batches; send the rest at the end of the context. Enter it once in a process. None exports
    nothing.
    """
    if url is None:
        yield
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    about = {"service.name": "hotloop", "service.version": VERSION, "hotloop.role": role}
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=url, timeout=EXPORT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    logger.info("spans are sent to a collector")
    try:
        yield
    finally:
        await asyncio.to_thread(provider.shutdown)


class RunSpan:
    """The span of one execution of a plan, below the span of the request that asked for it."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def batches(self, event: Batches) -> None:
        """Make a span for each batch, with the times that its worker measured."""
        if not self._span.is_recording():
            return
        below = trace.set_span_in_context(self._span)
        for result in event.results:
            span = tracer().start_span(
                "batch",
                context=below,
                start_time=result.begun_ns,
                attributes={
                    "hotloop.batch": result.batch.index,
                    "hotloop.items": result.batch.count,
                    "hotloop.failed_items": len(result.errors),
                    "hotloop.io_seconds": result.io_seconds,
                    "process.pid": result.pid,
                },
            )
            span.end(result.ended_ns)

    def failed(self, error: Exception) -> None:
        """Mark the span as failed with the kind of the error; its text is for the client."""
        self._span.set_status(StatusCode.ERROR, type(error).__name__)


@contextmanager
def run_span(plan: Plan, shard: Shard) -> Iterator[tuple[RunSpan, Plan]]:
    """Open the span of a run. Yields it, and the plan with the origin for its workers' logs."""
    of_shard: dict[str, str | int] = {
        "hotloop.task_id": shard.task_id,
        "hotloop.shard": shard.shard,
        "hotloop.attempt": shard.attempt,
    }
    with _span("run", plan, of_shard) as both:
        yield both


@contextmanager
def measurement_span(plan: Plan, cell: str, round_number: int) -> Iterator[tuple[RunSpan, Plan]]:
    """Open the span of one measurement of a comparison, in the same way."""
    of_cell: dict[str, str | int] = {"hotloop.cell": cell, "hotloop.round": round_number}
    with _span("measurement", plan, of_cell) as both:
        yield both


@contextmanager
def _span(
    name: str, plan: Plan, attributes: Mapping[str, str | int]
) -> Iterator[tuple[RunSpan, Plan]]:
    origin = current()
    of_plan: dict[str, str | int] = {
        "hotloop.strategy": plan.strategy.value,
        "hotloop.kernel": plan.kernel,
        "hotloop.items": plan.item_count,
    }
    with tracer().start_as_current_span(
        name,
        context=context_of(origin.traceparent),
        attributes=of_plan | dict(attributes),
        # The text of an exception may contain data of the items.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        named = replace(origin, traceparent=traceparent_of(span))
        made = RunSpan(span)
        try:
            yield made, replace(plan, origin=named)
        except Exception as error:
            made.failed(error)
            raise
