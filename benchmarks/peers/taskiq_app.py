"""A taskiq task that computes one item of `loops`, and keeps its result in Redis."""

from __future__ import annotations

import os

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from benchmarks.peers.one_item import compute

URL = os.environ["BENCHMARK_REDIS"]
broker = ListQueueBroker(URL).with_result_backend(
    RedisAsyncResultBackend(URL, result_ex_time=3_600, prefix_str="result")
)
one_item = broker.register_task(compute, "one_item")
