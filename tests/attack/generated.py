"""Requests that Schemathesis makes up from the description: valid, invalid, in sequences."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self

import schemathesis
from schemathesis.core import NotSet
from schemathesis.engine import events, from_schema
from schemathesis.hooks import GLOBAL_HOOK_DISPATCHER

from hotloop.app.names import Scope
from hotloop.app.security.clients import KEY_HEADER
from hotloop.app.sources.arrow_rows import ARROW_TYPES
from tests.attack.findings import Findings
from tests.attack.small import small_body, small_query, upload_body
from tests.attack.target import Target, note_left, running_target
from tests.fixtures.access import TestKey, keys_setting, make_key
from tests.fixtures.server import ROOT, Server
from tests.fixtures.waiting import wait_until

_CODE: Final = re.compile(r'Traceback|File "|line \d+, in |\.py\b|site-packages')


@dataclass(frozen=True, slots=True)
class ForbiddenWords:
    """Words that only the service knows, and that no client may read."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, server: Server, *secrets: str) -> Self:
        return cls((*secrets, str(server.data_dir), str(server.data_dir.parent), str(ROOT)))


@dataclass(frozen=True, slots=True)
class AnswerFaults:
    """`server_error` and `leaks` in words."""

    server_error: tuple[str, ...]
    leaks: tuple[str, ...]


def answer_faults(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    documented: Mapping[str, Any],
    forbidden: ForbiddenWords,
) -> AnswerFaults:
    """`headers` have lower-case names; `documented` are the answers in the OpenAPI description."""
    text = body.decode(errors="replace")
    errors = []
    is_excused = status == 503 and "retry-after" in headers and "503" in documented
    if status >= 500 and not is_excused:
        errors.append(f"{status} {text[:400]}")
    everything = text + "".join(f"\n{name}: {value}" for name, value in headers.items())
    leaks = [f"{status} tells {word!r}" for word in forbidden.words if word in everything]
    if status >= 400 and (found := _CODE.search(text)):
        leaks.append(f"{status} tells {found[0]!r}: {text[:400]}")
    return AnswerFaults(tuple(errors), tuple(leaks))


UPLOAD: Final = "/api/v1/tasks/upload"
COMPARE: Final = "/api/v1/tasks/compare"
CHECKS: Final = (
    "allow_header_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "status_code_conformance",
)
HANG_SECONDS: Final = 60
"""The service hangs if it does not answer within this time."""
TASK_END_SECONDS: Final = 120.0
PHASES: Final = ("examples", "coverage", "fuzzing", "stateful")
RANDOM_PHASES: Final = ("fuzzing", "stateful")
FIRST_EXAMPLES: Final = 10
MOST_EXAMPLES: Final = 200


@dataclass(slots=True)
class Seen:
    """The findings of all batches."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    server_errors: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    engine: list[str] = field(default_factory=list)
    """Errors of Schemathesis before it could send a request."""


def attack(
    requests: int = 20_000,
    most_seconds: float = 3_600.0,
    seed: int = 1,
    first_phases: Sequence[str] = PHASES,
) -> Findings:
    """Send at least `requests` requests, in batches of some thousands with different seeds.

    Findings are no exceptions. `most_seconds` ends the attack after the batch that exceeds it; too
    few requests are a fault.
    """
    findings = Findings("generated", f"Schemathesis {schemathesis.__version__}, seed {seed}")
    begun = time.monotonic()
    key = make_key("attacker", Scope.ADMIN)
    seen = Seen()
    with running_target(
        findings,
        counts_own=False,  # Schemathesis leaves its last connection open
        api_keys=keys_setting([key]),
        run_hosts=1,
        queue_limit=50,
        rate_limit="9999/second",
    ) as target:
        words = ForbiddenWords.of(target.server, key.key, key.setting.hash)
        batch = 0
        before = None
        phases = first_phases
        while seen.requests < requests and time.monotonic() - begun < most_seconds:
            left = requests - seen.requests
            _batch(target, key, words, seen, seed + batch, _examples(left), phases)
            _wait_for_the_last_task(target, key)
            batch += 1
            phases = RANDOM_PHASES  # the others would ask the same again
            if before is None:
                before = target.held()  # with all its threads and connections started
        cleared = target.server.client.delete("/api/v1/tasks/results", headers=key.headers)
        assert cleared.status_code == 200, cleared.text  # and with them what uploads brought
        assert before is not None
        note_left(findings, before, target.settle(before))
    findings.seconds = time.monotonic() - begun
    findings.at_least("requests", seen.requests, requests)
    findings.exactly("operations called", len(seen.operations), _operation_count())
    findings.shown("answers by status", _listed(seen.statuses))
    findings.none("5xx answers other than a documented 503 with Retry-After", seen.server_errors)
    findings.none(f"no answer within {HANG_SECONDS} s", seen.hangs)
    findings.none("answers that the OpenAPI description does not allow", seen.breaches)
    findings.none("problems with a traceback, a path of a file, or a secret", seen.leaks)
    findings.none("operations that could not be called", seen.engine)
    return findings


def _examples(left: int) -> int:
    # An example of each of the operations is several requests, as the sequences have more.
    return max(FIRST_EXAMPLES, min(MOST_EXAMPLES, left // 80))


def _batch(
    target: Target,
    key: TestKey,
    words: ForbiddenWords,
    seen: Seen,
    seed: int,
    examples: int,
    phases: Sequence[str],
) -> None:
    checks: dict[str, Any] = {"enabled": False} | {name: {"enabled": True} for name in CHECKS}
    config = schemathesis.Config.from_dict(
        {
            "seed": seed,
            "base-url": target.server.url,
            "headers": {KEY_HEADER: key.key},
            "request-timeout": HANG_SECONDS,
            "continue-on-failure": True,
            "max-redirects": 0,
            "checks": checks,
            # A failure is looked at by people: made smaller, it costs requests.
            "generation": {"max-examples": examples, "no-shrink": True, "database": "none"},
            "phases": {name: {"enabled": name in phases} for name in PHASES},
            "suppress-health-check": ["all"],
        }
    )
    url = f"{target.server.url}/openapi.json"
    schema = schemathesis.openapi.from_url(url, config=config, timeout=HANG_SECONDS)
    with _hooks(), target_alive(target):
        for event in from_schema(schema).execute():
            _note(event, words, seen)


@contextmanager
def target_alive(target: Target) -> Iterator[None]:
    yield
    assert target.server.process.poll() is None, "".join(target.server.log)


@contextmanager
def _hooks() -> Iterator[None]:
    def before_call(context: Any, case: Any, kwargs: Any) -> None:
        path = case.operation.path
        if path == UPLOAD:
            case.body = upload_body(case.body, case.media_type)
        elif path == COMPARE and isinstance(case.body, NotSet):
            # No body compares everything there is, which takes minutes.
            case.body, case.media_type = small_body({}, is_comparison=True), "application/json"
        else:
            case.body = small_body(case.body, is_comparison=path == COMPARE)
        if isinstance(case.query, dict):
            case.query = small_query(case.query, is_upload=path == UPLOAD)

    def as_it_is(context: Any, value: Any) -> dict[str, Any]:
        return {"data": value if isinstance(value, bytes) else str(value).encode(errors="replace")}

    schemathesis.serializer("text/csv", "application/x-ndjson", *ARROW_TYPES)(as_it_is)
    GLOBAL_HOOK_DISPATCHER.register_hook_with_name(before_call, "before_call")
    try:
        yield
    finally:
        GLOBAL_HOOK_DISPATCHER.unregister(before_call)


def _note(event: events.EngineEvent, words: ForbiddenWords, seen: Seen) -> None:
    if isinstance(event, events.NonFatalError):
        (seen.hangs if "imeout" in repr(event.value) else seen.engine).append(
            f"{event.label}: {event.value!r}"[:600]
        )
    elif isinstance(event, events.FatalError):
        seen.engine.append(f"{event.exception!r}"[:600])
    elif isinstance(event, events.ScenarioFinished):
        recorder = event.recorder
        for case_id, interaction in recorder.interactions.items():
            case = recorder.cases[case_id].value
            asked = f"{case.method} {case.operation.path}"
            seen.requests += 1
            seen.operations[case.operation.label] += 1
            response = interaction.response
            if response is None:
                seen.hangs.append(f"{asked}: the connection ended without an answer")
                continue
            seen.statuses[response.status_code] += 1
            headers = {name: value[0] for name, value in response.headers.items()}
            documented = case.operation.definition.raw.get("responses", {})
            faults = answer_faults(
                response.status_code, headers, response.content or b"", documented, words
            )
            sent = f"{asked} {str(case.query)[:200]} {str(case.body)[:400]}"
            seen.server_errors += [f"{sent}: {text}" for text in faults.server_error]
            seen.leaks += [f"{sent}: {text}" for text in faults.leaks]
        for nodes in recorder.checks.values():
            for node in nodes:
                if node.failure_info is not None:
                    info = node.failure_info
                    text = f"{event.label}: {info.failure.title}: {info.failure.message}"
                    seen.breaches.append(f"{text}\n{info.code_sample}"[:1_200])


def _wait_for_the_last_task(target: Target, key: TestKey) -> None:
    """Wait until every accepted task has ended."""

    def has_ended() -> bool:
        pages = [
            target.server.client.get(
                f"/api/v1/tasks/results?limit=1&status={status}", headers=key.headers
            ).json()
            for status in ("pending", "running")
        ]
        return not any(page["total"] for page in pages)

    wait_until(has_ended, "all tasks have ended", TASK_END_SECONDS, 0.1)


def _operation_count() -> int:
    from hotloop.app.factory import create_app
    from hotloop.app.settings.settings import Settings

    paths = create_app(Settings()).openapi()["paths"]
    return sum(len(item) for item in paths.values())


def _listed(statuses: Counter[int]) -> str:
    return ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items()))
