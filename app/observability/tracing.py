"""Traces of OpenTelemetry: a span for each request, run and batch, made in the process that counts.

Without HOTLOOP_TRACES_URL the API of OpenTelemetry, which FastAPI brings, does nothing, and the SDK
is not imported. Run hosts and workers have no part in it: a batch's result says when it was in
work, and whoever asked for it makes the span.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hotloop.app.version import VERSION

logger = logging.getLogger(__name__)

EXPORT_SECONDS: Final = 5.0
"""How long a collector may take to receive spans; then they are dropped."""

_HEADER: Final = "traceparent"
_PROPAGATOR: Final = TraceContextTextMapPropagator()


def tracer() -> trace.Tracer:
    """Makes spans that are exported, or, without an exporter, none."""
    return trace.get_tracer("hotloop", VERSION)


def context_of(traceparent: str | None) -> Context:
    """For spans that go on with a W3C trace context; one that is not well-formed is left out."""
    return _PROPAGATOR.extract({} if traceparent is None else {_HEADER: traceparent}, Context())


def traceparent_of(span: trace.Span) -> str | None:
    """W3C trace context of a span; None for one that belongs to no trace."""
    context = span.get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


@asynccontextmanager
async def exporting(url: str | None, role: str) -> AsyncIterator[None]:
    """Spans of this process go to an OTLP collector, `http://host:4318/v1/traces`, in batches; what
    is left at the end is sent then. Once for each process; None exports nothing.
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
