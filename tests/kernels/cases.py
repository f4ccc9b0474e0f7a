"""Batches that break careless kernels, and inputs that every kernel must refuse."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotloop.kernels import InvalidColumnError, InvalidInputError, InvalidParameterError

Columns = dict[str, NDArray[Any]]

SMALL: Mapping[str, int] = {"cpu_iterations": 37, "outer_iterations": 5, "inner_iterations": 11}
BATCH_SIZES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257)

EDGE_VALUES = (
    0.0,
    -0.0,
    5e-324,
    2.2250738585072014e-308,
    2.0**-60,
    float(np.nextafter(1.0, 0.0)),
    1.0,
    float(np.pi / 4),
    float(np.pi / 2),
    float(np.pi),
    355.0,  # closer to a multiple of pi than any smaller integer
    999_999.0,
    float(np.nextafter(1e6, 0.0)),
    1e6,
)
WIDTHS = (7, 8, 15, 16, 30)
EDGE_OFFSETS = (
    *(offset for width in WIDTHS for offset in (2**width - 1, 2**width)),
    *(0, 1, 999, 1000, 1001, 2**31 - 1),
)


@dataclass(frozen=True)
class Case:
    """A batch that every kernel accepts."""

    name: str
    columns: Columns
    parameters: Mapping[str, Any] = field(default_factory=lambda: SMALL)


def columns_of(values: object, offsets: object) -> Columns:
    return {
        "value": np.array(values, dtype=np.float64),
        "offset": np.array(offsets, dtype=np.int64),
    }


def mixed_columns(size: int, seed: int = 1) -> Columns:
    """Return fractional values over the whole range; the seed fixes them."""
    random = np.random.default_rng(seed)
    return {
        "value": random.uniform(0.0, 1e6, size),
        "offset": random.integers(0, 2**31, size, dtype=np.int64),
    }


def edge_columns() -> Columns:
    size = max(len(EDGE_VALUES), len(EDGE_OFFSETS))
    return {
        "value": np.resize(np.array(EDGE_VALUES), size),
        "offset": np.resize(np.array(EDGE_OFFSETS, dtype=np.int64), size),
    }


def misaligned(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy that starts one byte past an aligned address."""
    memory = np.zeros(array.nbytes + 1, dtype=np.uint8)
    copy = memory[1:].view(array.dtype)
    copy[...] = array
    return copy


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def every_third(array: NDArray[Any]) -> NDArray[Any]:
    wide = np.zeros(3 * len(array), dtype=array.dtype)
    wide[::3] = array
    return wide[::3]


def backwards(array: NDArray[Any]) -> NDArray[Any]:
    return array[::-1].copy()[::-1]


def broadcast(array: NDArray[Any]) -> NDArray[Any]:
    return np.broadcast_to(array[:1], array.shape)


def record_field(array: NDArray[Any]) -> NDArray[Any]:
    records = np.zeros(len(array), dtype=[("flag", "i1"), ("field", array.dtype)])
    records["field"] = array
    return np.asarray(records["field"])


def with_metadata(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.dtype(array.dtype, metadata={"unit": "radian"}))


def other_type_code(array: NDArray[Any]) -> NDArray[Any]:
    """Return the same numbers under the dtype that is equal and has another code, if there is."""
    return array.view(np.longlong) if array.dtype == np.dtype(np.int64) else array


LAYOUTS: tuple[Callable[[NDArray[Any]], NDArray[Any]], ...] = (
    misaligned,
    read_only,
    every_third,
    backwards,
    broadcast,
    record_field,
    with_metadata,
    other_type_code,
)


@cache
def accepted() -> tuple[Case, ...]:
    """Return batches that every kernel must accept and agree on."""
    cases = [Case("empty", columns_of([], []))]
    cases += [Case(f"batch of {size}", mixed_columns(size)) for size in BATCH_SIZES]
    cases += [
        Case(f"layout {layout.__name__}", {k: layout(v) for k, v in mixed_columns(9).items()})
        for layout in LAYOUTS
    ]
    cases.append(Case("edges of every width", edge_columns()))
    cases.append(Case("edges, one iteration", edge_columns(), dict.fromkeys(SMALL, 1)))
    cases.append(Case("no iterations", edge_columns(), dict.fromkeys(SMALL, 0)))
    cases.append(Case("no inner iterations", mixed_columns(3), {**SMALL, "inner_iterations": 0}))
    cases.append(Case("no outer iterations", mixed_columns(3), {**SMALL, "outer_iterations": 0}))
    cases.append(
        Case(
            "largest products",
            columns_of([1e6], [2**31 - 1]),
            {"cpu_iterations": 0, "outer_iterations": 100_000, "inner_iterations": 2},
        )
    )
    cases.append(Case("defaults", columns_of([0.0], [0]), {}))
    cases.append(
        Case("numpy integers", mixed_columns(2), {k: np.uint16(v) for k, v in SMALL.items()})
    )
    return tuple(cases)


@dataclass(frozen=True)
class Refusal:
    """An input that every kernel refuses, with the error and the field it names."""

    name: str
    error: type[InvalidInputError]
    field: str
    columns: Any
    parameters: Any = None
    says: str = ""


def _column(name: str, **changes: Any) -> Columns:
    return {**columns_of([1.0, 2.0, 3.0], [1, 2, 3]), name: changes["to"]}


@cache
def refused_columns() -> tuple[Refusal, ...]:
    good = columns_of([1.0, 2.0, 3.0], [1, 2, 3])
    bad: list[tuple[str, str, Any, str]] = [
        ("missing value", "value", {"offset": good["offset"]}, "column 'value' is missing"),
        ("missing offset", "offset", {"value": good["value"]}, "column 'offset' is missing"),
        ("unknown", "wheel", {**good, "wheel": good["value"]}, "unknown column 'wheel'"),
        ("no mapping", "columns", [good["value"]], "must be a mapping"),
        ("None", "columns", None, "must be a mapping"),
        ("list", "value", _column("value", to=[1.0, 2.0, 3.0]), "numpy array, not list"),
        ("scalar", "value", _column("value", to=1.0), "numpy array, not float"),
        ("masked", "value", _column("value", to=np.ma.zeros(3)), "not MaskedArray"),
        ("float32", "value", _column("value", to=np.zeros(3, "f4")), "must be float64"),
        ("integers", "value", _column("value", to=np.zeros(3, "i8")), "must be float64"),
        ("objects", "value", _column("value", to=np.zeros(3, "O")), "must be float64"),
        ("complex", "value", _column("value", to=np.zeros(3, "c16")), "must be float64"),
        ("int32", "offset", _column("offset", to=np.zeros(3, "i4")), "must be int64"),
        ("uint64", "offset", _column("offset", to=np.zeros(3, "u8")), "must be int64"),
        ("bool", "offset", _column("offset", to=np.zeros(3, "?")), "must be int64"),
        ("floats", "offset", _column("offset", to=np.zeros(3)), "must be int64"),
        ("dates", "offset", _column("offset", to=np.zeros(3, "M8[s]")), "must be int64"),
        ("0-D", "value", _column("value", to=np.array(1.0)), "1 dimension, not 0"),
        ("2-D", "value", _column("value", to=np.zeros((3, 1))), "1 dimension, not 2"),
        ("shorter", "offset", _column("offset", to=np.zeros(2, "i8")), "has 2 values"),
        ("empty", "offset", _column("offset", to=np.zeros(0, "i8")), "has 0 values"),
    ]
    swapped = {name: array.astype(array.dtype.newbyteorder()) for name, array in good.items()}
    bad += [
        (f"byte-swapped {name}", name, _column(name, to=array), "native byte order")
        for name, array in swapped.items()
    ]
    signalling_nan = np.array([0x7FF0000000000001], dtype=np.uint64).view(np.float64)[0]
    bad += [
        (f"value {number}", "value", _column("value", to=np.array([0.0, 1.0, number])), "index 2")
        for number in (
            np.nan,
            -np.nan,
            signalling_nan,
            np.inf,
            -np.inf,
            np.nextafter(0.0, -1.0),
            np.nextafter(1e6, 2e6),
            1.7e308,
        )
    ]
    bad += [
        (f"offset {number}", "offset", _column("offset", to=np.array([0, number, 1])), "index 1")
        for number in (-1, 2**31, 2**32, 2**63 - 1, -(2**63))
    ]
    return tuple(
        Refusal(name, InvalidColumnError, field, columns, None, says)
        for name, field, columns, says in bad
    )


@cache
def refused_parameters() -> tuple[Refusal, ...]:
    bad: list[tuple[str, str, Any, str]] = [
        ("unknown", "cpu_iteration", {"cpu_iteration": 1}, "unknown parameter 'cpu_iteration'"),
        ("not a name", "1", {1: 1}, "unknown parameter 1"),
        ("no mapping", "parameters", [1], "must be a mapping"),
        ("product", "outer_iterations", {"outer_iterations": 100_000, "inner_iterations": 10_001},
         "outer_iterations * inner_iterations must be at most 1000000000, not 1000100000"),
    ]  # fmt: skip
    for name, maximum in (
        ("cpu_iterations", 10_000_000),
        ("outer_iterations", 100_000),
        ("inner_iterations", 100_000),
    ):
        bad += [
            (f"{name}={value!r}", name, {name: value}, f"must be an integer from 0 to {maximum}")
            for value in (True, np.True_, 1.0, np.float64(1.0), "1", None, 1j, [1])
        ]
        bad += [
            (f"{name}={value!r}", name, {name: value}, f"must be from 0 to {maximum}, not {value}")
            for value in (-1, maximum + 1, 2**63, 2**64, np.int8(-1), np.uint64(2**64 - 1))
        ]
        bad.append((f"{name} huge", name, {name: 1 << 20_000}, "not an integer of 20001 bits"))
    good = columns_of([1.0], [1])
    return tuple(
        Refusal(name, InvalidParameterError, field, good, parameters, says)
        for name, field, parameters, says in bad
    )


def refused() -> tuple[Refusal, ...]:
    """Return inputs that every kernel must refuse, in the same words."""
    return refused_columns() + refused_parameters()
