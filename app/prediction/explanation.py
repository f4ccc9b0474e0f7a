"""A recommendation in words: the reasons with figures, the suggested run, general advice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from hotloop.app.prediction.search_space import Candidate
from hotloop.app.schemas.base import SuggestedRun
from hotloop.app.schemas.options import RunOptions
from hotloop.app.schemas.recommendation import Guideline, Limit
from hotloop.app.schemas.runs import RunRequest
from hotloop.app.strategies.registry import CAPABILITIES

_WHY: Final = {
    Limit.IO: "waiting for the sources limits it: more items in flight would help, if the sources "
    "can take them",
    Limit.CPU: "the kernel limits it, on the CPUs that it can use",
    Limit.GIL: "the GIL limits it: this kernel lets one thread compute at a time",
    Limit.OVERHEAD: "starting, batches and messages limit it rather than the items",
    Limit.MEMORY: "it is predicted to need more memory than there is; so are all other choices",
}

GUIDELINES: Final = (
    Guideline(
        work="I/O-heavy",
        advice="Items that wait much longer than they compute: hybrid with io_concurrency as high "
        "as the sources take it (items in flight = rate × latency), or async-batch where whole "
        "batches may wait for their slowest item.",
    ),
    Guideline(
        work="CPU-heavy",
        advice="A compiled kernel first, it gains more than any strategy; then threading or hybrid "
        "with a worker for each usable CPU. The python kernel needs multiprocessing or "
        "concurrent-futures.",
    ),
    Guideline(
        work="mixed",
        advice="hybrid: it waits for a sliding window of items and computes finished batches "
        "meanwhile. Batches small enough that each worker gets several.",
    ),
    Guideline(
        work="long-running",
        advice="Anything longer than a client waits: POST /api/v1/tasks/background, with progress "
        "and events; it survives the death of the service and can be resumed.",
    ),
)


UNCALIBRATED: Final = (
    "This machine is not calibrated yet, so the prediction uses typical figures, scaled by the "
    "speed of its kernels. Calibrate with POST /api/v1/tasks/calibration or `hotloop calibrate`."
)


def explanation(
    ranked: Sequence[Candidate], low: float, high: float, lower_bound: float, calibrated: bool
) -> str:
    """Explain the first of the ranked candidates; `low` and `high` are its interval in seconds."""
    best = ranked[0]
    terms = best.prediction.terms
    parts = (
        f"{_way(best)} is predicted to take {_s(best.prediction.seconds)} "
        f"({_s(low)} … {_s(high)}): {_s(terms.waiting)} of waiting, "
        f"{_s(terms.computing)} of computing, {_s(terms.overhead)} of overhead; "
        f"{_WHY[best.prediction.limited_by]}.",
        _next(ranked),
        f"Nothing can take less than {_s(lower_bound)}.",
        "" if calibrated else UNCALIBRATED,
    )
    return " ".join(part for part in parts if part)


def _next(ranked: Sequence[Candidate]) -> str:
    """Return a sentence about the first candidate with another strategy or kernel, else ""."""
    best = ranked[0]
    for other in ranked[1:]:
        if (other.plan.strategy, other.plan.kernel) != (best.plan.strategy, best.plan.kernel):
            ratio = other.prediction.seconds / best.prediction.seconds
            return (
                f"The next, {other.plan.strategy} × {other.plan.kernel}, is predicted at "
                f"{_s(other.prediction.seconds)}, {ratio:.3g} times as long."
            )
    return ""


def _way(candidate: Candidate) -> str:
    plan = candidate.plan
    parts = [f"{plan.strategy} × {plan.kernel} with batches of {plan.batch_size:,}"]
    if CAPABILITIES[plan.strategy].parallel:
        parts.append(f"{plan.workers} worker{'s' if plan.workers > 1 else ''}")
    if plan.stages and CAPABILITIES[plan.strategy].overlaps_io:
        parts.append(f"{plan.io_concurrency:,} items in flight")
    return ", ".join(parts)


def _s(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1_000:,.3g} ms"
    return f"{seconds:,.3g} s" if seconds < 1_000 else f"{seconds:,.0f} s"


def suggested_run(request: RunRequest, candidate: Candidate) -> SuggestedRun:
    """Return the recommended run, with the fields that differ from their defaults."""
    plan = candidate.plan
    chosen = request.model_dump(mode="json", include=set(RunOptions.model_fields) | {"items_count"})
    chosen |= {
        "kernel": plan.kernel,
        "workers": plan.workers,
        "batch_size": plan.batch_size,
        "io_concurrency": plan.io_concurrency,
    }
    defaults = RunRequest().model_dump(mode="json")
    body: dict[str, Any] = {
        name: value for name, value in chosen.items() if value != defaults[name]
    }
    if request.changed_parameters:
        body["parameters"] = request.changed_parameters
    return SuggestedRun(strategy=plan.strategy, body=body)
