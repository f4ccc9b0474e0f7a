"""`hotloop.workload`: a function becomes a workload, whose kernels are derived or added to it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import update_wrapper
from pathlib import Path
from typing import (
    Any,
    Final,
    Generic,
    ParamSpec,
    TypeVar,
    cast,
    overload,
)

import numpy as np
from numpy.typing import NDArray

from hotloop.kernels.column import Column
from hotloop.kernels.contract import REFERENCE, Implementation, Workload, WorkloadSource
from hotloop.kernels.errors import (
    InvalidColumnError,
    KernelUnavailableError,
    UnknownKernelError,
    WorkloadError,
)
from hotloop.kernels.functions.columns import (
    Bool,
    FileSample,
    Float,
    Integer,
    Kind,
    Scratch,
)
from hotloop.kernels.functions.derive import NumbaKernel, one_line, python_batch
from hotloop.kernels.functions.signature import checked_function, declared
from hotloop.kernels.functions.versions import code_version, source_files
from hotloop.kernels.kernel import Kernel, empty_columns

__all__ = ["WorkloadFunction", "workload"]

P = ParamSpec("P")
R = TypeVar("R")

Batch = Callable[..., None]

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_DERIVED: Final = "numba"
_EXAMPLES: Final = 2
_TRIED_ITEMS: Final = 8
"""Items of the calls that find the fastest kernel."""


@overload
def workload(function: Callable[P, R], /) -> WorkloadFunction[P, R]: ...
@overload
def workload(
    *,
    name: str | None = None,
    description: str | None = None,
    columns: Mapping[str, Float | Integer | Bool] | None = None,
    parameters: Mapping[str, Kind] | None = None,
    outputs: Mapping[str, Float | Integer | Bool] | None = None,
    scratch: Mapping[str, Scratch] | None = None,
    cost: Mapping[str, str] | str | None = None,
) -> Callable[[Callable[P, R]], WorkloadFunction[P, R]]: ...
def workload(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a workload of a function that computes one item.

    The function's arguments are, by their names, `columns` with a value for each item, `parameters`
    that hold for a whole batch, and `scratch` arrays. Where `columns` or `parameters` is left out,
    arguments without a default value are columns and those with one are parameters, of the type of
    their annotation. The function returns a number, or a tuple in the order of `outputs`; without
    `outputs` it is called `result`, of the type of the return annotation.

    `cost` maps names to expressions of parameters: an item costs as many operations of each kind.
    "data" says that the items decide. Without it an item always costs the same, or, if there are
    integer parameters, is measured with the parameters of each request.

    Raises `WorkloadError` for what cannot be a workload, and says what to do.
    """
    if function is None:
        return lambda function: WorkloadFunction(function, **options)
    return WorkloadFunction(function, **options)


class WorkloadFunction(Generic[P, R]):
    """A function that is a workload. It is still called as the plain function.

    `function` is the plain function, `name` the workload's name.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        columns: Mapping[str, Kind] | None = None,
        parameters: Mapping[str, Kind] | None = None,
        outputs: Mapping[str, Kind] | None = None,
        scratch: Mapping[str, Scratch] | None = None,
        cost: Mapping[str, str] | str | None = None,
    ) -> None:
        self.function = checked_function(function)
        self.name = self.function.__name__ if name is None else name
        if not _NAME.fullmatch(self.name):
            raise WorkloadError(
                f"a workload cannot be called {self.name!r}; give a `name` of small letters, "
                "digits, _ and -, at most 64, that begins with a letter"
            )
        self._declared: Workload = declared(
            self.function, self.name, description, columns, parameters, outputs, scratch, cost
        )
        self._targets: dict[str, tuple[Batch | str, bool]] = {}
        self._place: tuple[str | None, str | None] = None, None
        self._declaration: Workload | None = None
        self._kernels: dict[str, Kernel | str] = {}
        self._fastest: str | None = None
        self._lock = threading.RLock()
        update_wrapper(self, self.function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the plain function."""
        return cast("R", self.function(*args, **kwargs))

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call of the function by name. Raises TypeError, as the call
        would, for too many and for one that is given twice.
        """
        code = self.function.__code__
        names = code.co_varnames[: code.co_argcount]
        if len(args) > len(names):
            raise TypeError(f"{self.name} takes {len(names)} arguments, not {len(args)}")
        given = dict(zip(names, args, strict=False))
        if twice := given.keys() & kwargs.keys():
            raise TypeError(f"{self.name} got {', '.join(sorted(twice))} twice")
        return given | dict(kwargs)

    def __repr__(self) -> str:
        return (
            f"<hotloop.workload {self.name}: {self.function.__module__}.{self.function.__name__}>"
        )

    def kernel(
        self, name: str, target: Batch | str | None = None, *, releases_gil: bool = True
    ) -> Any:
        """Add a batch kernel, or replace a derived one; without `target`, decorate it.

        `target` is called as `target(*input columns, *parameters, *output columns, *scratch)`, in
        declared order, once for a batch; it fills the outputs and allocates nothing. Input arrays
        are read-only. A text names it as `module:attribute`, imported when first needed. It must
        give an item the same bits whatever else is in the batch.

        Returns this workload, or the decorated function. Raises `WorkloadError`.
        """
        if target is None:

            def add(function: Batch) -> Batch:
                self.kernel(name, function, releases_gil=releases_gil)
                return function

            return add
        if not _NAME.fullmatch(name) or name in (REFERENCE, "auto"):
            raise WorkloadError(
                f"a kernel cannot be called {name!r}; choose small letters, digits, _ and -, but "
                f"not {REFERENCE!r}, which is the function itself"
            )
        if isinstance(target, str) and not re.fullmatch(r"[\w.]+:[\w.]+", target):
            raise WorkloadError(
                f"kernel {name!r} must be named as module:attribute, not {target!r}"
            )
        if not isinstance(target, str) and not callable(target):
            raise WorkloadError(f"kernel {name!r} must be a function or a text, not {target!r}")
        with self._lock:
            self._targets[name] = target, releases_gil
            self._declaration = None
            self._kernels.clear()
        return self

    @property
    def declaration(self) -> Workload:
        """The declaration as data, with the version of the code as it was imported."""
        with self._lock:
            if self._declaration is None:
                self._declaration = self._made_declaration()
            return self._declaration

    @property
    def files(self) -> tuple[str, ...]:
        """The files of the user's code that the workload reaches, as absolute paths."""
        return source_files(self._parts())

    def locate(self, folder: str | None, file: str | None) -> None:
        """Note where other processes find the module: a folder to import from, or its file."""
        with self._lock:
            self._place = folder, file
            self._declaration = None
            self._kernels.clear()

    def kernel_names(self) -> tuple[str, ...]:
        """Return the names of the kernels, the reference first."""
        return tuple(each.kernel for each in self.declaration.kernels)

    def load_kernel(self, name: str) -> Kernel | str:
        """Return a kernel, or the reason in one line why it cannot be had. Compiles nothing."""
        with self._lock:
            if name not in self._kernels:
                try:
                    self._kernels[name] = self._loaded(name)
                except Exception as error:  # whatever a user's module raises
                    self._kernels[name] = one_line(error)
            return self._kernels[name]

    def run(
        self,
        columns: Mapping[str, Any],
        parameters: Mapping[str, object] | None = None,
        *,
        kernel: str = "auto",
    ) -> dict[str, NDArray[Any]]:
        """Compute a batch in this process, and return each output as an array of shape (n,).

        `columns` holds arrays or sequences of shape (n,), or (n, width), that are converted to the
        declared dtypes if no value changes. `auto` takes the fastest kernel, by a trial.

        Raises `InvalidColumnError`, `InvalidParameterError`, `UnknownKernelError`,
        `KernelUnavailableError`, and whatever the function raises.
        """
        chosen = self._get(self._found_fastest() if kernel == "auto" else kernel)
        arrays = {
            column.name: converted(column, columns[column.name])
            for column in self.declaration.columns_in
            if column.name in columns
        }
        return chosen.run({**columns, **arrays}, parameters)

    def explain(
        self, columns: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any], row: int
    ) -> str | None:
        """Return in one line what the plain function raises for the item at `row`, if it does."""
        one = {name: values[row : row + 1] for name, values in columns.items()}
        try:
            self._get(REFERENCE).run(one, parameters)
        except BaseException as error:  # whatever the function raises, SystemExit among it
            return one_line(error)
        return None

    def _get(self, name: str) -> Kernel:
        if name not in self.kernel_names():
            raise UnknownKernelError(name, self.kernel_names())
        found = self.load_kernel(name)
        if isinstance(found, str):
            raise KernelUnavailableError(name, found)
        return found

    def _found_fastest(self) -> str:
        if self._fastest is None:
            items = self.declaration.simulated_columns(np.arange(_TRIED_ITEMS, dtype=np.int64))
            seconds: dict[str, float] = {}
            for name in self.kernel_names():
                try:
                    kernel = self._get(name)
                    kernel.warm_up()
                    taken = []
                    for _ in range(2):
                        started = time.perf_counter()
                        kernel.run(items)
                        taken.append(time.perf_counter() - started)
                    seconds[name] = min(taken)
                except Exception:  # a kernel that fails is not the fastest
                    continue
            self._fastest = min(seconds, key=lambda name: seconds[name], default=REFERENCE)
        return self._fastest

    def _loaded(self, name: str) -> Kernel:
        declaration = self.declaration
        (found,) = (each for each in declaration.kernels if each.kernel == name)
        batch: Batch
        if name in self._targets:
            target = self._targets[name][0]
            batch = _imported(target) if isinstance(target, str) else target
            warm_up = _once(lambda: self._try_one(batch))
        elif name == REFERENCE:
            batch, warm_up = python_batch(self.function, declaration), _nothing
        else:
            derived = NumbaKernel(self.function, declaration)
            batch, warm_up = derived, derived.warm_up
        return Kernel(
            name=name,
            workload=declaration,
            releases_gil=found.releases_gil,
            instruction_set=None,
            _functions=(batch,),
            _warm_up=warm_up,
        )

    def _try_one(self, batch: Batch) -> None:
        """Call a batch kernel for no item, so that one that compiles itself has done so."""
        declaration = self.declaration
        once = Kernel(
            name="",
            workload=declaration,
            releases_gil=False,
            instruction_set=None,
            _functions=(batch,),
            _warm_up=_nothing,
        )
        once.run(empty_columns(declaration.columns_in), declaration.idle_parameters)

    def _parts(self) -> list[Callable[..., Any] | str | Path]:
        samplers = [
            c.sampler.path if isinstance(c.sampler, FileSample) else c.sampler
            for c in self._declared.columns_in
            if c.sampler is not None
        ]
        return [self.function, *samplers, *(target for target, _ in self._targets.values())]

    def _made_declaration(self) -> Workload:
        added = (
            Implementation(name, target if isinstance(target, str) else _place_of(target), gil)
            for name, (target, gil) in self._targets.items()
        )
        kernels = {
            each.kernel: each
            for each in (
                Implementation(REFERENCE, "the function itself", releases_gil=False),
                Implementation(_DERIVED, "derived from the function"),
                *added,
            )
        }
        made = replace(
            self._declared,
            kernels=tuple(kernels.values()),
            columns_in=_with_examples(self._declared),
        )
        folder, file = self._place
        source = WorkloadSource(
            module=self.function.__module__,
            attribute=self.function.__name__,
            version=code_version(self._parts(), repr(_without_words(made))),
            folder=folder,
            file=file,
        )
        return replace(made, source=source)


def _with_examples(declared: Workload) -> tuple[Column, ...]:
    """Return the input columns with examples: the first made-up values, as short numbers."""
    try:
        made = declared.simulated_columns(np.arange(_EXAMPLES, dtype=np.int64))
    except InvalidColumnError:  # a sampler that fails says so when items are needed
        return declared.columns_in
    return tuple(
        replace(each, examples=_examples(each, made[each.name].flat[:_EXAMPLES].tolist()))
        for each in declared.columns_in
    )


def _examples(column: Column, values: list[Any]) -> tuple[Any, ...]:
    """Return the values that a client could send, floats with few digits."""
    least, greatest = column.limits
    fitting = [value for value in values if least <= value <= greatest]  # NaN is not
    if column.is_bool or column.is_integer:
        return tuple(fitting)
    return tuple(min(max(float(f"{value:.3g}"), least), greatest) for value in fitting)


def _without_words(declared: Workload) -> Workload:
    """Return a declaration without descriptions and examples, which change no result."""
    columns_in = tuple(replace(each, description="", examples=()) for each in declared.columns_in)
    columns_out = tuple(replace(each, description="") for each in declared.columns_out)
    parameters = tuple(replace(each, description="") for each in declared.parameters)
    return replace(
        declared,
        description="",
        columns_in=columns_in,
        columns_out=columns_out,
        parameters=parameters,
    )


def converted(column: Column, values: Any) -> Any:
    """Return values as an array of the column's dtype if none changes, otherwise unchanged."""
    given = np.asarray(values)
    if given.dtype == np.dtype(column.dtype) or given.dtype.kind not in "biuf":
        return given
    converted = given.astype(column.dtype)
    return (
        converted if np.array_equal(converted, given, equal_nan=given.dtype.kind == "f") else given
    )


def _imported(target: str) -> Batch:
    from importlib import import_module

    module, _, attribute = target.partition(":")
    found: Any = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise WorkloadError(f"{target} cannot be called")
    return cast("Batch", found)


def _place_of(target: Batch) -> str:
    name = getattr(target, "__qualname__", type(target).__qualname__)
    return f"{getattr(target, '__module__', None) or type(target).__module__}:{name}"


def _once(action: Callable[[], None]) -> Callable[[], None]:
    """Return a function that does something once, while other threads wait."""
    lock, is_done = threading.Lock(), False

    def done() -> None:
        nonlocal is_done
        if not is_done:
            with lock:
                if not is_done:
                    action()
                    is_done = True

    return done


def _nothing() -> None:
    """Do nothing."""
