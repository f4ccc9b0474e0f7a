"""A FastAPI application with an endpoint that computes for long in pure Python, in three ways:
on the event loop, in FastAPI's threads, and by Hotloop. It also has a `/ping`.
"""

from __future__ import annotations

from fastapi import FastAPI

import hotloop
from benchmarks.peers.heavy import spin

hot = hotloop.Hotloop(spin, run_hosts=1, log_level="warning")
app = FastAPI()
hot.install(app)


@app.get("/async-def")
async def on_the_loop(rounds: int) -> float:
    return spin(1.0, rounds)


@app.get("/def")
def in_a_thread(rounds: int) -> float:
    return spin(1.0, rounds)


@app.get("/hotloop")
async def by_hotloop(rounds: int) -> float:
    found = await hot.run(spin, {"value": [1.0]}, {"rounds": rounds}, kernel="python")
    return float(found["result"][0])


@app.get("/call")
async def a_call(rounds: int) -> float:
    return await hot.caller(spin, record="none")(1.0, rounds)


@app.get("/ping")
async def ping() -> str:
    return "pong"
