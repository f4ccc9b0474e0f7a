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

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

from hotloop import kernels

KERNEL: Final = "cython"
WORKERS: Final = 2


class Item(BaseModel):
    value: float
    offset: int
    cpu_iterations: int


class Outputs(BaseModel):
    loop: float
    nested: int


def compute(value: float, offset: int, cpu_iterations: int) -> tuple[float, int]:
    columns = {"value": np.array([value]), "offset": np.array([offset], dtype=np.int64)}
    parameters = {"cpu_iterations": cpu_iterations, "outer_iterations": 1, "inner_iterations": 1}
    found = kernels.get_kernel("loops", KERNEL).run(columns, parameters)
    return found["loop"][0].item(), found["nested"][0].item()


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
    asked = item.value, item.offset, item.cpu_iterations
    found = await loop.run_in_executor(pools[pool], compute, *asked)
    return Outputs(loop=found[0], nested=found[1])
