"""Any arrays and parameters for the kernels: the same answer of all, or the same refusal."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Final

import atheris
import numpy as np
from numpy.typing import NDArray

from hotloop.kernels import available_kernels, get_kernel, get_workload
from hotloop.kernels.errors import InvalidInputError
from hotloop.kernels.kernel import Kernel

WORKLOAD: Final = "loops"
MOST_ITEMS: Final = 40
MOST_TURNS: Final = 30
"""The most iterations per parameter, so that an input takes no time."""
_DTYPES: Final = ("float64", "int64", "int32", "float32", ">f8", ">i8", "bool", "object", "U3")
_OTHERS: Final[tuple[object, ...]] = (None, True, 1.5, "7", -1, 10**400, 2**63, [], float("nan"))


def run_kernels(data: bytes, folder: Path) -> None:
    """`folder` is not used."""
    provider = atheris.FuzzedDataProvider(data)
    columns, parameters = _columns(provider), _parameters(provider)
    before = {name: column.tobytes() for name, column in _arrays(columns)}
    outcomes = [_outcome(get_kernel(WORKLOAD, name), columns, parameters) for name in _names()]
    assert {name: column.tobytes() for name, column in _arrays(columns)} == before
    refusals = {outcome for outcome in outcomes if isinstance(outcome, str)}
    if refusals:
        assert len(refusals) == 1, refusals
        assert all(isinstance(outcome, str) for outcome in outcomes), outcomes
        return
    results = dict(zip(_names(), outcomes, strict=True))
    for name, result in results.items():
        assert isinstance(result, dict)
        assert np.array_equal(result["nested"], results["python"]["nested"]), name  # type: ignore[index]
        assert np.isfinite(result["loop"]).all(), name
    if {"cython", "numba"} <= set(results):
        cython, numba = results["cython"], results["numba"]
        assert cython["loop"].tobytes() == numba["loop"].tobytes()  # type: ignore[index, union-attr]


def _names() -> list[str]:
    return [str(name) for name in available_kernels(WORKLOAD)]


def _outcome(kernel: Kernel, columns: Any, parameters: Any) -> dict[str, NDArray[Any]] | str:
    """The results, or the refusal in words; any other error goes on."""
    try:
        return kernel.run(columns, parameters)
    except InvalidInputError as error:
        return f"{type(error).__name__} {error}"


def _arrays(columns: Any) -> list[tuple[str, NDArray[Any]]]:
    if not isinstance(columns, dict):
        return []
    return [(name, c) for name, c in columns.items() if isinstance(c, np.ndarray)]


def _columns(provider: Any) -> Any:
    if provider.ConsumeIntInRange(0, 50) == 0:
        return _OTHERS[provider.ConsumeIntInRange(0, len(_OTHERS) - 1)]
    count = provider.ConsumeIntInRange(0, MOST_ITEMS)
    columns = {c.name: _column(provider, c, count) for c in get_workload(WORKLOAD).columns_in}
    match provider.ConsumeIntInRange(0, 20):
        case 0:
            columns[provider.ConsumeUnicode(5)] = next(iter(columns.values()))
        case 1:
            columns.pop(next(iter(columns)))
        case _:
            pass
    return columns


def _column(provider: Any, declared: Any, count: int) -> Any:
    if provider.ConsumeIntInRange(0, 30) == 0:
        return _OTHERS[provider.ConsumeIntInRange(0, len(_OTHERS) - 1)]
    values = [_value(provider, declared) for _ in range(count)]
    try:
        array = np.array(values, dtype=declared.dtype)
    except (OverflowError, ValueError):  # numpy: the dtype cannot hold the number
        array = np.zeros(count, dtype=declared.dtype)
    match provider.ConsumeIntInRange(0, 12):
        case 0:
            kind = _DTYPES[provider.ConsumeIntInRange(0, len(_DTYPES) - 1)]
            with np.errstate(all="ignore"):
                return array.astype(kind)
        case 1:
            return array[::-1]
        case 2:
            return np.repeat(array, 3)[::3]
        case 3:
            array.flags.writeable = False
        case 4:
            return array.reshape(-1, 1)
        case 5:
            return array[:-1]
        case 6:  # misaligned
            raw = np.empty(array.nbytes + 1, dtype=np.uint8)
            raw[1:] = np.frombuffer(array.tobytes(), dtype=np.uint8)
            return raw[1:].view(array.dtype)
        case 7:
            return np.ma.masked_array(array)
        case _:
            pass
    return array


def _value(provider: Any, declared: Any) -> float:
    if provider.ConsumeIntInRange(0, 40) == 0:  # any bits
        raw = provider.ConsumeBytes(8).ljust(8, b"\0")
        kind = "<d" if declared.dtype == "float64" else "<q"
        return (
            float(struct.unpack(kind, raw)[0]) if kind == "<d" else int(struct.unpack(kind, raw)[0])
        )
    share = provider.ConsumeIntInRange(0, 2**31 - 1) / (2**31 - 1)
    value = declared.minimum + share * (declared.maximum - declared.minimum)
    return float(value) if declared.dtype == "float64" else int(value)


def _parameters(provider: Any) -> Any:
    if provider.ConsumeIntInRange(0, 50) == 0:
        return _OTHERS[provider.ConsumeIntInRange(0, len(_OTHERS) - 1)]
    given: dict[str, object] = {
        parameter.name: provider.ConsumeIntInRange(0, MOST_TURNS)
        for parameter in get_workload(WORKLOAD).parameters
    }
    names = list(given)
    match provider.ConsumeIntInRange(0, 10):
        case 0:
            given[names[provider.ConsumeIntInRange(0, len(names) - 1)]] = _OTHERS[
                provider.ConsumeIntInRange(0, len(_OTHERS) - 1)
            ]
        case 1:
            given[provider.ConsumeUnicode(8)] = 1
        case 2:
            given |= dict.fromkeys(names, 2**31)
        case 3:
            given = dict.fromkeys(names, np.int64(7))
        case _:
            pass
    return given
