"""How the items of a task come in: made up, in the body, or as an upload."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from io import BufferedWriter
from pathlib import Path
from typing import ClassVar, Protocol

from hotloop.app.disk import disk_error, file_sha256
from hotloop.app.logs.origin import current
from hotloop.app.runhost.client import RunHostClient
from hotloop.app.runhost.messages import IngestCommand
from hotloop.app.schemas.declared import ItemRow
from hotloop.app.schemas.item_columns import ItemColumns
from hotloop.app.sources.base import Items
from hotloop.app.sources.item_file import FileItems, item_dtype, new_item_file
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.tasks.folder import DataFolder
from hotloop.app.tasks.spec import InputKind


class TaskInput(Protocol):
    """Called in this order: `receive` before a run host is taken, `read` on one."""

    kind: ClassVar[InputKind]
    media_type: str | None

    @property
    def count(self) -> int:
        """Items as far as known: 0 before an upload was read."""
        ...

    async def receive(self, folder: DataFolder, task_id: str) -> None: ...

    async def read(self, client: RunHostClient, folder: DataFolder, task_id: str) -> Items: ...


class GeneratedInput:
    """Simulated items."""

    kind: ClassVar = InputKind.GENERATED
    media_type: str | None = None

    def __init__(self, count: int) -> None:
        self.count = count

    async def receive(self, folder: DataFolder, task_id: str) -> None:
        """Nothing comes in."""

    async def read(self, client: RunHostClient, folder: DataFolder, task_id: str) -> Items:
        return GeneratedItems(self.count)


class InlineInput:
    """Items of a body, put into an item file."""

    kind: ClassVar = InputKind.ITEMS
    media_type: str | None = None

    def __init__(self, workload: str, rows: Sequence[ItemRow]) -> None:
        self.count = len(rows)
        self.size = self.count * item_dtype(workload).itemsize
        """Bytes of the item file, about."""
        self.sha256: str | None = None
        """Digest of the item file, once it was received."""
        self._workload = workload
        self._rows = rows

    async def receive(self, folder: DataFolder, task_id: str) -> None:
        """Raises StoreError."""
        await asyncio.to_thread(self._write, folder.items_path(task_id))

    def _write(self, path: Path) -> None:
        rows = ItemColumns.of(self._workload, self._rows)
        with new_item_file(path, self._workload) as writer:
            writer.append(rows.item_ids, rows.columns)
        self.sha256 = file_sha256(path)

    async def read(self, client: RunHostClient, folder: DataFolder, task_id: str) -> Items:
        return FileItems(str(folder.items_path(task_id)), self.count)


class UploadInput:
    """A stream of bytes, stored as it comes and read into an item file by a run host: reading
    rows is CPU work.
    """

    kind: ClassVar = InputKind.UPLOAD

    def __init__(
        self, workload: str, media_type: str, chunks: AsyncIterator[bytes], max_rows: int
    ) -> None:
        """`chunks` may raise PayloadTooLargeError: whoever receives them bounds them."""
        self.count = 0
        self.size = 0
        """Bytes that were received so far."""
        self.sha256: str | None = None
        """Digest of the upload, once it was received."""
        self._workload = workload
        self.media_type: str | None = media_type
        self._form = media_type
        self._chunks = chunks
        self._max_rows = max_rows

    async def receive(self, folder: DataFolder, task_id: str) -> None:
        """Raises StoreError, and what the chunks raise."""
        digest = hashlib.sha256()
        try:
            with await asyncio.to_thread(folder.upload_path(task_id).open, "wb") as file:
                async for chunk in self._chunks:
                    digest.update(chunk)
                    self.size += len(chunk)
                    await asyncio.to_thread(file.write, chunk)
                await asyncio.to_thread(_to_disk, file)
        except OSError as error:
            raise disk_error("the upload cannot be stored", error) from error
        self.sha256 = digest.hexdigest()

    async def read(self, client: RunHostClient, folder: DataFolder, task_id: str) -> Items:
        """Raises BadRowError, StoreError, RunHostDiedError."""
        upload, items = folder.upload_path(task_id), folder.items_path(task_id)
        self.count = await client.ingest(
            IngestCommand(
                upload_path=str(upload),
                media_type=self._form,
                items_path=str(items),
                workload=self._workload,
                max_rows=self._max_rows,
                sha256=self.sha256,
                origin=current(),
            )
        )
        await asyncio.to_thread(upload.unlink)
        return FileItems(str(items), self.count)


def _to_disk(file: BufferedWriter) -> None:
    """An accepted upload is still whole after a power cut."""
    file.flush()
    os.fsync(file.fileno())
