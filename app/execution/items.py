"""The items of a task: receiving them, and finding them again for an execution on any node."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from io import BufferedWriter
from pathlib import Path
from typing import Final

from hotloop.app.disk import disk_error, file_sha256, hold, sync_folder
from hotloop.app.errors import DamagedFileError, StoreError, UnreadableTaskError
from hotloop.app.execution.context import RunContext, to_the_end
from hotloop.app.logs.origin import current
from hotloop.app.runhost.client import RunHostClient
from hotloop.app.runhost.messages import IngestCommand
from hotloop.app.schemas.declared import ItemRow
from hotloop.app.schemas.item_columns import ItemColumns
from hotloop.app.sources.base import Items
from hotloop.app.sources.inline import InlineItems
from hotloop.app.sources.item_file import FileItems, add_checksums, item_dtype, new_item_file
from hotloop.app.sources.row_file import RowFile
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.tasks.folder import DataFolder
from hotloop.app.tasks.model import Task
from hotloop.app.tasks.spec import InputKind, input_of
from hotloop.kernels import get_workload

logger = logging.getLogger(__name__)

_TRIES: Final = 3
"""Tries to get the item file before giving up: until this process holds the file, another process
may remove or replace it.
"""


class InlineInput:
    """Items from a request body, written to an item file."""

    def __init__(self, workload: str, rows: Sequence[ItemRow]) -> None:
        self.size = len(rows) * item_dtype(workload).itemsize
        self.sha256: str | None = None
        self._workload = workload
        self._rows = rows

    def in_memory(self) -> InlineItems:
        """Return the items as what travels with a plan."""
        rows = ItemColumns.of(self._workload, self._rows)
        return InlineItems(rows.item_ids, rows.columns)

    async def receive(self, folder: DataFolder, task_id: str) -> None:
        await asyncio.to_thread(self._write, folder.items_path(task_id))

    def _write(self, path: Path) -> None:
        rows = ItemColumns.of(self._workload, self._rows)
        with new_item_file(path, self._workload) as writer:
            writer.append(rows.item_ids, rows.columns)
        self.sha256 = file_sha256(path)


class UploadInput:
    """A stream of bytes, stored unread. Reading rows is CPU work, so a run host of the first
    execution reads them into an item file.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        """`chunks` may raise PayloadTooLargeError: the HTTP layer limits their size."""
        self.size = 0
        self.sha256: str | None = None
        self._chunks = chunks

    async def receive(self, folder: DataFolder, task_id: str) -> None:
        digest = hashlib.sha256()
        try:
            path = folder.upload_path(task_id)
            with await asyncio.to_thread(path.open, "wb") as file:
                async for chunk in self._chunks:
                    digest.update(chunk)
                    self.size += len(chunk)
                    await asyncio.to_thread(file.write, chunk)
                await asyncio.to_thread(_to_disk, file, path)
        except OSError as error:
            raise disk_error("the upload cannot be stored", error) from error
        self.sha256 = digest.hexdigest()


def _to_disk(file: BufferedWriter, path: Path) -> None:
    """Write the file through to the disk, so that the upload survives a power cut."""
    file.flush()
    os.fsync(file.fileno())
    sync_folder(path.parent)


@asynccontextmanager
async def items_of(
    context: RunContext, client: RunHostClient, task: Task, rows: tuple[int, int] | None = None
) -> AsyncIterator[Items]:
    """Yield the task's items, whose file stays in the data folder during the block. The run host
    `client` reads an upload that no execution has read. `rows` (start, count; None means all) are
    the items that the block needs; they are checked against damage.

    Raises UnreadableTaskError, BadRowError for an unusable upload, StoreError if the input cannot
    be found, and RunHostDiedError.
    """
    kind, media_type = input_of(task.spec)
    if kind is InputKind.GENERATED:
        yield GeneratedItems(task.total_items)
        return
    files = _TaskFiles(context, client, task, kind, media_type, rows)
    # One execution gets the file; the task's other executions in this process then find it.
    async with context.folder.lock_of(task.task_id):
        items, descriptor = await files.held()
    try:
        yield items
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _TaskFiles:
    """The files of one task in the data folder, which other processes may share."""

    context: RunContext
    client: RunHostClient
    task: Task
    kind: InputKind
    media_type: str | None
    rows: tuple[int, int] | None

    async def held(self) -> tuple[FileItems, int]:
        """Return the items, and the descriptor that keeps their file from being removed."""
        for _ in range(_TRIES):
            found = await to_the_end(self._held)
            if found is not None:
                return found
            await self._bring()
        raise StoreError(
            f"the task's items were damaged or gone again after {_TRIES} tries to write them; "
            "check the disk of the data folder, and resume the task"
        )

    def _held(self) -> tuple[FileItems, int] | None:
        """Return the same as `held`, or None if the file is missing or damaged. Blocks."""
        path = self.context.folder.items_path(self.task.task_id)
        try:
            descriptor = hold(path)
        except OSError as error:
            raise disk_error(f"the file {path.name} cannot be opened", error) from error
        if descriptor is None:
            return None
        try:
            items = self._checked(path)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, DamagedFileError):
                logger.warning("%s; the file is made again", error)
                return None
            raise
        if items is not None:
            return items, descriptor
        os.close(descriptor)
        add_checksums(path)
        return self._held()

    def _checked(self, path: Path) -> FileItems | None:
        """Check the items; return None if an early version stored neither checksums nor digest."""
        with RowFile(path) as file:
            count, has_checksums = file.count, file.has_checksums
        if not has_checksums and self.task.input_sha256 is None:
            return None
        items = FileItems(str(path), count)
        if self.kind is InputKind.ITEMS:
            items = replace(items, count=self.task.total_items)
        start, wanted = self.rows or (0, items.count)
        items.check(self.task.workload, start, wanted or items.count)
        return items

    async def _bring(self) -> None:
        """Make the item file, if need be from the database: another node may have the input."""
        folder, task_id = self.context.folder, self.task.task_id
        if self.kind is InputKind.ITEMS:
            await asyncio.to_thread(self._fetch, folder.items_path(task_id))
            return
        path = folder.upload_path(task_id)
        descriptor = await to_the_end(hold, path)
        try:
            if descriptor is not None:
                await self._read(path)
                return
        except DamagedFileError as error:
            logger.warning("%s; the upload is fetched again", error)
        finally:
            if descriptor is not None:
                os.close(descriptor)
        await asyncio.to_thread(self._fetch, path)
        await self._read(path)

    def _fetch(self, path: Path) -> None:
        store, task = self.context.store, self.task
        if not store.inputs.fetch(task.task_id, path, task.input_sha256):
            raise StoreError(
                "the task's items are gone or damaged, and there is no copy of them; send the "
                "request again"
            )

    async def _read(self, upload: Path) -> None:
        """Read the upload into the item file."""
        folder, task = self.context.folder, self.task
        if self.media_type is None:
            raise UnreadableTaskError("in what form its items came")
        workload = get_workload(task.workload)
        await self.client.ingest(
            IngestCommand(
                upload_path=str(upload),
                media_type=self.media_type,
                items_path=str(folder.items_path(task.task_id)),
                workload=task.workload,
                max_rows=self.context.settings.max_upload_rows,
                max_bytes=self.context.settings.max_upload_bytes,
                sha256=task.input_sha256,
                origin=current(),
                declaration=workload if workload.source is not None else None,
            )
        )
        await asyncio.to_thread(upload.unlink, missing_ok=True)
