"""The items of a background task, in the data folder of whichever node executes it."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Any

from app.errors import StoreError
from app.logs.origin import current
from app.row_file import RowFile
from app.runhost.client import RunHostClient
from app.runhost.messages import IngestCommand
from app.services.executions import RunContext
from app.sources.base import Items
from app.sources.item_file import FileItems
from app.sources.simulated import GeneratedItems
from app.tasks.model import Task
from app.tasks.threads import in_store_thread


class InputKind(StrEnum):
    """Where the items come from; kept under `input` in a task's spec."""

    GENERATED = "generated"
    ITEMS = "items"
    """Those of a body, in an item file."""
    UPLOAD = "upload"
    """The bytes as they came; the first execution reads them."""


def input_spec(kind: InputKind, media_type: str | None = None) -> dict[str, Any]:
    """What a task's spec says of its input."""
    return {"input": {"kind": kind.value, "media_type": media_type}}


async def items_of(context: RunContext, client: RunHostClient, task: Task) -> Items:
    """The task's items; of an upload, they are read on `client` unless they were before.

    Raises BadRowError for an upload that is not usable, StoreError when the input is not to be
    had, and RunHostDiedError.
    """
    kind = InputKind(task.spec["input"]["kind"])
    if kind is InputKind.GENERATED:
        return GeneratedItems(task.total_items)
    path = context.folder.items_path(task.task_id)
    if kind is InputKind.ITEMS:
        await in_store_thread(_bring, context, task.task_id, kind)
        return FileItems(str(path), task.total_items)
    read = await asyncio.to_thread(_read_before, path)
    if read is not None:
        return read
    await in_store_thread(_bring, context, task.task_id, kind)
    count = await client.ingest(
        IngestCommand(
            upload_path=str(context.folder.upload_path(task.task_id)),
            media_type=task.spec["input"]["media_type"],
            items_path=str(path),
            workload=task.workload,
            max_rows=context.settings.max_upload_rows,
            origin=current(),
        )
    )
    await asyncio.to_thread(context.folder.upload_path(task.task_id).unlink, missing_ok=True)
    return FileItems(str(path), count)


def _read_before(path: Path) -> FileItems | None:
    """The items, if an execution has read them: the file is there only when it is complete."""
    if not path.exists():
        return None
    with RowFile(path) as file:
        return FileItems(str(path), file.count)


def _bring(context: RunContext, task_id: str, kind: InputKind) -> None:
    """Have the input's file here. Another node may have accepted the task."""
    folder = context.folder
    path = folder.items_path(task_id) if kind is InputKind.ITEMS else folder.upload_path(task_id)
    if not path.exists() and not context.store.inputs.fetch(task_id, path):
        raise StoreError("the task's items are gone; ask for it anew")
