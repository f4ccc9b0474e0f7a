"""Calls of webhooks: the end of a task is told to the URL that came with it.

Requests and signatures are those of the Standard Webhooks specification 1.0.0: the headers
`webhook-id`, `webhook-timestamp` and `webhook-signature`, which is `v1,` and the base64 of the
HMAC-SHA256, under HOTLOOP_WEBHOOK_SECRET, over `ID.TIMESTAMP.BODY`. An attempt may reach the
receiver whose answer then gets lost, so a receiver may see a call twice, with the same id.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from hotloop.app.database.threads import in_store_thread
from hotloop.app.errors import InvalidRequestError, StoreError
from hotloop.app.settings.rules import is_named
from hotloop.app.settings.settings import Settings
from hotloop.app.tasks.model import Task
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.webhooks import Due, WebhookStore
from hotloop.app.version import VERSION

if TYPE_CHECKING:
    import aiohttp

logger = logging.getLogger(__name__)

PAUSES: Final = (5.0, 30.0, 120.0, 600.0, 3_600.0, 10_800.0, 21_600.0, 43_200.0)
"""Seconds before each further attempt; each is shortened by up to a fifth at random. After the last
one, a day after the end, no other attempt is made."""

CALL_SECONDS: Final = 10.0
"""Time for an attempt, from the connection to the answer's status."""

LOOK_SECONDS: Final = 1.0
"""Pause between two looks for attempts that are due."""

AT_ONCE: Final = 8
"""Attempts that this process makes at the same time."""

_LEASE_SECONDS: Final = 3 * CALL_SECONDS
_GONE: Final = 410


def check_webhook(settings: Settings, url: str | None) -> None:
    """Raise InvalidRequestError unless the service may call this URL."""
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequestError("webhook", "it must be a URL like https://example.com/done")
    if not settings.webhook_hosts:
        text = "this service calls none; have the operator set HOTLOOP_WEBHOOK_HOSTS"
        raise InvalidRequestError("webhook", text)
    if not is_named(parts.hostname, settings.webhook_hosts):
        text = "this service calls other hosts only; have the operator add it to "
        raise InvalidRequestError("webhook", f"{text}HOTLOOP_WEBHOOK_HOSTS")


def payload(task: Task) -> bytes:
    """Return the body of a call: the event, and what the task has become."""
    told: dict[str, Any] = {
        "task_id": task.task_id,
        "status": task.status,
        "workload": task.workload,
        "total_items": task.total_items,
        "items_processed": task.items_processed,
        "failed_items": task.failed_items,
        "created_at": task.created_at.isoformat(),
        "start_time": None if task.start_time is None else task.start_time.isoformat(),
        "end_time": None if task.end_time is None else task.end_time.isoformat(),
        "error_message": task.error_message,
    }
    timestamp = told["end_time"] or told["created_at"]
    event = {"type": f"task.{task.status}", "timestamp": timestamp, "data": told}
    return json.dumps(event).encode()


def signed(secret: str, call_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a call."""
    text = f"{call_id}.{timestamp}.".encode() + body
    digest = hmac.new(secret.encode(), text, hashlib.sha256).digest()
    return {
        "webhook-id": call_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        "content-type": "application/json",
        "user-agent": f"hotloop/{VERSION}",
    }


class WebhookService:
    """Makes the calls that are due in the store. Any number of processes may do so at once."""

    def __init__(self, settings: Settings, store: TaskStore) -> None:
        self._settings = settings
        self._store = WebhookStore(store.engine)
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for calls, if the settings allow any."""
        if self._settings.webhook_hosts:
            self._looking = asyncio.create_task(self._look())

    async def close(self) -> None:
        """Give up the attempts in progress; they are made again later."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        import aiohttp  # takes 8 MB, which a service without webhooks need not have

        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            while True:
                found: list[Due] = []
                with suppress(StoreError):
                    found = list(await in_store_thread(self._store.due, AT_ONCE))
                    await asyncio.gather(*(self._attempt(session, due) for due in found))
                if len(found) < AT_ONCE:
                    await asyncio.sleep(LOOK_SECONDS)

    async def _attempt(self, session: aiohttp.ClientSession, due: Due) -> None:
        until = time.time() + _LEASE_SECONDS
        if not await in_store_thread(self._store.take, due, until):
            return
        error, may_repeat = await self._call(session, due)
        if error is None:
            await in_store_thread(self._store.delivered, due, until)
            return
        next_at = None
        if may_repeat and due.attempts < len(PAUSES):
            next_at = time.time() + PAUSES[due.attempts] * random.uniform(0.8, 1.0)
        logger.warning(
            "the webhook of task %s was not delivered (attempt %d): %s",
            due.task.task_id,
            due.attempts + 1,
            error,
        )
        await in_store_thread(self._store.failed, due, until, error, next_at)

    async def _call(self, session: aiohttp.ClientSession, due: Due) -> tuple[str | None, bool]:
        """Make a call. Return the reason why it failed, None if it did not, and whether another
        attempt is worth it. The reason names no part of the URL, which may hold a secret.
        """
        import aiohttp

        task, settings = due.task, self._settings
        assert settings.webhook_secret is not None
        try:
            check_webhook(settings, task.webhook)
        except InvalidRequestError as refused:  # the settings have changed
            return refused.text, False
        body = payload(task)
        call_id = f"{task.task_id}-{due.number}"
        secret = settings.webhook_secret.get_secret_value()
        headers = signed(secret, call_id, int(time.time()), body)
        try:
            async with session.post(
                str(task.webhook), data=body, headers=headers, allow_redirects=False
            ) as answer:
                status = answer.status
        except TimeoutError:
            return f"no answer within {CALL_SECONDS:g} s", True
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return f"no answer ({type(error).__name__})", True
        if 200 <= status < 300:
            return None, False
        return f"the receiver answered {status}", status != _GONE
