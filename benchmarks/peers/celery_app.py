"""A Celery task that computes one item of `loops`, and keeps its result in Redis."""

from __future__ import annotations

import os

from celery import Celery

from benchmarks.peers.one_item import compute

URL = os.environ["BENCHMARK_REDIS"]
app = Celery("peer", broker=URL, backend=URL)
one_item = app.task(compute, name="one_item")
