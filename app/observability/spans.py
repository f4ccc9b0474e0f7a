"""Spans of runs, of the measurements of comparisons, and of their batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from opentelemetry import trace
from opentelemetry.trace import StatusCode

from hotloop.app.logs.origin import current
from hotloop.app.observability.tracing import context_of, traceparent_of, tracer
from hotloop.app.runhost.messages import Batches
from hotloop.app.strategies.base import Plan
from hotloop.app.tasks.model import Shard


class RunSpan:
    """One execution of a plan, below the request that asked for it, whenever that was."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def batches(self, event: Batches) -> None:
        """Each as the worker that had it has timed it."""
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
        """The error's text is for the client; its kind is enough here."""
        self._span.set_status(StatusCode.ERROR, type(error).__name__)


@contextmanager
def run_span(plan: Plan, shard: Shard) -> Iterator[tuple[RunSpan, Plan]]:
    """The span, and the plan with what the logs of its workers are to name."""
    of_shard: dict[str, str | int] = {
        "hotloop.task_id": shard.task_id,
        "hotloop.shard": shard.shard,
        "hotloop.attempt": shard.attempt,
    }
    with _span("run", plan, of_shard) as both:
        yield both


@contextmanager
def measurement_span(plan: Plan, cell: str, round_number: int) -> Iterator[tuple[RunSpan, Plan]]:
    """The same for what a comparison executes once."""
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
        # An exception's text may be of the items' data.
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
