"""In the place of background tasks, until their service is there: every one is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Never

from app.errors import NotReadyError
from app.schemas.options import StrategyChoice
from app.schemas.runs import BackgroundRequest, UploadQuery


class NoBackground:
    """Refuses with NotReadyError."""

    async def submit(self, request: BackgroundRequest, idempotency_key: str | None) -> Never:
        self._refuse()

    async def submit_upload(
        self,
        query: UploadQuery,
        strategy: StrategyChoice,
        media_type: str,
        chunks: AsyncIterator[bytes],
        idempotency_key: str | None,
    ) -> Never:
        self._refuse()

    async def resume(self, task_id: str) -> Never:
        self._refuse()

    def events(self, task_id: str, last_event_id: str | None) -> Never:
        self._refuse()

    def _refuse(self) -> Never:
        raise NotReadyError("background tasks are not taken yet", 60)
