"""Thirty modules of own workloads whose kernels are right, some in ways that look suspicious."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from tests.check.bases import Base
from tests.check.bases_floats import (
    CLIP_SCALE,
    HAVERSINE,
    LOGISTIC_MAP,
    POLYNOMIAL,
    PUT_TREE,
    SIMPSON,
    TRIANGLE,
)
from tests.check.bases_integers import (
    CALENDAR,
    CLASSIFY,
    COLLATZ,
    COMMON_DIVISOR,
    DIGITS,
    INVOICE,
    RANDOM_WALK,
)
from tests.check.bases_motion import (
    AFFINE,
    COMPOUND,
    DAMPED,
    ESCAPE_TIME,
    NEWTON_ROOT,
    PENDULUM,
    PHASE,
)
from tests.check.bases_vectors import (
    DETERMINANT,
    EDIT_DISTANCE,
    EMA,
    HISTOGRAM,
    NORMS,
    SHARES,
    SMOOTH,
    WARPING,
)
from tests.check.kernels import Kernel, module_text


@dataclass(frozen=True)
class Correct:
    """A module whose kernel `batch` is right, and what is special about it."""

    name: str
    words: str
    kernel: Kernel

    @property
    def base(self) -> Base:
        return self.kernel.base

    @property
    def text(self) -> str:
        return module_text(self.kernel)


def _numpy(base: Base) -> Kernel:
    # numpy releases the GIL in parts of its work only.
    return Kernel(base, style="numpy", releases_gil=False)


def _python(base: Base) -> Kernel:
    return Kernel(base, style="python", releases_gil=False)


def _own_array_for_each_thread() -> Kernel:
    before = """
    if getattr(_OWN, "values", None) is None or len(_OWN.values) < steps + 2:
        _OWN.values = np.empty(steps + 2)
    """
    return Kernel(PUT_TREE, header="_OWN = threading.local()", before=before,
                  given={"values": "_OWN.values"})  # fmt: skip


def _table_under_a_lock() -> Kernel:
    before = """
    with _LOCK:
        shares = _TABLES.get((degree, scale))
        if shares is None:
            if len(_TABLES) > 50:
                _TABLES.clear()
            shares = _TABLES[degree, scale] = np.array([scale / (k + 1) for k in range(degree + 1)])
    """
    body = POLYNOMIAL.body.replace("scale / (k + 1)", "shares[k]")
    base = replace(POLYNOMIAL, parameters="degree int 0 60 =12; scale float 0.5 2 =1.25")
    return Kernel(base, header="_LOCK = threading.Lock()\n_TABLES = {}", body=body,
                  before=before, given={"shares": "shares"})  # fmt: skip


def _known_in_the_batch() -> Kernel:
    whole = """
    def batch(start_in, limit, steps_out, peak_out):
        known = {}
        for i, start in enumerate(start_in.tolist()):
            if start not in known:
                known[start] = collatz.function(start, limit)
            steps_out[i], peak_out[i] = known[start]
    """
    return Kernel(COLLATZ, whole=whole, releases_gil=False)


def _sorted_and_put_back() -> Kernel:
    return Kernel(NEWTON_ROOT, start="order = np.argsort(a_in)", order="order")


def _universal_function() -> Kernel:
    whole = """
    @vectorize(["float64(float64, float64, float64, float64, boolean)"])
    def scaled(x, gain, low, high, invert):
        y = min(max(x * gain, low), high)
        return -y if invert else y


    @vectorize(["boolean(float64, float64, float64, float64)"])
    def outside(x, gain, low, high):
        return x * gain < low or x * gain > high


    def batch(x_in, gain_in, low, high, invert, y_out, clipped_out):
        scaled(x_in, gain_in, low, high, invert, y_out)
        outside(x_in, gain_in, low, high, clipped_out)
    """
    return Kernel(CLIP_SCALE, header="from numba import vectorize", whole=whole, releases_gil=False)


def _changed_copies() -> Kernel:
    before = "a, b = a_in.copy(), b_in.copy()"
    after = "a[:] = 0\nb.sort()"
    return Kernel(COMMON_DIVISOR, before=before, after=after, given={"a_in": "a", "b_in": "b"})


def _sums_in_the_outputs() -> Kernel:
    body = EMA.body.replace("level", "level_out[i]").replace("crossings", "crossings_out[i]")
    stores = {"level": "pass", "crossings": "pass"}
    return Kernel(EMA, body=body, stores=stores)


def _blocks() -> Kernel:
    whole = """
    @njit(nogil=True)
    def part(cents_in, quantity_in, discount_in, tax, half, total_out, tax_out, first, last):
        for i in range(first, last):
            total = cents_in[i] * quantity_in[i]
            if discount_in[i]:
                total = total - total // 50
            total_out[i] = total
            tax_out[i] = (total * tax + half) // 1000


    def batch(cents_in, quantity_in, discount_in, tax, rounding, total_out, tax_cents_out):
        half = 500 if rounding == "half" else 0
        for first in range(0, len(cents_in), 4096):
            last = min(first + 4096, len(cents_in))
            part(cents_in, quantity_in, discount_in, tax, half, total_out, tax_cents_out,
                 first, last)
    """
    return Kernel(INVOICE, whole=whole)


def _rows_of_scratch() -> Kernel:
    return Kernel(
        WARPING,
        start="own = np.empty(13)",
        body=WARPING.body.replace("row[", "own["),
    )


@cache
def correct_kernels() -> tuple[Correct, ...]:
    """Return all modules, the same in every call."""
    reordered = replace(NORMS, outputs="manhattan float ulp=16; euclid float ulp=16; "
                        "largest float; place int8")  # fmt: skip
    slow = replace(PENDULUM, parameters="steps int 1 20000 =4000")
    made = {
        "an array for each thread": _own_array_for_each_thread(),
        "an own function for an item": Kernel(HAVERSINE, style="helper"),
        "whole columns, round by round": _numpy(LOGISTIC_MAP),
        "tables of parameters under a lock": _table_under_a_lock(),
        "native code by its address": Kernel(SIMPSON, style="c"),
        "whole columns with conditions": _numpy(TRIANGLE),
        "very fast": Kernel(CLIP_SCALE),
        "sorted, and put back": _sorted_and_put_back(),
        "signs of zero": Kernel(PHASE, options="nogil=True, error_model='numpy'"),
        "declared distance, in numpy": _numpy(DAMPED),
        "native code that depends on the items": Kernel(ESCAPE_TIME, style="c"),
        "choices, narrow types and a sampler": Kernel(COMPOUND),
        "slow": Kernel(slow),
        "NaN and infinity": _numpy(AFFINE),
        "equal items computed once": _known_in_the_batch(),
        "changes copies of its inputs": _changed_copies(),
        "rounding down in numpy": _numpy(CALENDAR),
        "plain Python": _python(CLASSIFY),
        "remainders in numpy": _numpy(RANDOM_WALK),
        "blocks with a rest": _blocks(),
        "native code on large integers": Kernel(DIGITS, style="c"),
        "declared distance, sums reordered": Kernel(
            reordered, options="nogil=True, fastmath={'reassoc', 'contract'}"
        ),
        "counts in scratch": Kernel(HISTOGRAM, releases_gil=False, options=""),
        "depends on a parameter by the items": Kernel(SMOOTH, style="helper"),
        "a table as scratch": Kernel(EDIT_DISTANCE),
        "native code with a table": Kernel(DETERMINANT, style="c"),
        "sums in the outputs": _sums_in_the_outputs(),
        "vectors of narrow floats, backwards": Kernel(SHARES, order="range(n - 1, -1, -1)"),
        "an own array in place of scratch": _rows_of_scratch(),
        "universal functions": _universal_function(),
    }
    return tuple(
        Correct(f"correct_{number:02d}", f"{kernel.base.name}: {words}", kernel)
        for number, (words, kernel) in enumerate(made.items(), 1)
    )
