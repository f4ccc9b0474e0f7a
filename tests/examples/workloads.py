"""The five workloads of examples/workloads, and what tests give them."""

from __future__ import annotations

from typing import Any, Final

from hotloop_examples.american import american
from hotloop_examples.bytes_hash import bytes_hash
from hotloop_examples.dtw import dtw
from hotloop_examples.haversine import haversine
from hotloop_examples.mandelbrot import mandelbrot

from tests.fixtures.server import ROOT

FOLDER: Final = ROOT / "examples" / "workloads"
FLIGHTS: Final = FOLDER / "flights-1000.csv"

WORKLOADS: Final[dict[str, Any]] = {
    "american": american,
    "mandelbrot": mandelbrot,
    "haversine": haversine,
    "dtw": dtw,
    "bytes_hash": bytes_hash,
}
