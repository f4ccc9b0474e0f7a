"""A FastAPI application that computes one item of `loops` without the service, as people write it:
in the threads or in the processes of a pool. It keeps nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import get_context
from typing import Final

from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers.one_item import compute

WORKERS: Final = 2


class Item(BaseModel):
    value: float
    offset: int


class Outputs(BaseModel):
    loop: float
    nested: int


pools: dict[str, Executor] = {}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    with (
        ThreadPoolExecutor(WORKERS) as pools["threads"],
        ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pools["processes"],
    ):
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/{pool}")
async def call(pool: str, item: Item) -> Outputs:
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(pools[pool], compute, item.value, item.offset)
    return Outputs(loop=found[0], nested=found[1])
